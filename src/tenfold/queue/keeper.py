"""What a worker does beside its messages: prolong their leases, keep their progress, remove what has expired."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from tenfold._core.context import Context, Priority, enter
from tenfold.queue import policy

if TYPE_CHECKING:
    from tenfold._core.clock import Clock
    from tenfold.queue.queue import Queue
    from tenfold.queue.runs import Runs

log = logging.getLogger("tenfold.queue")

PRUNE_BATCH = 500
PRUNE_PAUSE_S = 30.0

PROGRESS_S = 1.0
"""Progress is kept at most so often, and a heartbeat that failed is tried again after so long."""


class Keeper:
    """Two loops over the runs of one worker. What a heartbeat finds lost or cancelled is interrupted."""

    def __init__(self, queue: Queue, runs: Runs, clock: Clock, lease_s: float) -> None:
        self._queue = queue
        self._runs = runs
        self._clock = clock
        self._lease_s = lease_s
        self.pruned = 0

    def start(self) -> list[asyncio.Task[None]]:
        """The loops, which run until they are cancelled."""
        loops = {"keep": self._keep_leases, "prune": self._prune}
        return [asyncio.create_task(loop(), name=f"tenfold-{name}") for name, loop in loops.items()]

    async def beat(self) -> None:
        """One heartbeat: prolong every lease, keep progress, hear of cancellations and lost leases."""
        runs = self._runs
        held = [(run.message.id, run.message.fence) for run in runs.held.values()]
        if not held:
            return
        progress, runs.progress = runs.progress, {}
        until = self._clock.now() + self._lease_s
        try:
            async with self._queue.database.tx() as tx:
                beat = await self._queue.backend.extend(tx, held, until, progress)
        except BaseException:
            runs.progress = progress | runs.progress
            raise
        fences = dict(held)
        for reason, ids in (("lost", beat.lost), ("cancelled", beat.cancelled)):
            for id_ in ids:
                run = runs.held.get(id_)
                if run is not None and run.message.fence == fences[id_]:
                    runs.interrupt(run, reason)

    async def prune(self) -> int:
        """Remove one small batch of what has expired; answers how many rows."""
        async with self._queue.database.tx() as tx:
            pruned = await self._queue.backend.prune(tx, self._clock.now(), PRUNE_BATCH)
        self.pruned += pruned
        return pruned

    async def _keep_leases(self) -> None:
        enter(Context(operation="queue.keep", priority=Priority.CRITICAL, own=True))
        every_s = policy.heartbeat_s(self._lease_s)
        due = self._clock.monotonic() + every_s
        while True:
            await self._clock.sleep(min(every_s, PROGRESS_S))
            begun = self._clock.monotonic()
            if not self._runs.progress and begun < due:
                continue
            try:
                await self.beat()
                due = begun + every_s
            except Exception as error:  # it stays due, and is tried again in a moment
                log.warning("a heartbeat failed: %s", error, extra={"event": "queue.beat_failed"})

    async def _prune(self) -> None:
        while True:
            await self._clock.sleep(PRUNE_PAUSE_S)
            try:
                while await self.prune() >= PRUNE_BATCH:
                    await self._clock.sleep(0.1)
            except Exception as error:
                log.warning("pruning failed: %s", error, extra={"event": "queue.prune_failed"})
