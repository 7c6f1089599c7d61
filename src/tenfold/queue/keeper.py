"""What a worker does beside its messages: prolong their leases, keep their progress, hear who is to stop, remove what
has expired."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from tenfold._core.context import Context, Priority, enter
from tenfold.queue import policy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tenfold._core.clock import Clock
    from tenfold.queue.queue import Queue
    from tenfold.queue.runs import Runs

log = logging.getLogger("tenfold.queue")

PRUNE_BATCH = 500
PRUNE_PAUSE_S = 30.0

PROGRESS_S = 1.0
"""Progress is kept at most so often, and a heartbeat that failed is tried again after so long."""

ADOPT_S = 30.0
"""How long a message waits at most that a worker of older code has parked after those of newer code had started."""
LISTEN_S = 0.5
"""How long a cancellation goes unheard at most where there are no hints. What runs for less is not asked about."""


class Keeper:
    """Five loops of one worker. Runs that they find lost or cancelled are interrupted."""

    def __init__(
        self, queue: Queue, runs: Runs, clock: Clock, lease_s: float, adopt: Callable[[], Awaitable[int]]
    ) -> None:
        self._queue = queue
        self._runs = runs
        self._clock = clock
        self._lease_s = lease_s
        self._adopt = adopt
        self._called = asyncio.Event()
        self._end_calls: Callable[[], None] | None = None
        self.pruned = 0

    def start(self) -> list[asyncio.Task[None]]:
        """The loops, which run until they are cancelled."""
        loops = {
            "keep": self._keep_leases, "hear": self._hear_calls, "listen": self._listen, "prune": self._prune,
            "adopt": self._adopt_again,
        }  # fmt: skip
        self._end_calls = self._queue.cancellations.listen(self._called.set)
        return [asyncio.create_task(loop(), name=f"tenfold-{name}") for name, loop in loops.items()]

    def end(self) -> None:
        """The loops have been cancelled."""
        if self._end_calls is not None:
            self._end_calls()
            self._end_calls = None

    async def beat(self) -> None:
        """One heartbeat: prolong every lease, keep progress, hear of cancellations and lost leases."""
        runs = self._runs
        held = {run.message.id: run.message.fence for run in runs.held.values()}
        if not held:
            return
        progress, runs.progress = runs.progress, {}
        try:
            async with self._queue.database.tx() as tx:
                until = await self._queue.time(tx) + self._lease_s
                beat = await self._queue.backend.extend(tx, list(held.items()), until, progress)
        except BaseException:
            runs.progress = progress | runs.progress
            raise
        for id_ in beat.lost:
            self._interrupt(id_, held[id_], "lost", "")
        for id_, reason in beat.cancelled.items():
            self._interrupt(id_, held[id_], "cancelled", reason)

    async def hear(self, longer_than_s: float = 0.0) -> None:
        """Ask who is to stop of those that have run for longer."""
        since = self._clock.monotonic() - longer_than_s
        held = {
            run.message.id: run.message.fence
            for run in self._runs.held.values()
            if not run.stop and (longer_than_s == 0.0 or (run.begun_at is not None and run.begun_at <= since))
        }
        if not held:
            return
        await self._queue.database.passage()  # it is asked in the SQL of the database that is then read
        reader = self._queue.database.read(consistency="strong")
        asked = await self._queue.backend.asked_to_stop(reader, list(held))
        for id_, reason in asked.items():
            self._interrupt(id_, held[id_], "cancelled", reason)

    def _interrupt(self, id_: int, fence: int, what: str, reason: str) -> None:
        run = self._runs.held.get(id_)
        if run is not None and run.message.fence == fence:
            self._runs.interrupt(run, what, reason)

    async def prune(self) -> int:
        """Remove one small batch of what has expired; answers how many rows."""
        async with self._queue.database.tx() as tx:
            pruned = await self._queue.backend.prune(tx, self._queue.now(), PRUNE_BATCH)
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

    async def _hear_calls(self) -> None:
        enter(Context(operation="queue.hear", priority=Priority.CRITICAL, own=True))
        while True:
            await self._called.wait()
            self._called.clear()
            await self._try_to_hear(0.0)

    async def _listen(self) -> None:
        enter(Context(operation="queue.hear", priority=Priority.CRITICAL, own=True))
        while True:
            await self._clock.sleep(LISTEN_S)
            await self._try_to_hear(LISTEN_S)

    async def _try_to_hear(self, longer_than_s: float) -> None:
        try:
            await self.hear(longer_than_s)
        except Exception as error:  # the next one, or the next heartbeat, tells it again
            log.warning("who is to stop was not heard: %s", error, extra={"event": "queue.hear_failed"})

    async def _adopt_again(self) -> None:
        while True:
            await self._clock.sleep(ADOPT_S)
            try:
                if await self._adopt():
                    self._queue.wake()
            except Exception as error:
                log.warning(
                    "parked messages were not taken up: %s", error, extra={"event": "queue.adopt_failed"}
                )

    async def _prune(self) -> None:
        while True:
            await self._clock.sleep(PRUNE_PAUSE_S)
            try:
                while await self.prune() >= PRUNE_BATCH:
                    await self._clock.sleep(0.1)
            except Exception as error:
                log.warning("pruning failed: %s", error, extra={"event": "queue.prune_failed"})
