"""What the queues in SQL databases have in common: which statements an operation takes, and in which order.

A backend names its module of statements and how a list travels as one parameter. It overrides what its database
says otherwise: where UPDATE has no RETURNING, for one, rows are selected and locked before they are changed.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from tenfold.queue.backends._rows import by_priority, finished, line_up, match, split, superseded
from tenfold.queue.contract import Expired, Inbox, Keep, QueueBackend, Stored
from tenfold.queue.message import Beat, Claim, Message, NewMessage, Settlement

if TYPE_CHECKING:
    from tenfold.db.database import Reader, Tx

KEYS, LIMITS = "keys", "limits"
"""What is locked by names: order keys, and handlers with a concurrency limit."""


class SqlQueue(QueueBackend, Inbox):
    """See :class:`QueueBackend` and :class:`Inbox`, and the module's docstring."""

    sql: ClassVar[Any]
    """The module of statements."""

    @abstractmethod
    def _list(self, values: Collection[Any]) -> Any:
        """A list as one parameter."""

    @abstractmethod
    async def _hold(self, tx: Tx, space: str, names: Collection[str]) -> None:
        """Lock ``names`` until the transaction ends, always in the same order."""

    async def hold_keys(self, tx: Tx, keys: Sequence[str]) -> None:
        await self._hold(tx, KEYS, keys)

    # ── putting in ──

    @abstractmethod
    async def _add(self, tx: Tx, rows: Sequence[NewMessage]) -> Sequence[tuple[int, str | None]]:
        """Ids and unique keys of what was added. The order keys of the rows are held."""

    async def _insert_with_keys(self, tx: Tx, rows: Sequence[NewMessage]) -> list[Stored]:
        keys = line_up(rows)
        if keys:
            await self.hold_keys(tx, keys)
        stored: list[Stored | None] = [None] * len(rows)
        left = list(range(len(rows)))
        while left:  # again for what was pending a moment ago and now is not
            part = [rows[i] for i in left]
            inserted = await self._add(tx, part)
            pending: dict[str, int] = {}
            if len(inserted) < len(part):
                unique = [row.unique_key for row in part if row.unique_key is not None]
                pending = dict(await tx.all(self.sql.PENDING_WITH_KEY, tuple, keys=self._list(unique)))
            for i, found in zip(left, match(part, sorted(inserted), pending), strict=True):
                stored[i] = found
            left = [i for i in left if stored[i] is None]
        answer = [found for found in stored if found is not None]
        if keys and any(found.existed for found in answer):
            # the head of a line may be one that was not added
            await self._promote(tx, keys, rows[0].created_at)
        return answer

    async def _promote(self, tx: Tx, keys: Sequence[str], now: float) -> None:
        """Whoever waits first behind a head that has gone becomes the head. The keys are held."""
        await tx.execute(self.sql.PROMOTE, now=now, keys=self._list(keys))

    # ── looking ──

    async def running(self, tx: Tx, handlers: Collection[str]) -> dict[str, int]:
        await self._hold(tx, LIMITS, handlers)
        return dict(await tx.all(self.sql.RUNNING, tuple, handlers=self._list(handlers)))

    async def expired(self, tx: Tx, now: float, limit: int) -> list[Expired]:
        rows = await tx.all(self.sql.EXPIRED, tuple, now=now, limit=limit)
        return [Expired._make(row) for row in rows]

    # ── moving ──

    async def wake_due(self, tx: Tx, now: float, limit: int) -> int:
        return await tx.execute(self.sql.WAKE_DUE, now=now, limit=limit)

    async def wake(self, tx: Tx, ids: Collection[int], now: float) -> int:
        return await tx.execute(self.sql.WAKE, ids=self._list(sorted(ids)), now=now) if ids else 0

    async def claim(self, tx: Tx, claim: Claim, worker: str, now: float, lease_until: float) -> list[Message]:
        rows = await tx.all(
            self.sql.CLAIM,
            tuple,
            queue=claim.queue,
            lane=claim.lane,
            count=claim.limit,
            worker=worker,
            now=now,
            lease_until=lease_until,
        )
        return _messages(rows)

    async def claim_in_turn(
        self, tx: Tx, claim: Claim, after: str, worker: str, now: float, lease_until: float
    ) -> list[Message]:
        rows = await tx.all(
            self.sql.CLAIM_IN_TURN,
            tuple,
            queue=claim.queue,
            lane=claim.lane,
            count=claim.limit,
            after=after,
            worker=worker,
            now=now,
            lease_until=lease_until,
        )
        return _messages(rows)

    async def extend(
        self, tx: Tx, held: Sequence[tuple[int, int]], lease_until: float, progress: Mapping[int, str]
    ) -> Beat:
        rows = await self._extend(tx, sorted(held), lease_until, progress)
        kept = {id_ for id_, _ in rows}
        return Beat(
            lost={id_ for id_, _ in held} - kept, cancelled={id_: why for id_, why in rows if why is not None}
        )

    @abstractmethod
    async def _extend(
        self, tx: Tx, held: Sequence[tuple[int, int]], lease_until: float, progress: Mapping[int, str]
    ) -> Sequence[tuple[Any, ...]]:
        """Id, and who wants it stopped and why, of each message that is held still."""

    async def asked_to_stop(self, reader: Reader, ids: Collection[int]) -> dict[int, str]:
        return dict(await reader.all(self.sql.ASKED_TO_STOP, tuple, ids=self._list(ids)))

    # ── settling ──

    async def settle(self, tx: Tx, settlements: Sequence[Settlement], now: float, keep: Keep) -> set[int]:
        lost = {s.id for s in settlements}
        # by id, so that two who settle the same messages meet at the first of them
        ended, back = split(sorted(settlements, key=_by_id), now, keep)
        if ended:
            lost -= await self._finish(tx, ended, now, keep)
        if back:
            lost -= await self._give_back(tx, back, now, keep)
        return lost

    async def _finish(self, tx: Tx, items: list[tuple[Any, ...]], now: float, keep: Keep) -> set[int]:
        """Into the archive, those that are held; the lines behind them move on."""
        gone = await self._archive(tx, items, now)
        if not_done := {id_ for id_, _, state, *_ in items if state != "done"} & {id_ for id_, _ in gone}:
            # Before the lines move on, which may commit.
            ids = self._list(sorted(not_done))
            await tx.execute(self.sql.GIVE_UP, ids=ids, now=now, until=now + keep.inbox_s)
        if keys := [key for _, key in gone if key is not None]:
            await self._move_on(tx, keys, now)
        return {id_ for id_, _ in gone}

    @abstractmethod
    async def _archive(
        self, tx: Tx, items: list[tuple[Any, ...]], now: float
    ) -> Sequence[tuple[int, str | None]]:
        """Ids and order keys of what is gone into the archive."""

    async def _move_on(self, tx: Tx, keys: Sequence[str], now: float) -> None:
        """The next of each line becomes its head: those are seen that were put in until the key was held."""
        await self._hold(tx, KEYS, keys)
        await self._promote(tx, keys, now)

    async def _give_back(self, tx: Tx, items: list[tuple[Any, ...]], now: float, keep: Keep) -> set[int]:
        """Pending again. One that goes back while a newer one with its unique key is pending would run twice what
        was asked for once: it takes the key back where that is free, and is superseded otherwise."""
        rows = await self._return(tx, items)
        if unique := sorted((id_ for id_, key in rows if key is not None), reverse=True):
            ids = self._list(unique)
            await self._restore_keys(tx, ids)
            if doubles := await self._doubles(tx, ids):
                # they are marked as running, so that the finishing statements take them
                await self._finish(tx, [finished(s, now, keep) for s in superseded(doubles)], now, keep)
        return {id_ for id_, _ in rows}

    @abstractmethod
    async def _return(self, tx: Tx, items: list[tuple[Any, ...]]) -> Sequence[tuple[int, str | None]]:
        """Ids and unique keys of what was given back."""

    async def _restore_keys(self, tx: Tx, ids: Any) -> None:
        await tx.execute(self.sql.RESTORE_KEYS, ids=ids)

    async def _doubles(self, tx: Tx, ids: Any) -> Sequence[tuple[int, int]]:
        """Ids and fences of those whose unique key another has, marked as running."""
        rows: list[tuple[int, int]] = await tx.all(self.sql.SUPERSEDED, tuple, ids=ids)
        return rows

    # ── housekeeping ──

    async def adopt(self, tx: Tx, lanes: Mapping[str, str], now: float) -> int:
        return await tx.execute(self.sql.UNPARK, lanes=self._list(list(lanes.items())), now=now)

    async def prune(self, tx: Tx, now: float, limit: int) -> int:
        return sum([await tx.execute(statement, now=now, limit=limit) for statement in self.sql.PRUNE])

    async def remember(self, tx: Tx, subscription: str, event_id: str, expires_at: float) -> bool:
        added = await tx.execute(
            self.sql.REMEMBER, subscription=subscription, event_id=event_id, expires_at=expires_at
        )
        return added == 1


def _messages(rows: Sequence[tuple[Any, ...]]) -> list[Message]:
    messages = [Message._make(row) for row in rows]
    messages.sort(key=by_priority)
    return messages


def _by_id(settlement: Settlement) -> int:
    return settlement.id
