"""For tests: run what is due, step by step and deterministically, or look at it without running.

With a ManualClock nothing happens by itself: move the clock, then :func:`run_pending`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tenfold.errors import QueueError
from tenfold.queue.admin import Admin, MessageInfo
from tenfold.queue.message import PENDING

if TYPE_CHECKING:
    from tenfold.queue.queue import Queue
    from tenfold.queue.worker import Worker

TURNS_MAX = 10_000


async def run_pending(worker: Worker) -> int:
    """Run everything that is due, and what that enqueues, until nothing is; answers how many runs ended.

    The worker is not started: this drives it. Raises :class:`QueueError` when there is no end (a job that
    enqueues itself for now).
    """
    before = worker.runs.ended
    for _ in range(TURNS_MAX):
        await worker.poll()
        recording = bool(worker.runs.outbox)  # what is recorded in this turn may make something due
        await worker.turn()
        tasks = [run.task for run in worker.runs.held.values() if run.task is not None]
        if not tasks and not worker.runs.outbox and not recording:
            return worker.runs.ended - before
        if tasks:
            await asyncio.gather(*tasks)
        await worker.turn()
    raise QueueError(
        f"After {worker.runs.ended - before} runs there is still something due; does a job enqueue itself?"
    )


async def prepare(worker: Worker) -> None:
    """Make the rows of schedules, so that their first ticks are waited for from now on."""
    async with worker.queue.database.tx() as tx:
        await worker._claimer.feed_anew(tx)


async def next_due(worker: Worker) -> float | None:
    """When something is due that is not yet: a delayed message, a retry, a tick. Seconds since the epoch."""
    await worker.poll()
    return min((at for at in (worker._due_at, worker._claimer.due_at()) if at is not None), default=None)


async def captured(queue: Queue, handler: str | None = None) -> list[MessageInfo]:
    """What is pending, oldest first, without running it."""
    found = await Admin(queue).list(handler=handler, limit=500)
    return [info for info in reversed(found) if info.state in PENDING]
