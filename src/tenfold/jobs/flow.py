"""``Flow``: what a job takes to do its work in steps that are not repeated, and to wait without a worker."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, overload

from tenfold.errors import CallsFailed
from tenfold.jobs.call import Call
from tenfold.jobs.times import seconds, timestamp

if TYPE_CHECKING:
    from tenfold.events.topic import Topic
    from tenfold.jobs.steps import StepOptions, Steps
    from tenfold.jobs.waits import Waits
    from tenfold.queue.context import JobContext
    from tenfold.queue.retry import Retry

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Flow:
    """A job that takes ``flow: Flow = injected()`` is a flow: ordinary Python whose steps are recorded::

        @orders.job()
        async def fulfil(order_id: int, flow: Flow = injected()) -> str:
            payment = await flow.step("charge", charge, order_id)
            await flow.sleep(timedelta(hours=1))
            return await flow.step("ship", ship, order_id, payment)

    After a crash, a deploy, or a wait, its function is run again from the beginning, and what is recorded is answered
    at once. So what it does outside of steps must be quick, have no effect, and take the same way with the same results:
    clocks, random numbers, files, networks and databases belong into steps. Steps may run side by side
    (``asyncio.gather``, ``TaskGroup``). While a flow only waits, it holds no worker.

    The job's ``retry`` and ``timeout`` are those of each step. A step whose attempts are used up raises
    :class:`StepFailed`, which the flow may handle; unhandled, the flow is dead, and retrying it tries that step again.
    """

    __slots__ = ("_context", "_options", "_steps", "_waits")

    def __init__(self, context: JobContext, steps: Steps, waits: Waits, options: StepOptions) -> None:
        self._context = context
        self._steps = steps
        self._waits = waits
        self._options = options

    @property
    def id(self) -> int:
        """Of the flow's message: what ``job.handle(id)`` finds it by."""
        return self._context.id

    def options(
        self,
        *,
        retry: Retry | None = None,
        timeout: float | None = None,
        fatal: tuple[type[Exception], ...] | None = None,
    ) -> Flow:
        """The same flow, whose steps are run differently: ``await flow.options(timeout=5).step(…)``.

        ``timeout`` is in seconds. After an error in ``fatal`` there is no other attempt.
        """
        changes = {"retry": retry, "timeout_s": timeout, "fatal": fatal}
        options = replace(self._options, **{k: v for k, v in changes.items() if v is not None})  # type: ignore[arg-type]
        return Flow(self._context, self._steps, self._waits, options)

    @overload
    async def step(
        self, name: str, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> R: ...
    @overload
    async def step(self, name: str, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...

    async def step(self, name: str, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """What ``fn(*args, **kwargs)`` returns: run once, and recorded (as JSON, in the type that it declares).

        A function that takes ``tx: Tx`` has its effect and its record committed together: its effect happens exactly
        once. Any other may run again when its worker dies before it is recorded; ``current_job().idempotency_key`` is
        the same every time. Dependencies are injected; a plain function runs in a thread. The second use of a name is
        recorded as ``name#2``; side by side, give each a name of its own.

        Raises :class:`StepFailed` when its attempts are used up, in this and in every later run.
        """
        return await self._steps.run(self._waits.course.name(name), fn, args, kwargs, self._options)

    # ── waiting ──

    async def sleep(self, duration: timedelta | float, /, *, name: str = "sleep") -> None:
        """Go on after ``duration`` (seconds, or a timedelta), counted from the first time that the flow comes here."""
        await self._waits.until(self._waits.clock.now() + seconds(duration), name)

    async def until(self, moment: datetime, /, *, name: str = "until") -> None:
        """Go on at ``moment``, an aware datetime."""
        await self._waits.until(timestamp(moment, "flow.until"), name)

    @overload
    async def signal(
        self,
        name: str,
        type_: type[T],
        /,
        *,
        timeout: timedelta | float | None = None,  # noqa: ASYNC109 - of the wait, not of this call
    ) -> T: ...
    @overload
    async def signal(
        self,
        name: str,
        /,
        *,
        timeout: timedelta | float | None = None,  # noqa: ASYNC109 - of the wait, not of this call
    ) -> Any: ...

    async def signal(
        self,
        name: str,
        type_: Any = Any,
        /,
        *,
        timeout: timedelta | float | None = None,  # noqa: ASYNC109 - of the wait, not of this call
    ) -> Any:
        """The value that somebody sends by ``handle.signal(tx, name, value)``, as ``type_``.

        Signals are kept: one that came before is taken at once, the oldest first. After ``timeout`` (default: none)
        :class:`WaitTimedOut` is raised.
        """
        return await self._waits.signal(name, type_, _seconds_or_none(timeout))

    async def event(
        self,
        topic: Topic[T],
        /,
        *,
        key: object,
        timeout: timedelta | float | None = None,  # noqa: ASYNC109 - of the wait, not of this call
    ) -> T:
        """The next event that is published to ``topic`` with this ``key``, since the flow was enqueued.

        The job says which topics it waits for: ``@service.job(events=[shipped])``. Each flow that waits gets the event.
        An event may come before the flow waits for it: they are kept for seven days. After ``timeout`` (default: none)
        :class:`WaitTimedOut` is raised.
        """
        found: T = await self._waits.event(topic, str(key), _seconds_or_none(timeout))
        return found

    # ── other jobs ──

    async def run(self, call: Call[R], /, *, name: str = "run") -> R:
        """What another job returns: enqueued once, and waited for without a worker. Raises :class:`CallsFailed` when it
        dies or is cancelled."""
        [result] = await self.run_all([call], name=name)
        return result

    @overload
    async def run_all(
        self,
        calls: Iterable[Call[R]],
        /,
        *,
        name: str = "run_all",
        return_exceptions: Literal[False] = False,
    ) -> list[R]: ...
    @overload
    async def run_all(
        self, calls: Iterable[Call[R]], /, *, name: str = "run_all", return_exceptions: Literal[True]
    ) -> list[R | CallsFailed]: ...

    async def run_all(
        self, calls: Iterable[Call[Any]], /, *, name: str = "run_all", return_exceptions: bool = False
    ) -> list[Any]:
        """What other jobs return, in the order of ``calls``: ``await flow.run_all([render.call(n) for n in pages])``.

        They are enqueued together, once, and run side by side. When all have an end and some died or were cancelled,
        :class:`CallsFailed` is raised; with ``return_exceptions`` it stands in the place of each that did.
        """
        return await self._waits.calls(list(calls), name, return_exceptions)


def _seconds_or_none(duration: timedelta | float | None) -> float | None:
    return None if duration is None else seconds(duration)
