"""A handler: what a worker needs to run the messages of one job, subscription or schedule."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from tenfold._core.context import Context
from tenfold._core.threads import contained
from tenfold.db.database import Tx
from tenfold.errors import DeclarationError
from tenfold.queue.context import JobContext
from tenfold.queue.message import GROUP_WITH_RESULTS
from tenfold.queue.retry import Retry

if TYPE_CHECKING:
    from tenfold._core.container import Container, Plan
    from tenfold.db.database import Database
    from tenfold.queue.message import Kind, Message, Settlement
    from tenfold.queue.runner import Run, Runner

GIVEN: frozenset[Any] = frozenset({Tx, Context, JobContext})
"""Types that the worker hands to any handler that names them."""


class Executor(Protocol):
    """Runs a function outside this process (CPU-bound jobs)."""

    async def run(self, handler: Handler, message: Message, context: JobContext) -> str:
        """The result as JSON text; raises what the function raised."""
        ...

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


class Driver(Protocol):
    """Runs a handler in a way of its own (flows)."""

    async def __call__(
        self, runner: Runner, run: Run, kwargs: dict[str, Any], context: Context
    ) -> Settlement | None:
        """What becomes of the message; None when that is committed already (``run.recorded``)."""
        ...


@dataclass(frozen=True, slots=True)
class Handler:
    """One declaration, resolved against a container and a database."""

    name: str
    kind: Kind
    fn: Callable[..., Any]
    decode: Callable[[str], dict[str, Any]]
    """Keyword arguments from the payload; raises WrongArguments when the signature changed."""
    plan: Plan
    database: Database | None = None
    """Of the service; None when it has none (or several)."""
    retry: Retry = field(default_factory=Retry)
    timeout_s: float | None = 60.0
    concurrency: int | None = None
    cpu: bool = False
    inbox: bool = False
    """Remember handled events in the transaction of their effect."""
    result_ttl_s: float | None = None
    encode_result: Callable[[Any], str] | None = None
    transaction: Literal["none", "given", "around"] = "none"
    """``given``: it takes a Tx, which commits together with the acknowledgement; ``around``: so do the
    transactions that it opens itself."""
    drive: Driver | None = None
    """Runs it, instead of a plain call."""

    is_async: bool = field(init=False)
    simple: bool = field(init=False)
    """It needs nothing but its arguments: neither dependencies, nor a transaction, thread or process."""
    service: str = field(init=False)

    def __post_init__(self) -> None:
        is_async = inspect.iscoroutinefunction(self.fn)
        plain = self.transaction == "none" and self.drive is None
        simple = is_async and not self.plan and not self.cpu and plain
        object.__setattr__(self, "is_async", is_async)
        object.__setattr__(self, "simple", simple)
        object.__setattr__(self, "service", self.name.partition(".")[0])

    @property
    def lane(self) -> str:
        """See :mod:`tenfold.queue.policy`."""
        return self.name if self.concurrency is not None else ""

    def keeps(self, message: Message) -> bool:
        """Whether what the function returns is kept with the finished message."""
        if self.result_ttl_s is not None:
            return True
        return message.kind == "job" and (message.event_id or "").startswith(GROUP_WITH_RESULTS)

    async def call(self, kwargs: dict[str, Any], given: Mapping[Any, Any]) -> Any:
        """Run the function with its dependencies; a plain function runs in a thread, context kept."""
        if not self.plan:
            return await self._invoke(kwargs)
        async with AsyncExitStack() as stack:
            return await self._invoke(kwargs | await self.plan.resolve(given, stack))

    async def _invoke(self, kwargs: dict[str, Any]) -> Any:
        if self.is_async:
            return await self.fn(**kwargs)
        return await asyncio.to_thread(contained, self.fn, **kwargs)


def plan_for(
    container: Container,
    fn: Callable[..., Any],
    where: str,
    database: Database | None,
    given: frozenset[Any] = GIVEN,
) -> Plan:
    """The dependencies of a handler; a sentence when it wants a transaction that its service cannot give."""
    plan = container.plan(fn, given=given)
    if plan.uses(Tx) and database is None:
        raise DeclarationError(
            "it takes a Tx, but its service has no database.",
            where=where,
            remedy="Declare one with Service.database(…).",
        )
    return plan
