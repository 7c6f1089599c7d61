"""The spans of one recorded piece of work, together until it is over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from msgspec import Struct

from tenfold.telemetry.contract import Span

SPANS_MAX: Final = 500
"""Of one piece of work; what goes beyond is counted and left out."""
FAILURE: Final = "telemetry.failure"
"""Where ``Context.state`` says what a piece of work failed of, when its entry made an answer of the error."""


class Recording(Struct, eq=False):
    """Everything from the outermost span of this process on down. ``kind`` is ``request``, ``job``, ``event`` or
    ``schedule``; ``operation`` what ran."""

    trace_id: str
    operation: str
    kind: str
    spans: list[Span]
    """Finished ones, the outermost last. Not redacted yet."""
    left_out: int = 0
    failed: bool = False
    over: bool = False
    """The outermost span has ended: what ends later is lost."""

    def add(self, span: Span) -> None:
        """A span has ended."""
        if self.over or len(self.spans) >= SPANS_MAX:
            self.left_out += 1
        else:
            self.spans.append(span)

    def end(self, root: Span) -> None:
        """The outermost one has, for which there is always room."""
        self.spans.append(root)
        self.failed = bool(root.error)
        self.over = True


class Allowance(Protocol):
    """How much may be recorded."""

    mask: int
    """Work whose number has none of these bits is."""

    def take(self) -> bool:
        """Use one; False when none was left."""
        ...


class Recorder(Protocol):
    """Takes recordings, to keep what turns out to be worth it (:mod:`tenfold.telemetry.store`)."""

    @property
    def traces(self) -> Allowance: ...

    @property
    def allowances(self) -> Sequence[Allowance]:
        """All that it has, for what is decided by numbers."""
        ...

    def recording(self, recording: Recording, /) -> None:
        """One is over. Never waits, never raises."""
        ...
