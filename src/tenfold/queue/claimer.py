"""What a worker does in its claiming transaction: make messages ready, share out its slots, claim."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from tenfold.queue import outcome, policy
from tenfold.queue.contract import Look
from tenfold.queue.gates import TAKEN_S, Gate, Gates
from tenfold.queue.message import Claim, Message, Settlement
from tenfold.queue.policy import Lane

if TYPE_CHECKING:
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
    """When there will be something to claim, as far as is known: earliest delayed message, next start of a queue with
    a rate. Only known when there is no more."""


class Claimer:
    """Claims for one worker. ``limits`` maps handlers to their concurrency limit, ``queues`` restricts it."""

    def __init__(
        self,
        queue: Queue,
        worker: str,
        keep: Keep,
        lease_s: float,
        limits: Mapping[str, int],
        queues: Collection[str] | None,
        sources: Sequence[Source],
        count: Callable[[Sequence[Settlement], set[int]], None],
    ) -> None:
        self._queue = queue
        self._worker = worker
        self._keep = keep
        self._lease_s = lease_s
        self._limits = limits
        self._queues = frozenset(queues) if queues is not None else None
        self._sources = sources
        self._count = count
        self.gates = Gates(queue.database, queue.options)
        self._shut: dict[str, float] = {}
        """Limited queues that need not be asked about before this time."""
        self._after: dict[tuple[str, str], str] = {}
        """By lane, the share that was the last to have its turn here."""
        self.paused: frozenset[str] = frozenset()
        """As the last look has shown."""
        self.takes_turns = False
        """Whether the last messages were claimed in turn."""
        self._turn = 0
        self._usual: Lane | None = None
        """Where messages were found last, unless it is a narrow lane."""

    async def claim(
        self, tx: Tx, capacity: int, suspects_held: int, seen: Look | None = None, *, free: int | None = None
    ) -> Claimed:
        """At most ``capacity`` messages, leased to the worker when ``tx`` commits; of limited queues at most ``free``,
        the number of slots. ``seen`` is what a look just before showed; without it, ``tx`` looks itself."""
        backend = self._queue.backend
        look = seen or self._seen(await backend.look(tx))
        # Not before: it is the look that tells the fleet's time, and where there is one writer, it has waited for it.
        now = self._queue.now()
        if await self._make_ready(tx, look, now):
            look = self._seen(await backend.look(tx))
        lanes = self._open(look, now)
        limited = {lane.handler for lane in lanes if lane.handler in self._limits}
        running = await backend.running(tx, limited) if limited else {}
        asked = {lane.queue for lane in lanes if lane.queue in self.gates.queues}
        gates = await self._ask(tx, asked, capacity if free is None else free, now) if asked else {}
        if len(lanes) == 1 and seen is look and not limited and not asked:
            tx.channel.commit_with_next()  # one claim is all that this transaction does
        self._turn += 1
        claims = policy.shares(
            lanes,
            capacity,
            self._limits,
            running,
            open_to={queue: gates[queue].allowed if queue in gates else 0 for queue in asked},
            turn=self._turn,
            suspects_held=suspects_held,
        )
        shared = {(lane.queue, lane.name) for lane in lanes if lane.shared}
        messages: list[Message] = []
        more = False
        for claim in claims:
            in_turn = (claim.queue, claim.lane) in shared
            got = await (self._claim_in_turn if in_turn else self._claim)(tx, claim, now)
            messages += got
            if claim.queue in gates:
                await self.gates.spend(tx, claim.queue, gates[claim.queue], len(got))
            # a narrow lane that is full opens again when one of its messages ends, not before
            narrow = (
                claim.lane in self._limits or claim.lane.startswith(policy.SUSPECT) or claim.queue in gates
            )
            more |= (bool(got) if in_turn else len(got) == claim.limit) and not narrow
            self.takes_turns = in_turn
            self._usual = None if narrow else Lane(claim.queue, claim.lane, in_turn)
        return Claimed(messages, more, None if more else self.due(look))

    async def claim_usual(self, tx: Tx, lane: Lane, capacity: int) -> Claimed:
        """At most ``capacity`` messages of a lane that :meth:`guess` has named, in one round trip: it is wide, so there is
        nothing to share out, and nobody to ask."""
        tx.channel.commit_with_next()
        claim_ = self._claim_in_turn if lane.shared else self._claim
        got = await claim_(tx, Claim(lane.queue, lane.name, capacity), self._queue.now())
        self.takes_turns = lane.shared
        return Claimed(got, bool(got) if lane.shared else len(got) == capacity, None)

    async def _claim(self, tx: Tx, claim: Claim, now: float) -> list[Message]:
        return await self._queue.backend.claim(tx, claim, self._worker, now, now + self._lease_s)

    async def _claim_in_turn(self, tx: Tx, claim: Claim, now: float) -> list[Message]:
        lane = (claim.queue, claim.lane)
        after = self._after.get(lane, "")
        got = await self._queue.backend.claim_in_turn(
            tx, claim, after, self._worker, now, now + self._lease_s
        )
        self._after[lane] = policy.last_in_turn(got, after)
        return policy.in_turn(got, after)

    async def _ask(self, tx: Tx, queues: Collection[str], free: int, now: float) -> dict[str, Gate]:
        """The gates that no other worker is at; those that are shut are remembered until they may open."""
        gates = await self.gates.ask(tx, queues, free)
        for queue in queues:
            wait_s = gates[queue].wait_s if queue in gates else TAKEN_S
            if wait_s is not None:
                self._shut[queue] = now + wait_s
        return gates

    def _open(self, look: Look, now: float) -> list[Lane]:
        """The lanes that may be claimed from, as far as is known here."""
        self._shut = {queue: until for queue, until in self._shut.items() if until > now}
        wanted = self._queues
        return [
            lane
            for lane in look.lanes
            if (wanted is None or lane.queue in wanted)
            and self._queue.lanes.here(lane)
            and lane.queue not in look.paused
            and lane.queue not in self._shut
        ]

    def _seen(self, look: Look) -> Look:
        self._queue.heard(look.server_at)
        self.paused = look.paused
        return look

    async def look(self) -> Look:
        """What there is to do."""
        await self._queue.database.passage()  # the look is in the SQL of the database that is then read
        return self._seen(await self._queue.backend.look(self._queue.database.read(consistency="strong")))

    def guess(self) -> Lane | None:
        """For who was told that something was put in: where that is likely to be, without looking; None when
        there is something else to do too, or when the database has moved to where nobody has told the time yet."""
        if self._usual is None or not self._queue.timed:
            return None
        now = self._queue.now()
        for source in self._sources:
            if source.next_at <= now:
                return None
        return self._usual

    def worthwhile(self, look: Look) -> bool:
        """Whether a claim is worth a transaction."""
        now = self._queue.now()
        times = [look.due_at, look.lease_until, *(source.next_at for source in self._sources)]
        return bool(self._open(look, now)) or any(t is not None and t <= now for t in times)

    def due(self, look: Look) -> float | None:
        """When there will be something to claim, as far as is known: something delayed, or a queue with a rate."""
        times = [look.due_at, *(self._shut.get(lane.queue) for lane in look.lanes)]
        return min((at for at in times if at is not None), default=None)

    def next_at(self) -> float | None:
        """When the earliest source wants to feed."""
        return min((source.next_at for source in self._sources), default=None)

    def due_at(self) -> float | None:
        """When a source will put something in next."""
        return min((s.due_at for s in self._sources if s.due_at is not None), default=None)

    async def feed_anew(self, tx: Tx) -> None:
        """Have every source look at its rows now."""
        for source in self._sources:
            await source.feed(tx, self._queue.now())

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
