"""The worker: claims messages, runs them, prolongs their leases, and records what became of them.

Three loops share the state of one object. *Dispatch* settles what has ended and claims anew, in one
transaction per turn, so that acknowledgements gather while a commit is under way. *Keep* prolongs the leases of
everything held, learns of cancellations and lost leases, and keeps progress. *Prune* removes what has expired,
in small batches. A worker that dies leaves leases that run out; any worker's claim takes them up.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from tenfold.errors import DatabaseError, DeclarationError
from tenfold.queue import policy
from tenfold.queue.claimer import Claimed, Claimer, Source
from tenfold.queue.contract import Keep
from tenfold.queue.runner import Runner
from tenfold.queue.runs import Observer, Runs

if TYPE_CHECKING:
    from tenfold._core.clock import Clock
    from tenfold._core.settings import WorkerSettings
    from tenfold.db.database import Tx
    from tenfold.queue.handler import Executor, Handler
    from tenfold.queue.message import Message
    from tenfold.queue.queue import Queue

__all__ = ["Observer", "Source", "Worker"]

log = logging.getLogger("tenfold.queue")

DEAD_KEEP_S = 90 * 86_400.0
"""Dead letters wait so long for somebody to look at them."""

PRUNE_BATCH = 500
PRUNE_PAUSE_S = 30.0

REFUSED_PAUSE_S = 0.5
"""After a turn that failed."""

PROGRESS_S = 1.0
"""Progress is kept at most so often."""

GRACE_S = 1.0
"""For cancelled runs to clean up when the worker stops."""


class Worker:
    """Runs the messages of one database. A part: ``await start()``, ``await stop()``.

    ``handlers`` maps names to handlers; messages of other names are parked. ``queues`` limits the worker to
    some queues (default: all). ``drain_s`` bounds the time that runs may take to end after ``stop``; those
    that do not are released and run again elsewhere at once, without counting an attempt.
    """

    def __init__(
        self,
        queue: Queue,
        handlers: Mapping[str, Handler],
        settings: WorkerSettings,
        clock: Clock,
        *,
        queues: Collection[str] | None = None,
        executor: Executor | None = None,
        sources: Sequence[Source] = (),
        observer: Observer | None = None,
        drain_s: float = 10.0,
    ) -> None:
        if executor is None and (cpu := [h.name for h in handlers.values() if h.cpu]):
            raise DeclarationError(f"{cpu[0]} is CPU-bound, but the worker has no executor.", where="Worker")
        self.queue = queue
        self.handlers = handlers
        self.name = f"{socket.gethostname()}:{os.getpid()}:{clock.uuid()[-8:]}"
        self._settings = settings
        self._clock = clock
        self._executor = executor
        self._drain_s = drain_s
        self._keep = Keep(settings.retention_s, max(settings.retention_s, DEAD_KEEP_S))
        limits = {h.name: h.concurrency for h in handlers.values() if h.concurrency is not None}
        runner = Runner(queue, clock, self._keep, executor)
        self.runs = Runs(runner, handlers, clock, settings.concurrency, self._changed, observer)
        self._claimer = Claimer(
            queue, self.name, clock, self._keep, settings.lease_s, limits, queues, sources, self.runs.count
        )
        self._bell = asyncio.Event()
        self._hungry = True
        """A claim may find something."""
        self._stopping = False
        self._closing = False
        self._idle_polls = 0
        self._due_at: float | None = None
        self._pruned = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._unsubscribe: Callable[[], None] | None = None

    # ── life ──

    async def start(self) -> None:
        """Take up what is parked for handlers that exist now, then begin to work."""
        await self.adopt()
        if self._executor is not None:
            await self._executor.start()
        self._unsubscribe = self.queue.on_wake(self._wake)
        loops = {"dispatch": self._dispatch, "keep": self._keep_leases, "prune": self._prune}
        self._tasks = [asyncio.create_task(loop(), name=f"tenfold-{n}") for n, loop in loops.items()]

    async def stop(self) -> None:
        """Claim nothing more, let what runs end, give the rest back, and record everything."""
        self._stopping = True
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        self.runs.give_back_waiting()
        if not await self._all_ended(self._drain_s):
            for run in list(self.runs.held.values()):
                self.runs.interrupt(run, "drain")
            if not await self._all_ended(GRACE_S):
                self.runs.abandon()
        await self._end_loops()
        await self.turn()
        if self._executor is not None:
            await self._executor.stop()

    async def _end_loops(self) -> None:
        """Dispatch ends by itself: cancelled at its commit, it would not know what it had claimed."""
        self._closing = True
        self._bell.set()
        for task in self._tasks[1:]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    async def adopt(self) -> int:
        """Unpark the messages of handlers that exist in the code that is running; answers how many."""
        lanes = {name: handler.lane for name, handler in self.handlers.items()}
        async with self.queue.database.tx() as tx:
            return await self.queue.backend.adopt(tx, lanes, self._clock.now())

    def stats(self) -> dict[str, float]:
        """Counters since the start; ``running``, ``waiting`` and ``lag_s`` are of now (lag: how long the
        message claimed last had been due)."""
        runs = self.runs
        now = {"running": runs.running, "waiting": len(runs.waiting), "lag_s": runs.lag_s}
        return {**runs.counts, "pruned": self._pruned, **now}

    # ── for a running job (context.Holder) ──

    async def prove(self, tx: Tx, message: Message) -> bool:
        """Whether the lease of ``message`` is held, as ``tx`` sees it (and keeps it so)."""
        until = self._clock.now() + self._settings.lease_s
        beat = await self.queue.backend.extend(tx, [(message.id, message.fence)], until, {})
        return not beat.lost

    def report(self, message: Message, progress: str) -> None:
        """Keep the progress with the next heartbeat or settlement."""
        self.runs.progress[message.id] = progress

    # ── dispatch ──

    async def turn(self) -> int:
        """Settle what has ended and claim anew, in one transaction; answers how many were claimed."""
        runs = self.runs
        settlements, runs.outbox = runs.outbox, []
        capacity = self._room() if self._hungry and not self._stopping else 0
        if not settlements and not capacity:
            return 0
        hungry, self._hungry = self._hungry, self._hungry and not capacity
        lost: set[int] = set()
        claimed: Claimed | None = None
        try:
            async with self.queue.database.tx() as tx:
                if settlements:
                    lost = await self.queue.backend.settle(tx, settlements, self._clock.now(), self._keep)
                if capacity:
                    claimed = await self._claimer.claim(tx, capacity, self._suspects_held())
        except BaseException:
            runs.outbox[:0] = settlements
            self._hungry = hungry
            raise
        runs.count(settlements, lost)
        if claimed is None:
            return 0
        self._hungry |= claimed.more
        self._due_at = claimed.due_at
        if claimed.messages:
            self._idle_polls = 0
        runs.accept(claimed.messages, self)
        return len(claimed.messages)

    async def poll(self) -> None:
        """Look whether there is something to claim that nobody has told of."""
        look = await self._claimer.look(self.queue.database.read())
        self._hungry, self._due_at = self._claimer.worthwhile(look), look.due_at
        self._idle_polls += 1

    async def _dispatch(self) -> None:
        while not self._closing:
            time_passed = await self._wait()
            try:
                if time_passed and not self._hungry and not self._stopping:
                    await self.poll()
                await self.turn()
            except Exception as error:
                known = isinstance(error, DatabaseError)
                log.warning(
                    "a turn of the worker failed: %s",
                    error,
                    exc_info=None if known else error,
                    extra={"event": "queue.turn_failed"},
                )
                await asyncio.sleep(REFUSED_PAUSE_S)

    async def _wait(self) -> bool:
        """Until something has ended or was put in; True when only time has passed."""
        if self._hungry and not self._stopping and self._room():
            await asyncio.sleep(0)
            return False
        try:
            async with asyncio.timeout(self._poll_s()):
                await self._bell.wait()
        except TimeoutError:
            return True
        self._bell.clear()
        return False

    def _poll_s(self) -> float:
        now = self._clock.now()
        due = [at - now for at in (self._due_at, self._claimer.next_at()) if at is not None]
        return max(0.001, min([policy.next_poll_s(self._idle_polls, self._settings.poll_s), *due]))

    def _room(self) -> int:
        runs, settings = self.runs, self._settings
        slots = policy.Slots(
            settings.concurrency, settings.batch, runs.running, len(runs.waiting), runs.average_s
        )
        return policy.room(slots)

    def _suspects_held(self) -> int:
        return sum(run.message.lane.startswith(policy.SUSPECT) for run in self.runs.held.values())

    def _wake(self) -> None:
        self._hungry = True
        self._idle_polls = 0
        self._bell.set()

    def _changed(self, blocking: bool) -> None:
        self._hungry |= blocking
        self._bell.set()

    async def _all_ended(self, seconds: float) -> bool:
        """True when nothing is held any more, False after ``seconds``."""
        tasks = [run.task for run in self.runs.held.values() if run.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)
        return not self.runs.held

    # ── keep and prune ──

    async def beat(self) -> None:
        """One heartbeat: prolong every lease, keep progress, hear of cancellations and lost leases."""
        runs = self.runs
        held = [(run.message.id, run.message.fence) for run in runs.held.values()]
        if not held:
            return
        progress, runs.progress = runs.progress, {}
        until = self._clock.now() + self._settings.lease_s
        try:
            async with self.queue.database.tx() as tx:
                beat = await self.queue.backend.extend(tx, held, until, progress)
        except BaseException:
            runs.progress = progress | runs.progress
            raise
        fences = dict(held)
        for reason, ids in (("lost", beat.lost), ("cancelled", beat.cancelled)):
            for id_ in ids:
                run = runs.held.get(id_)
                if run is not None and run.message.fence == fences[id_]:
                    runs.interrupt(run, reason)

    async def _keep_leases(self) -> None:
        every_s = policy.heartbeat_s(self._settings.lease_s)
        last = self._clock.monotonic()
        while True:
            await self._clock.sleep(min(every_s, PROGRESS_S))
            if not self.runs.progress and self._clock.monotonic() - last < every_s:
                continue
            last = self._clock.monotonic()
            try:
                await self.beat()
            except Exception as error:
                log.warning("a heartbeat failed: %s", error, extra={"event": "queue.beat_failed"})

    async def prune(self) -> int:
        """Remove one small batch of what has expired; answers how many rows."""
        async with self.queue.database.tx() as tx:
            pruned = await self.queue.backend.prune(tx, self._clock.now(), PRUNE_BATCH)
        self._pruned += pruned
        return pruned

    async def _prune(self) -> None:
        while True:
            await self._clock.sleep(PRUNE_PAUSE_S)
            try:
                while await self.prune() >= PRUNE_BATCH:
                    await self._clock.sleep(0.1)
            except Exception as error:
                log.warning("pruning failed: %s", error, extra={"event": "queue.prune_failed"})
