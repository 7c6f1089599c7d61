"""The context of the work in hand: who, until when, how urgent, and which trace.

It is set once per request, job run, event delivery or schedule tick, read anywhere with :func:`current`,
and travels over calls, messages and HTTP by :meth:`Context.to_wire` and :meth:`Context.from_wire`.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Callable
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any

import msgspec

from tenfold._core.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Generator


class Priority(enum.IntEnum):
    """How much it matters under overload; lower runs first and is shed last."""

    CRITICAL = 0
    DEFAULT = 1
    SHEDDABLE = 2
    BACKGROUND = 3


class Context(msgspec.Struct, eq=False, kw_only=True):
    """What is known about the work in hand. Cheap to make: one per request on the hot path.

    A Struct because its constructor is C: a class of ours would cost a Python call per request.
    """

    request_id: str = ""
    trace_id: str = ""
    span_id: str = ""
    tracestate: str = ""
    """The caller's ``tracestate`` header as it came; cleaned only when a call passes it on."""
    sampled: bool = False
    deadline: float | None = None
    """Monotonic time at which the work is worthless, or None."""
    monotonic: Callable[[], float] = time.monotonic
    """The clock of that time: another one than the machine's in tests."""
    principal: Any = None
    tenant: str | None = None
    priority: Priority = Priority.DEFAULT
    own: bool = False
    """The framework's own short work, on which requests and jobs depend: it has connections in reserve."""
    causal: str = ""
    retried: bool = False
    """Whoever asked for this work asks again by itself when it fails: calls out of it are not tried again here, too."""
    service: str = ""
    operation: str = ""
    in_line: int = 0
    """How often this work has stood in line for a connection of a database."""
    state: dict[str, Any] | None = None
    """Framework parts keep what lives as long as this work here (open transactions, for one)."""
    statements: dict[Any, int] | None = None
    """How often each statement has run, where somebody watches: by itself, since it is counted for each of them."""

    def child(self, **changes: Any) -> Context:
        """A copy with some fields changed; ``state`` and ``statements`` are not carried over."""
        return msgspec.structs.replace(self, **{"state": None, "statements": None, **changes})

    def remaining(self, clock: Clock) -> float | None:
        """Seconds until the deadline (negative when it has passed), or None without one."""
        return None if self.deadline is None else self.deadline - clock.monotonic()

    def to_wire(self) -> dict[str, Any]:
        """What travels in a message row: everything but the deadline, which a queue does not inherit."""
        wire: dict[str, Any] = {}  # member by member, since every message asks for it
        if self.request_id:
            wire["request_id"] = self.request_id
        if self.trace_id:
            wire["trace_id"] = self.trace_id
        if self.span_id:
            wire["span_id"] = self.span_id
        if self.tracestate:
            wire["tracestate"] = self.tracestate
        if self.tenant:
            wire["tenant"] = self.tenant
        if self.causal:
            wire["causal"] = self.causal
        if self.sampled:
            wire["sampled"] = True
        return wire

    @classmethod
    def from_wire(cls, wire: dict[str, Any]) -> Context:
        """The context of who sent the message; unknown members (of a newer version) are ignored."""
        known = {k: v for k, v in wire.items() if k in _WIRE_FIELDS}
        return cls(**known)


_WIRE_FIELDS = frozenset({"request_id", "trace_id", "span_id", "tracestate", "tenant", "causal", "sampled"})

_current: ContextVar[Context | None] = ContextVar("tenfold_context", default=None)


def current() -> Context:
    """The context of the work in hand; an empty one outside of any work."""
    context = _current.get()
    if context is None:
        context = Context()
        _current.set(context)
    return context


peek: Callable[[], Context | None] = _current.get
"""The same where there may be none, for hot paths: a C call only."""

enter: Callable[[Context], Token[Context | None]] = _current.set
"""Make a context current for the rest of this task (and the tasks it starts), or until :data:`leave`.

For entries that own their task, such as one request: nothing to reset, and a C call only.
"""

leave: Callable[[Token[Context | None]], None] = _current.reset
"""Give back what :data:`enter` has replaced: ``leave(token)``. :func:`use` where speed does not matter."""


@contextmanager
def owned() -> Generator[Context]:
    """Inside the block the work is the framework's own, with the deadline of the context as it was."""
    with use(current().child(own=True, priority=Priority.CRITICAL)) as context:
        yield context


@contextmanager
def use(context: Context) -> Generator[Context]:
    """Make ``context`` current inside the block."""
    token = _current.set(context)
    try:
        yield context
    finally:
        _current.reset(token)
