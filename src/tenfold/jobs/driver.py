"""Drives one run of a flow: reads what is recorded, runs the function, and says what becomes of the message."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tenfold._core.context import Context
from tenfold._core.failpoints import failpoints
from tenfold.errors import FlowError, JobCancelled, LeaseLost
from tenfold.jobs import records
from tenfold.jobs.course import Course
from tenfold.jobs.flow import Flow
from tenfold.jobs.steps import StepOptions, Steps
from tenfold.jobs.waits import Waits, has_come
from tenfold.queue.context import JobContext
from tenfold.queue.message import Settlement

if TYPE_CHECKING:
    from tenfold.jobs.plans import StepPlans
    from tenfold.queue.queue import Queue
    from tenfold.queue.runner import Run, Runner


@dataclass(frozen=True, slots=True)
class FlowDriver:
    """Of one job that takes a Flow. ``routes`` maps topics to the subscriptions that bring their events."""

    plans: StepPlans
    options: StepOptions
    routes: Mapping[str, str]

    async def __call__(
        self, runner: Runner, run: Run, kwargs: dict[str, Any], context: Context
    ) -> Settlement | None:
        """What becomes of the message; None when it was given back already, to wait."""
        queue, message, handler = runner.queue, run.message, run.handler
        history = {}
        if message.fence > 1:  # somebody had it before
            reader = queue.database.read(consistency="strong")
            history = await records.read_all(reader, message.id)
        course = Course(message, queue.clock, history)
        steps = Steps(course, run.context, queue, handler.database, self.plans)
        flow = Flow(run.context, steps, Waits(course, steps, queue, self.routes), self.options)
        given = {Flow: flow, Context: context, JobContext: run.context}
        course.task = asyncio.create_task(handler.call(kwargs, given), name=f"flow-{message.id}")
        try:
            value = await course.task
        except BaseException as error:
            if run.stop or not course.asleep:
                raise await self._meant(queue, course, error)  # noqa: B904 - it is one of those that were raised
        else:
            course.check_complete()
            if not course.asleep:
                return runner.done(run, value)
        finally:
            course.close()
        course.check_complete()
        await _fall_asleep(runner, run, course)
        return None

    async def _meant(self, queue: Queue, course: Course, error: BaseException) -> BaseException:
        """The error that decides, out of those that tasks of the flow raised together. What fails the flow for good is
        made to be tried again, should somebody retry it."""
        found = list(_errors(error))
        for kind in (asyncio.CancelledError, LeaseLost, JobCancelled):
            if (first := next((e for e in found if isinstance(e, kind)), None)) is not None:
                return first
        if course.changed is not None:
            return course.changed
        ends = [e for e in found if isinstance(e, FlowError)]
        if ends:
            async with queue.database.tx() as tx:
                for end in ends:
                    await records.reset(tx, course.message.id, end.step)
            return ends[0]
        return error


async def _fall_asleep(runner: Runner, run: Run, course: Course) -> None:
    """Give the message back until what it waits for is due, and record what that is."""
    queue, message, parks = runner.queue, run.message, course.parks
    settlement = _settlement(course)
    events = sorted({p.row.awaits for p in parks if p.row.kind == "event" and p.row.awaits is not None})
    if failpoints.on:
        failpoints.visit("flow.waiting")
    async with queue.database.tx() as tx:
        if events:
            await queue.backend.hold_keys(tx, events)
        for park in parks:
            if not park.recorded:
                await records.add(tx, message, park.row)
        for awaits in events:
            await records.begin_to_wait(tx, message.id, awaits)
        now = queue.now()
        if await queue.backend.settle(tx, (settlement,), now, runner.keep):
            raise LeaseLost(f"{message.handler} {message.id}: another worker holds it now")
        # only now: see tenfold.jobs.waking
        for park in parks:
            if await has_come(tx, message, course.taken, park):
                await queue.backend.wake(tx, [message.id], now)
                tx.on_commit(queue.wake)
                break
    if failpoints.on:
        failpoints.visit("flow.asleep")
    run.recorded = settlement


def _settlement(course: Course) -> Settlement:
    """Until the first of what is waited for. To have come so far is a success: earlier failures are forgotten."""
    message, parks = course.message, course.parks
    due_at = min(park.due_at for park in parks)
    failing = next((park.row for park in parks if park.row.state == "failing"), None)
    if failing is not None:
        return Settlement(message.id, message.fence, "retry", due_at, 1, failing.error)
    return Settlement(message.id, message.fence, "wait", due_at, -message.failures, crashes=-message.crashes)


def _errors(error: BaseException) -> Iterator[BaseException]:
    """The error itself, or those that a task group put together."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _errors(inner)
    else:
        yield error
