"""What a worker does in its claiming transaction: make messages ready, share out its slots, claim."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from tenfold.queue import outcome, policy
from tenfold.queue.message import Message, Settlement

if TYPE_CHECKING:
    from tenfold._core.clock import Clock
    from tenfold.db.database import Reader, Tx
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

    async def claim(self, tx: Tx, capacity: int, suspects_held: int) -> Claimed:
        """At most ``capacity`` messages, leased to the worker when ``tx`` commits."""
        backend, now = self._queue.backend, self._clock.now()
        await self._make_ready(tx, now)
        lanes = await backend.lanes(tx)
        if self._queues is not None:
            lanes = [lane for lane in lanes if lane.queue in self._queues]
        running = await backend.running(tx) if self._limits else {}
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
        due_at = None if more else (await backend.look(tx)).due_at
        return Claimed(messages, more, due_at)

    async def look(self, reader: Reader) -> tuple[bool, float | None]:
        """Whether a claim is worth a transaction, and when the earliest delayed message is due."""
        now = self._clock.now()
        look = await self._queue.backend.look(reader)
        times = [look.due_at, look.lease_until, *(source.next_at for source in self._sources)]
        return look.ready or any(t is not None and t <= now for t in times), look.due_at

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

    async def _make_ready(self, tx: Tx, now: float) -> None:
        backend = self._queue.backend
        for source in self._sources:
            if source.next_at <= now:
                await source.feed(tx, now)
                await self._queue.flush(tx)
        await backend.wake_due(tx, now, MOVE_MAX)
        expired = await backend.expired(tx, now, MOVE_MAX)
        if not expired:
            return
        settlements = [outcome.crashed(message) for message in expired]
        await backend.settle(tx, settlements, now, self._keep)
        self._count(settlements, set())
        log.warning(
            "the leases of %d messages ran out: their workers died or were silent",
            len(expired),
            extra={"event": "queue.expired", "count": len(expired)},
        )
