"""Runs one step of a flow: its function, its record, its retries."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tenfold._core.context import Context, current, use
from tenfold._core.failpoints import failpoints
from tenfold.db.database import Tx
from tenfold.errors import (
    FlowError,
    JobCancelled,
    LeaseLost,
    OutcomeUnknown,
    QueueError,
    RetryLater,
    StepFailed,
)
from tenfold.jobs import records
from tenfold.jobs.plans import StepPlan, StepPlans
from tenfold.jobs.records import StepRow
from tenfold.queue import context as job_context
from tenfold.queue.context import JobContext
from tenfold.queue.outcome import describe_error

if TYPE_CHECKING:
    from tenfold.db.database import Database
    from tenfold.jobs.course import Course
    from tenfold.queue.queue import Queue
    from tenfold.queue.retry import Retry


@dataclass(frozen=True, slots=True)
class StepOptions:
    """How steps are run: those of the job, unless ``flow.options(…)`` says otherwise."""

    retry: Retry
    timeout_s: float | None
    fatal: tuple[type[Exception], ...] = ()
    """Errors after which there is no other attempt."""


class StepContext(JobContext):
    """What ``current_job()`` gives inside a step: the flow's run, with the key and the attempts of the step."""

    __slots__ = ("_failures", "_outer", "_step")

    def __init__(self, outer: JobContext, step: str, failures: int) -> None:
        super().__init__(outer._message, outer._holder, outer._clock)
        self._outer = outer
        self._step = step
        self._failures = failures

    @property
    def attempt(self) -> int:
        """1 for the first attempt of the step; crashes of workers do not count."""
        return self._failures + 1

    @property
    def idempotency_key(self) -> str:
        """The same in every attempt of this step of this flow, and of no other."""
        return f"{self._outer.idempotency_key}:{self._step}"

    @property
    def cancelled(self) -> bool:
        return self._outer.cancelled

    def check(self) -> None:
        self._outer.check()


class Steps:
    """The steps of one run."""

    def __init__(
        self, course: Course, context: JobContext, queue: Queue, database: Database | None, plans: StepPlans
    ) -> None:
        self._course = course
        self._context = context
        self._queue = queue
        self._database = database
        self._plans = plans

    async def run(
        self,
        name: str,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: StepOptions,
    ) -> Any:
        """The recorded result of the step, or what comes of running it. ``name`` is its recorded name."""
        course, clock = self._course, self._queue.clock
        row = await course.recorded(name, "step")
        plan = self._plans.of(fn)
        if row is not None and row.state == "done":
            return course.decoded(plan.codec.decode, row)
        error: Exception | None = None
        while row is None or row.state == "failing":
            if row is not None and row.due_at is not None and clock.now() < row.due_at:
                await course.park(row, row.due_at, recorded=True)
                continue
            course.begin()
            try:
                row, value, error = await self._attempt(name, row, plan, fn, args, kwargs, options)
            finally:
                course.end()
            if error is None:
                return value
        raise step_failed(course.message.handler, row) from error

    async def _attempt(
        self,
        name: str,
        row: StepRow | None,
        plan: StepPlan,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: StepOptions,
    ) -> tuple[StepRow, Any, Exception | None]:
        """One attempt, with what is recorded of it, its value, and its error."""
        is_new, row = row is None, row or self.new_row(name)
        try:
            with _inside(StepContext(self._context, name, row.failures), options.timeout_s) as given:
                async with asyncio.timeout(options.timeout_s):
                    if plan.in_tx:
                        text = await self._in_tx(plan, fn, args, kwargs, given, row, is_new)
                    else:
                        text = plan.codec.encode(await plan.call(fn, args, kwargs, given))
        except (LeaseLost, JobCancelled, OutcomeUnknown, FlowError):
            raise
        except Exception as error:
            self._failed(row, error, options)
            await self.record(row, is_new=is_new)
            return row, None, error
        if not plan.in_tx:
            if failpoints.on:
                failpoints.visit("flow.effect")
            self._done(row, text)
            await self.record(row, is_new=is_new)
        if failpoints.on:
            failpoints.visit("flow.recorded")
        return row, plan.codec.decode(text), None

    async def _in_tx(
        self,
        plan: StepPlan,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        given: dict[Any, Any],
        row: StepRow,
        is_new: bool,
    ) -> str:
        """Effect and record in one transaction."""
        database = self._database
        if database is None or database.backend is not self._queue.database.backend:
            raise QueueError(
                f"{plan.where} takes a Tx, but the flow's message does not lie in its service's database, so that the "
                "step and its record could not commit together. Enqueue the flow in the service's database."
            )
        async with database.tx() as tx:
            text = plan.codec.encode(await plan.call(fn, args, kwargs, {**given, Tx: tx}))
            if failpoints.on:
                failpoints.visit("flow.effect")
            done = StepRow(**{name: getattr(row, name) for name in row.__struct_fields__})
            self._done(done, text)
            await (records.add if is_new else records.change)(tx, self._course.message, done)
        self._done(row, text)
        return text

    def new_row(self, name: str, **fields: Any) -> StepRow:
        """A row that is not recorded yet."""
        return StepRow(name=name, seq=self._course.next_seq(), created_at=self._queue.now(), **fields)

    async def record(self, row: StepRow, *, is_new: bool) -> None:
        """Record ``row`` in a transaction of its own, of one statement."""
        message, write = self._course.message, records.add if is_new else records.change

        async def only(tx: Tx) -> None:
            if tx.final:
                tx.channel.commit_with_next()
            await write(tx, message, row)

        async with self._queue.database.tx() as tx:
            tx.before_commit(only, may_be_last=True)

    def _done(self, row: StepRow, text: str) -> None:
        row.state, row.result, row.error, row.due_at = "done", text, None, None
        row.finished_at = self._queue.now()

    def _failed(self, row: StepRow, error: Exception, options: StepOptions) -> None:
        """Note the failed attempt in ``row``: with the time of the next one, or as the last."""
        clock = self._queue.clock
        row.error = describe_error(error)
        if isinstance(error, RetryLater):
            row.state, row.due_at = "failing", clock.now() + error.delay_s
            return
        row.failures += 1
        delay_s = options.retry.delay_s(row.failures, clock.random)
        if delay_s is None or isinstance(error, options.fatal):
            row.state, row.due_at, row.finished_at = "failed", None, clock.now()
        else:
            row.state, row.due_at = "failing", clock.now() + delay_s


def step_failed(flow: str, row: StepRow) -> StepFailed:
    """The error of a step whose attempts are used up, the same in every run."""
    first = (row.error or "").split("\n", 1)[0]
    kind, _, reason = first.partition(": ")
    return StepFailed(
        f"{flow}: step {row.name!r} failed {row.failures} times: {first}",
        step=row.name,
        kind=kind.rpartition(".")[2],
        reason=reason,
    )


@contextmanager
def _inside(context: StepContext, timeout_s: float | None) -> Generator[dict[Any, Any]]:
    """Make the step's context and deadline current; gives what its function may be handed."""
    here = current()
    if timeout_s is not None:
        here = here.child(deadline=context._clock.monotonic() + timeout_s)
    token = job_context._current.set(context)
    try:
        with use(here):
            yield {Context: here, JobContext: context}
    finally:
        job_context._current.reset(token)
