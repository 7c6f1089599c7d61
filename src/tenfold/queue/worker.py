"""The worker: claims messages, runs them, and records what became of them.

*Dispatch* settles what has ended and claims anew. Where the database has one writer, both happen in one transaction
per turn; where it has many, each has a loop and a connection of its own, so that the next messages come while the
last ones are recorded and the present ones run. Acknowledgements gather while a commit is under way. The
:mod:`keeper <tenfold.queue.keeper>` runs beside. A worker that dies leaves leases that run out; any worker's claim
takes them up.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from tenfold._core.context import Context, Priority, current, enter
from tenfold._core.tasks import end_tasks
from tenfold.errors import DatabaseError, DeclarationError
from tenfold.queue import policy
from tenfold.queue.claimer import Claimed, Claimer, Source
from tenfold.queue.keeper import Keeper
from tenfold.queue.options import retention
from tenfold.queue.runner import Runner
from tenfold.queue.runs import Observer, Runs

if TYPE_CHECKING:
    from tenfold._core.clock import Clock
    from tenfold._core.sections import WorkerSettings
    from tenfold.db.database import Tx
    from tenfold.queue.handler import Executor, Handler
    from tenfold.queue.message import Message, Settlement
    from tenfold.queue.queue import Queue
    from tenfold.telemetry.trace import Tracer

__all__ = ["Observer", "Source", "Worker"]

log = logging.getLogger("tenfold.queue")

REFUSED_PAUSE_S = 0.5
"""After a turn that failed."""

GRACE_S = 1.0
"""For cancelled runs to clean up when the worker stops."""


class Worker:
    """Runs the messages of one database. A part: ``await start()``, ``await stop()``.

    ``handlers`` maps names to handlers; messages of other names are parked. ``queues`` limits the worker to
    some queues (default: all). ``drain_s`` bounds the time that runs may take to end after ``stop``; those
    that do not are released and run again elsewhere at once, without counting an attempt. ``ended`` is told the
    group of each job of one that has an end. ``pressure`` tells, from 0 to 1, how much the process is needed for
    something more urgent: so much of the concurrency is left unused, and one slot never. ``tracer`` records runs, each with
    the trace of whoever asked for it, or one of its own.
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
        ended: Callable[[str, int], None] | None = None,
        drain_s: float = 10.0,
        pressure: Callable[[], float] = lambda: 0.0,
        tracer: Tracer | None = None,
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
        self._pressure = pressure
        self._keep = queue.keep = retention(settings, queue.options, queue.keep.inbox_s)
        limits = {h.name: h.concurrency for h in handlers.values() if h.concurrency is not None}
        self._runner = Runner(queue, clock, self._keep, executor, tracer)
        self.runs = Runs(
            self._runner,
            handlers,
            clock,
            settings.concurrency,
            self._changed,
            observer,
            ended,
            queue.options,
            queue.lanes,
        )
        self.keeper = Keeper(queue, self.runs, clock, settings.lease_s, self.adopt)
        self._claimer = Claimer(
            queue, self.name, self._keep, settings.lease_s, limits, queues, sources, self.runs.count
        )
        self._apart = False
        """Claims and settlements have a transaction each."""
        self._bell = asyncio.Event()
        self._ended = asyncio.Event()
        self._hungry = True
        """A claim may find something."""
        self._woken = False
        """Somebody has said so."""
        self._in_the_way = False
        """Something that has ended, and is not recorded yet, may have held up other messages."""
        self._stopping = False
        self._closing = False
        self._idle_polls = 0
        self._looked_at = float("-inf")
        """Monotonic; when the last claim was made on what a look has shown."""
        self._due_at: float | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._kept: list[asyncio.Task[None]] = []
        self._unsubscribe: Callable[[], None] | None = None

    # ── life ──

    async def start(self) -> None:
        """Take up what is parked for handlers that exist now, then begin to work."""
        await self.adopt()
        if self._executor is not None:
            await self._executor.start()
        self._unsubscribe = self.queue.on_wake(self._wake)
        loops = {"dispatch": self._dispatch, "record": self._record}
        self._tasks = [asyncio.create_task(loop(), name=f"tenfold-{n}") for n, loop in loops.items()]
        self._kept = self.keeper.start()

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
        self.queue.wake()  # what was given back is for the others
        if self._executor is not None:
            await self._executor.stop()

    async def _end_loops(self) -> None:
        """Those that commit end by themselves: cancelled there, they would not know what they had claimed."""
        self._closing = True
        self._bell.set()
        self._ended.set()
        await end_tasks(*self._kept)
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.keeper.end()
        self._tasks, self._kept = [], []

    async def adopt(self) -> int:
        """Unpark the messages of handlers that exist in the code that is running, and prepare limited queues; answers
        how many were unparked. What did not fit this code before is left to other code."""
        await self._claimer.gates.open()
        misfits = self._runner.misfits
        lane_of = self.queue.lanes.of
        lanes = {n: lane_of(n, handler.lane) for n, handler in self.handlers.items() if n not in misfits}
        async with self.queue.database.tx() as tx:
            return await self.queue.backend.adopt(tx, lanes, self.queue.now())

    def stats(self) -> dict[str, float]:
        """Counters since the start; ``running``, ``waiting`` and ``lag_s`` are of now (lag: how long the
        message claimed last had been due)."""
        runs = self.runs
        now = {"running": runs.running, "waiting": len(runs.waiting), "lag_s": runs.lag_s}
        return {**runs.counts, "pruned": self.keeper.pruned, **now}

    # ── for a running job (context.Holder) ──

    async def prove(self, tx: Tx, message: Message) -> bool:
        """Whether the lease of ``message`` is held, as ``tx`` sees it (and keeps it so)."""
        until = await self.queue.time(tx) + self._settings.lease_s
        beat = await self.queue.backend.extend(tx, [(message.id, message.fence)], until, {})
        return not beat.lost

    def report(self, message: Message, progress: str) -> None:
        """Keep the progress with the next heartbeat or settlement."""
        self.runs.progress[message.id] = progress

    # ── turns ──

    async def turn(self) -> int:
        """Settle what has ended and claim anew; answers how many were claimed."""
        if not self._is_apart():
            return await self._settle_and_claim()
        await self.settle()
        return await self.claim()

    def _is_apart(self) -> bool:
        """Looked at in every turn, for the database of a running worker may be switched."""
        self._apart = self.queue.database.backend.capabilities.parallel_writers
        return self._apart

    async def _settle_and_claim(self) -> int:
        """In one transaction."""
        runs = self.runs
        settlements, runs.outbox = runs.outbox, []
        capacity = self._wanted()
        if not settlements and not capacity:
            return 0
        hungry, self._hungry = self._hungry, self._hungry and not capacity
        lost: set[int] = set()
        claimed: Claimed | None = None
        try:
            async with self.queue.database.tx() as tx:
                if settlements:
                    lost = await self._settle(tx, settlements)
                if capacity:
                    claimed = await self._claimer.claim(
                        tx, capacity, self._suspects_held(), free=self._free()
                    )
        except BaseException:
            runs.outbox[:0] = settlements
            self._hungry = hungry
            raise
        runs.count(settlements, lost)
        return self._accept(claimed) if claimed is not None else 0

    async def settle(self) -> None:
        """Record what has ended, in a transaction of its own."""
        runs = self.runs
        settlements, runs.outbox = runs.outbox, []
        if not settlements:
            return
        in_the_way, self._in_the_way = self._in_the_way, False
        try:
            async with self.queue.database.tx() as tx:
                lost = await self._settle(tx, settlements)
        except BaseException:
            runs.outbox[:0] = settlements
            self._in_the_way |= in_the_way
            raise
        runs.count(settlements, lost)
        if in_the_way:
            self._wake()

    async def claim(self) -> int:
        """Claim as much as there is room for, in a transaction of its own, when a look shows that there is
        something; answers how many."""
        capacity = self._wanted()
        if not capacity:
            return 0
        woken, self._woken = self._woken, False
        guess = self._claimer.guess() if woken else None
        self._hungry = guess is not None  # what the guess does not find is looked for in the next turn
        try:
            if guess is None:
                claimed = await self._claim_seen(capacity)
            else:
                async with self.queue.database.tx() as tx:
                    claimed = await self._claimer.claim_usual(tx, guess, capacity)
        except BaseException:
            self._hungry = True
            raise
        if guess is None:
            self._looked_at = self._clock.monotonic()
        elif claimed.messages and self._clock.monotonic() - self._looked_at < policy.POLL_MIN_S:
            self._hungry = self._woken  # that was it, most likely; a look follows when it is due
        return self._accept(claimed)

    async def _claim_seen(self, capacity: int) -> Claimed:
        look = await self._claimer.look()
        if not self._claimer.worthwhile(look):
            return Claimed([], False, self._claimer.due(look))
        async with self.queue.database.tx() as tx:
            return await self._claimer.claim(tx, capacity, self._suspects_held(), look, free=self._free())

    async def poll(self) -> None:
        """Look whether there is something to claim that nobody has told of."""
        look = await self._claimer.look()
        self._hungry, self._due_at = self._claimer.worthwhile(look), self._claimer.due(look)
        self.runs.give_back_waiting(self._claimer.paused)
        self._idle_polls += 1

    async def _settle(self, tx: Tx, settlements: Sequence[Settlement]) -> set[int]:
        return await self.queue.backend.settle(tx, settlements, self.queue.now(), self._keep)

    def _accept(self, claimed: Claimed) -> int:
        self._hungry |= claimed.more
        self._due_at = claimed.due_at
        if claimed.messages:
            self._idle_polls = 0
        self.runs.give_back_waiting(self._claimer.paused)
        self.runs.accept(claimed.messages, self, current().causal)
        return len(claimed.messages)

    # ── loops ──

    async def _dispatch(self) -> None:
        enter(Context(operation="queue.claim", priority=Priority.CRITICAL, own=True))
        while not self._closing:
            if await self._wait() and not self._hungry and not self._stopping:
                await self._try(self.poll)
            await self._try(self.claim if self._is_apart() else self._settle_and_claim)

    async def _record(self) -> None:
        enter(Context(operation="queue.settle", priority=Priority.CRITICAL, own=True))
        while not self._closing:
            await self._ended.wait()
            self._ended.clear()
            if not await self._try(self.settle):
                self._ended.set()

    async def _try(self, work: Callable[[], Awaitable[object]]) -> bool:
        """False, after a pause, when it failed: then it is tried again, and nothing is lost."""
        try:
            await work()
        except Exception as error:
            known = isinstance(error, DatabaseError)
            log.warning(
                "a turn of the worker failed: %s",
                error,
                exc_info=None if known else error,
                extra={"event": "queue.turn_failed"},
            )
            await asyncio.sleep(REFUSED_PAUSE_S)
            return False
        return True

    async def _wait(self) -> bool:
        """Until something has ended or was put in; True when only time has passed."""
        await asyncio.sleep(0)  # what was claimed begins first
        if self._wanted():
            return False
        try:
            async with asyncio.timeout(self._poll_s()):
                await self._bell.wait()
        except TimeoutError:
            return True
        self._bell.clear()
        return False

    def _poll_s(self) -> float:
        now = self.queue.now()
        due = [at - now for at in (self._due_at, self._claimer.next_at()) if at is not None]
        return max(0.001, min([policy.next_poll_s(self._idle_polls, self._settings.poll_s), *due]))

    def _wanted(self) -> int:
        """How many messages are to be claimed now."""
        return self._room() if self._hungry and not self._stopping else 0

    def _room(self) -> int:
        runs, settings = self.runs, self._settings
        ahead_s = policy.AHEAD_IN_TURN_S if self._claimer.takes_turns else policy.AHEAD_S
        slots = policy.Slots(
            self._concurrency(), settings.batch, runs.running, len(runs.waiting), runs.average_s, ahead_s
        )
        return policy.room(slots)

    def _free(self) -> int:
        return max(0, self._concurrency() - self.runs.running - len(self.runs.waiting))

    def _concurrency(self) -> int:
        return policy.yielding(self._settings.concurrency, self._pressure())

    def _suspects_held(self) -> int:
        return sum(run.message.lane.startswith(policy.SUSPECT) for run in self.runs.held.values())

    def _wake(self) -> None:
        self._hungry = self._woken = True
        self._idle_polls = 0
        self._bell.set()

    def _changed(self, blocking: bool) -> None:
        """A run has ended; ``blocking``: it may have been in the way of other messages."""
        if self._apart and self.runs.outbox:
            self._in_the_way |= blocking  # until it is recorded
            self._ended.set()
        else:
            self._hungry |= blocking
        if not self._apart or self._wanted():
            self._bell.set()

    async def _all_ended(self, seconds: float) -> bool:
        """True when nothing is held any more, False after ``seconds``."""
        tasks = [run.task for run in self.runs.held.values() if run.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)
        return not self.runs.held
