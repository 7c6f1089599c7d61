"""The queue in a PostgreSQL database.

Needs nothing beyond the database itself (PostgreSQL 13 or newer). Any number of processes put in, claim and settle
side by side: claims skip the rows that another one is taking (``SKIP LOCKED``), and whoever adds to the line of an
order key, or moves it on, holds the key until its transaction ends.

Weakens one guarantee: between transactions that commit side by side, ids are not in the order of the commits
(within one order key they are). No message is skipped for that, since a claim looks for what is ready, not for
what comes after the last id.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tenfold.errors import TransactionMisuse, UniqueViolation
from tenfold.queue.backends import _postgresql_sql as sql
from tenfold.queue.backends._rows import by_priority, finished, line_up, match, split, superseded
from tenfold.queue.contract import Expired, Inbox, Keep, Look, QueueBackend, Stored
from tenfold.queue.message import Beat, Claim, Message, NewMessage, Settlement
from tenfold.queue.policy import Lane

if TYPE_CHECKING:
    from tenfold.db.database import Reader, Tx

KEYS, LIMITS = 0x74656E66, 0x74656E67
"""The spaces of our advisory locks: those of order keys, and those of handlers with a concurrency limit."""
BUCKETS = 1024
"""Keys are held by buckets; two keys of one bucket wait for each other for the length of a commit."""

_INSERTED = (
    "kind", "handler", "payload", "context", "queue", "lane", "priority", "run_at", "created_at", "order_key",
    "unique_key", "event_id", "state",
)  # fmt: skip
_FINISHED = (
    "ids", "fences", "states", "failures", "crashes", "progress", "errors", "results", "result_until", "expires_at",
)  # fmt: skip
_RETURNED = (
    "ids", "fences", "states", "run_at", "failures", "crashes", "errors", "progress", "suspect", "lanes",
)  # fmt: skip
_ALIKE = ("kind", "handler", "context", "queue", "lane", "priority", "event_id", "state")


class Backend(QueueBackend, Inbox):
    """See :class:`QueueBackend` and :class:`Inbox`."""

    insert_max = 5_000

    # ── putting in ──

    async def hold_keys(self, tx: Tx, keys: Sequence[str]) -> None:
        await _hold(tx, KEYS, keys)

    def one_statement(self, rows: Sequence[NewMessage]) -> bool:
        return not any(row.order_key is not None or row.unique_key is not None for row in rows)

    async def insert(self, tx: Tx, rows: Sequence[NewMessage]) -> list[Stored]:
        if not self.one_statement(rows):
            return await self._insert_with_keys(tx, rows)
        if len(rows) == 1:
            id_ = await tx.scalar(
                sql.INSERT_ONE, **_fields(rows[0], _ALIKE, "payload", "run_at", "created_at")
            )
            return [Stored(id_, existed=False)]
        if _alike(rows):
            columns = {
                name: [getattr(row, name) for row in rows] for name in ("payload", "run_at", "created_at")
            }
            ids = await tx.all(sql.INSERT_ALIKE, tuple, **_fields(rows[0], _ALIKE), **columns)
        else:
            ids = await tx.all(sql.INSERT, tuple, **_columns(_INSERTED, rows))
        return [Stored(id_, existed=False) for id_ in sorted(row[0] for row in ids)]

    async def _insert_with_keys(self, tx: Tx, rows: Sequence[NewMessage]) -> list[Stored]:
        keys = line_up(rows)
        serializable = bool(keys) and await _hold(tx, KEYS, keys) != "read committed"
        statement = sql.INSERT_SERIALIZABLE if serializable else sql.INSERT
        stored: list[Stored | None] = [None] * len(rows)
        left = list(range(len(rows)))
        while left:  # again for what was pending a moment ago and now is not
            part = [rows[i] for i in left]
            inserted = await tx.all(statement, tuple, **_columns(_INSERTED, part))
            pending: dict[str, int] = {}
            if len(inserted) < len(part):
                unique = [row.unique_key for row in part if row.unique_key is not None]
                pending = dict(await tx.all(sql.PENDING_WITH_KEY, tuple, keys=unique))
            for i, found in zip(left, match(part, sorted(inserted), pending), strict=True):
                stored[i] = found
            left = [i for i in left if stored[i] is None]
        found_all = [found for found in stored if found is not None]
        if keys and any(
            found.existed for found in found_all
        ):  # the head of a line may be one that was not added
            await tx.execute(sql.PROMOTE, now=rows[0].created_at, keys=keys)
        return found_all

    # ── looking ──

    async def look(self, reader: Reader) -> Look:
        queues, lanes, due_at, lease_until = await reader.one(sql.LOOK, tuple)
        return Look([Lane(*lane) for lane in zip(queues, lanes, strict=True)], due_at, lease_until)

    async def running(self, tx: Tx, handlers: Collection[str]) -> dict[str, int]:
        await _hold(tx, LIMITS, handlers)
        return dict(await tx.all(sql.RUNNING, tuple, handlers=list(handlers)))

    async def expired(self, tx: Tx, now: float, limit: int) -> list[Expired]:
        rows = await tx.all(sql.EXPIRED, tuple, now=now, limit=limit)
        return [Expired(id_, fence, crashes, bool(cancel)) for id_, fence, crashes, cancel in rows]

    # ── moving ──

    async def wake_due(self, tx: Tx, now: float, limit: int) -> int:
        return await tx.execute(sql.WAKE_DUE, now=now, limit=limit)

    async def claim(self, tx: Tx, claim: Claim, worker: str, now: float, lease_until: float) -> list[Message]:
        rows = await tx.all(
            sql.CLAIM,
            tuple,
            queue=claim.queue,
            lane=claim.lane,
            count=claim.limit,
            worker=worker,
            now=now,
            lease_until=lease_until,
        )
        messages = [Message._make(row) for row in rows]
        messages.sort(key=by_priority)
        return messages

    async def extend(
        self, tx: Tx, held: Sequence[tuple[int, int]], lease_until: float, progress: Mapping[int, str]
    ) -> Beat:
        ids, fences = [id_ for id_, _ in held], [fence for _, fence in held]
        rows = await tx.all(
            sql.EXTEND,
            tuple,
            ids=ids,
            fences=fences,
            progress=[progress.get(id_) for id_ in ids],
            lease_until=lease_until,
        )
        kept = {id_ for id_, _ in rows}
        return Beat(lost=set(ids) - kept, cancelled={id_ for id_, cancel in rows if cancel})

    async def settle(self, tx: Tx, settlements: Sequence[Settlement], now: float, keep: Keep) -> set[int]:
        lost = {s.id for s in settlements}
        # by id, so that two who settle the same messages meet at the first of them
        ended, back = split(sorted(settlements, key=_by_id), now, keep)
        if ended:
            lost -= await self._finish(tx, ended, now)
        if back:
            lost -= await self._give_back(tx, back, now, keep)
        return lost

    async def _finish(self, tx: Tx, items: list[tuple[Any, ...]], now: float) -> set[int]:
        plain = [item for item in items if item[1:9] == _DONE_AT_ONCE]
        rest = [item for item in items if item[1:9] != _DONE_AT_ONCE]
        gone: list[tuple[int, str | None]] = []
        if plain:
            ids = [item[0] for item in plain]
            gone += await tx.all(sql.FINISH_DONE, tuple, ids=ids, now=now, expires_at=plain[0][9])
        if rest:
            columns = dict(zip(_FINISHED, map(list, zip(*rest, strict=True)), strict=True))
            gone += await tx.all(sql.FINISH, tuple, now=now, **columns)
        if keys := [key for _, key in gone if key is not None]:
            await self._move_on(tx, keys, now)
        return {id_ for id_, _ in gone}

    async def _move_on(self, tx: Tx, keys: Sequence[str], now: float) -> None:
        """The next of each line becomes its head: those are seen that were put in until the key was held."""
        if await _hold(tx, KEYS, keys) != "read committed":
            raise TransactionMisuse(
                "a message with an order key is taken off in a serializable transaction, which may not see who waits "
                "behind it. Use `db.tx()`, without isolation=…, or pass no transaction."
            )
        await tx.execute(sql.PROMOTE, now=now, keys=keys)

    async def _give_back(self, tx: Tx, items: list[tuple[Any, ...]], now: float, keep: Keep) -> set[int]:
        columns = dict(zip(_RETURNED, map(list, zip(*items, strict=True)), strict=True))
        rows = await tx.all(sql.RETURN, tuple, **columns)
        if unique := [id_ for id_, key in rows if key is not None]:
            await self._restore_keys(tx, unique)
            if doubles := await tx.all(sql.SUPERSEDED, tuple, ids=unique):
                # they are marked as running, so that the finishing statement takes them
                await self._finish(tx, [finished(s, now, keep) for s in superseded(doubles)], now)
        return {id_ for id_, _ in rows}

    async def _restore_keys(self, tx: Tx, ids: list[int]) -> None:
        while True:
            try:
                async with tx.savepoint():
                    await tx.execute(sql.RESTORE_KEYS, ids=ids)
                return
            except UniqueViolation:
                continue  # somebody has committed one with the key since: now it is seen

    # ── housekeeping ──

    async def adopt(self, tx: Tx, lanes: Mapping[str, str], now: float) -> int:
        return await tx.execute(sql.UNPARK, handlers=list(lanes), lanes=list(lanes.values()), now=now)

    async def prune(self, tx: Tx, now: float, limit: int) -> int:
        return sum([await tx.execute(statement, now=now, limit=limit) for statement in sql.PRUNE])

    async def remember(self, tx: Tx, subscription: str, event_id: str, expires_at: float) -> bool:
        added = await tx.execute(
            sql.REMEMBER, subscription=subscription, event_id=event_id, expires_at=expires_at
        )
        return added == 1


_DONE_AT_ONCE = (1, "done", 0, 0, None, None, None, None)
"""From the fence to the result: done in the first run, and nothing more to say."""


async def _hold(tx: Tx, space: int, names: Collection[str]) -> str:
    """Lock ``names`` until the transaction ends, always in the same order; answers its isolation level."""
    buckets = sorted({zlib.crc32(name.encode()) % BUCKETS for name in names})
    _, isolation = await tx.one(sql.HOLD, tuple, space=space, buckets=buckets)
    return str(isolation)


def _fields(row: NewMessage, names: Sequence[str], *more: str) -> dict[str, Any]:
    return {name: getattr(row, name) for name in (*names, *more)}


def _columns(names: Sequence[str], rows: Sequence[NewMessage]) -> dict[str, list[Any]]:
    return {name: [getattr(row, name) for row in rows] for name in names}


def _alike(rows: Sequence[NewMessage]) -> bool:
    first = rows[0]
    return all(
        row.handler == first.handler
        and row.context == first.context
        and row.priority == first.priority
        and row.queue == first.queue
        and row.lane == first.lane
        and row.event_id == first.event_id
        and row.state == first.state
        for row in rows
    )


def _by_id(settlement: Settlement) -> int:
    return settlement.id
