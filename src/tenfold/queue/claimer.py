"""What a worker does in its claiming transaction: make messages ready, share out its slots, claim."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from tenfold.queue import outcome, policy
from tenfold.queue.contract import Look
from tenfold.queue.message import Message, Settlement
from tenfold.queue.policy import Lane

if TYPE_CHECKING:
    from tenfold._core.clock import Clock
    from tenfold.db.database import Tx
    from tenfold.queue.contract import Keep
    from tenfold.queue.queue import Queue

log = logging.getLogger("tenfold.queue")

MOVE_MAX = 1_000
"""Delayed or expired messages that one transaction makes ready."""


class Source(Protocol):
    """Something that puts messages in when their time comes (the schedules' ticker)."""

    next_at: float
    """Seconds since the epoch; ``feed`` is called when it has come."""
    due_at: float | None
    """When it will put something in next, as far as it knows."""

    async def feed(self, tx: Tx, now: float) -> None:
        """Put what is due into the queue, in ``tx``; ``next_at`` moves on when it commits."""
        ...


class Claimed(NamedTuple):
    """The answer of a claim."""

    messages: list[Message]
    more: bool
    """A lane gave all it was asked for, so there may be more."""
    due_at: float | None
    """Earliest delayed message; only known when there is no more."""


class Claimer:
    """Claims for one worker. ``limits`` maps handlers to their concurrency limit, ``queues`` restricts it."""

    def __init__(
        self,
        queue: Queue,
        worker: str,
        clock: Clock,
        keep: Keep,
        lease_s: float,
        limits: Mapping[str, int],
        queues: Collection[str] | None,
        sources: Sequence[Source],
        count: Callable[[Sequence[Settlement], set[int]], None],
    ) -> None:
        self._queue = queue
        self._worker = worker
        self._clock = clock
        self._keep = keep
        self._lease_s = lease_s
        self._limits = limits
        self._queues = frozenset(queues) if queues is not None else None
        self._sources = sources
        self._count = count
        self._turn = 0
        self._usual: Lane | None = None
        """Where messages were found last, unless it is a narrow lane."""

    async def claim(self, tx: Tx, capacity: int, suspects_held: int, seen: Look | None = None) -> Claimed:
        """At most ``capacity`` messages, leased to the worker when ``tx`` commits. ``seen`` is what a look just
        before showed; without it, ``tx`` looks itself."""
        backend, now = self._queue.backend, self._clock.now()
        look = seen or await backend.look(tx)
        if await self._make_ready(tx, look, now):
            look = await backend.look(tx)
        lanes = look.lanes
        if self._queues is not None:
            lanes = [lane for lane in lanes if lane.queue in self._queues]
        limited = {lane.handler for lane in lanes if lane.handler in self._limits}
        running = await backend.running(tx, limited) if limited else {}
        if len(lanes) == 1 and seen is look and not limited:
            tx.channel.only_one()  # one claim is all that this transaction does
        self._turn += 1
        claims = policy.shares(
            lanes, capacity, self._limits, running, turn=self._turn, suspects_held=suspects_held
        )
        messages: list[Message] = []
        more = False
        for claim in claims:
            got = await backend.claim(tx, claim, self._worker, now, now + self._lease_s)
            messages += got
            # a narrow lane that is full opens again when one of its messages ends, not before
            narrow = claim.lane in self._limits or claim.lane.startswith(policy.SUSPECT)
            more |= len(got) == claim.limit and not narrow
            self._usual = None if narrow else Lane(claim.queue, claim.lane)
        return Claimed(messages, more, None if more else look.due_at)

    async def look(self) -> Look:
        """What there is to do."""
        await self._queue.database.passage()  # the look is in the SQL of the database that is then read
        return await self._queue.backend.look(self._queue.database.read(consistency="strong"))

    def guess(self) -> Look | None:
        """For who was told that something was put in: where that is likely to be, without looking; None when
        there is something else to do too."""
        now = self._clock.now()
        if self._usual is None or any(source.next_at <= now for source in self._sources):
            return None
        return Look([self._usual], None, None)

    def worthwhile(self, look: Look) -> bool:
        """Whether a claim is worth a transaction."""
        now = self._clock.now()
        times = [look.due_at, look.lease_until, *(source.next_at for source in self._sources)]
        return bool(look.lanes) or any(t is not None and t <= now for t in times)

    def next_at(self) -> float | None:
        """When the earliest source wants to feed."""
        return min((source.next_at for source in self._sources), default=None)

    def due_at(self) -> float | None:
        """When a source will put something in next."""
        return min((s.due_at for s in self._sources if s.due_at is not None), default=None)

    async def feed_anew(self, tx: Tx) -> None:
        """Have every source look at its rows now."""
        for source in self._sources:
            await source.feed(tx, self._clock.now())

    async def _make_ready(self, tx: Tx, look: Look, now: float) -> bool:
        """Feed, wake and take back what is due by the look; True when that may have changed what it showed."""
        backend = self._queue.backend
        changed = False
        for source in self._sources:
            if source.next_at <= now:
                await source.feed(tx, now)
                await self._queue.flush(tx)
                changed = True
        if look.due_at is not None and look.due_at <= now:
            await backend.wake_due(tx, now, MOVE_MAX)
            changed = True
        if look.lease_until is not None and look.lease_until < now:
            await self._take_back(tx, now)
            changed = True
        return changed

    async def _take_back(self, tx: Tx, now: float) -> None:
        expired = await self._queue.backend.expired(tx, now, MOVE_MAX)
        if not expired:
            return
        settlements = [outcome.crashed(message) for message in expired]
        lost = await self._queue.backend.settle(tx, settlements, now, self._keep)
        self._count(settlements, lost)
        log.warning(
            "the leases of %d messages ran out: their workers died or were silent",
            len(expired),
            extra={"event": "queue.expired", "count": len(expired)},
        )
