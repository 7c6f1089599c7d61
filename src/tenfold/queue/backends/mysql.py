"""The queue in a MariaDB or MySQL database.

Needs nothing beyond the database itself (MariaDB 10.6, MySQL 8.0.17, or newer). Any number of processes put in, claim
and settle side by side: claims skip the rows that another one is taking (``SKIP LOCKED``), and whoever adds to the line
of an order key, or moves it on, holds the key until its transaction ends. Transactions are READ COMMITTED, so that
rows are locked and not the gaps between them.

Weakens one guarantee: between transactions that commit side by side, ids are not in the order of the commits
(within one order key they are). No message is skipped for that, since a claim looks for what is ready, not for
what comes after the last id.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import msgspec

from tenfold.queue.backends import _mysql_sql as sql
from tenfold.queue.backends._rows import finished, line_up, match, split, superseded
from tenfold.queue.contract import Expired, Inbox, Keep, Look, QueueBackend, Stored
from tenfold.queue.message import Beat, Claim, Message, NewMessage, Settlement
from tenfold.queue.policy import Lane

if TYPE_CHECKING:
    from tenfold.db.database import Reader, Tx

KEYS, LIMITS = 0, 1024
"""Where the locks of order keys begin, and those of handlers with a concurrency limit."""
BUCKETS = 1024
"""Names are held by buckets; two names of one bucket wait for each other for the length of a transaction."""

_encode = msgspec.json.Encoder().encode
_PLAIN = (
    "kind", "handler", "payload", "context", "queue", "lane", "priority", "run_at", "created_at", "event_id", "state",
)  # fmt: skip


def _json(value: Any) -> str:
    return _encode(value).decode()


class Backend(QueueBackend, Inbox):
    """See :class:`QueueBackend` and :class:`Inbox`."""

    # ── putting in ──

    async def hold_keys(self, tx: Tx, keys: Sequence[str]) -> None:
        await _hold(tx, KEYS, keys)

    async def insert(self, tx: Tx, rows: Sequence[NewMessage]) -> list[Stored]:
        if any(row.order_key is not None or row.unique_key is not None for row in rows):
            return await self._insert_with_keys(tx, rows)
        if len(rows) > 1 and _has_returning(tx):
            ids = await tx.all(sql.INSERT_PLAIN, tuple, rows=_json(rows))
            return [Stored(id_, existed=False) for id_ in sorted(row[0] for row in ids)]
        stored: list[Stored] = []
        for row in rows:
            await tx.execute(sql.INSERT_ONE, {name: getattr(row, name) for name in _PLAIN})
            stored.append(Stored(int(await tx.scalar(sql.LAST_ID)), existed=False))
        return stored

    async def _insert_with_keys(self, tx: Tx, rows: Sequence[NewMessage]) -> list[Stored]:
        keys = line_up(rows)
        if keys:
            await _hold(tx, KEYS, keys)
        stored: list[Stored | None] = [None] * len(rows)
        left = list(range(len(rows)))
        while left:  # again for what was pending a moment ago and now is not
            part = [rows[i] for i in left]
            inserted = await self._add(tx, part)
            pending: dict[str, int] = {}
            if len(inserted) < len(part):
                unique = [row.unique_key for row in part if row.unique_key is not None]
                pending = dict(await tx.all(sql.PENDING_WITH_KEY, tuple, keys=_json(unique)))
            for i, found in zip(left, match(part, sorted(inserted), pending), strict=True):
                stored[i] = found
            left = [i for i in left if stored[i] is None]
        answer = [found for found in stored if found is not None]
        if keys and any(found.existed for found in answer):
            await self._promote(
                tx, keys, rows[0].created_at
            )  # the head of a line may be one that was not added
        return answer

    async def _add(self, tx: Tx, rows: Sequence[NewMessage]) -> list[tuple[int, str | None]]:
        """Ids and unique keys of what was added."""
        if _has_returning(tx):
            return await tx.all(sql.INSERT_WITH_KEYS, tuple, rows=_json(rows))
        added: list[tuple[int, str | None]] = []
        for row in rows:
            if await tx.execute(sql.INSERT_ONE_WITH_KEYS, rows=_json([row])) == 1:
                added.append((int(await tx.scalar(sql.LAST_ID)), row.unique_key))
        return added

    async def _promote(self, tx: Tx, keys: Sequence[str], now: float) -> None:
        """Whoever waits first behind a head that has gone becomes the head. The keys are held."""
        found = await tx.all(sql.NEXT_IN_LINE, tuple, keys=_json(list(keys)))
        if ids := [id_ for (id_,) in found if id_ is not None]:
            await tx.execute(sql.PROMOTE, ids=_json(ids), now=now)

    # ── looking ──

    async def look(self, reader: Reader) -> Look:
        *lanes, (_, _, due_at, lease_until) = await reader.all(sql.LOOK, tuple)
        return Look([Lane(queue, lane) for queue, lane, _, _ in lanes], due_at, lease_until)

    async def running(self, tx: Tx, handlers: Collection[str]) -> dict[str, int]:
        await _hold(tx, LIMITS, handlers)
        return dict(await tx.all(sql.RUNNING, tuple, handlers=_json(list(handlers))))

    async def expired(self, tx: Tx, now: float, limit: int) -> list[Expired]:
        rows = await tx.all(sql.EXPIRED, tuple, now=now, limit=limit)
        return [Expired(id_, fence, crashes, bool(cancel)) for id_, fence, crashes, cancel in rows]

    # ── moving ──

    async def wake_due(self, tx: Tx, now: float, limit: int) -> int:
        due = await tx.all(sql.DUE, tuple, now=now, limit=limit)
        return await tx.execute(sql.WAKE, ids=_ids(due)) if due else 0

    async def claim(self, tx: Tx, claim: Claim, worker: str, now: float, lease_until: float) -> list[Message]:
        rows = await tx.all(sql.READY, tuple, queue=claim.queue, lane=claim.lane, count=claim.limit)
        if rows:
            await tx.execute(sql.CLAIM, ids=_ids(rows), worker=worker, now=now, lease_until=lease_until)
        return [Message._make(row) for row in rows]

    async def extend(
        self, tx: Tx, held: Sequence[tuple[int, int]], lease_until: float, progress: Mapping[int, str]
    ) -> Beat:
        items = _json([(id_, fence, "running", progress.get(id_)) for id_, fence in sorted(held)])
        rows = await tx.all(sql.HELD, tuple, items=items)
        if rows:
            await tx.execute(sql.EXTEND, items=items, lease_until=lease_until)
        kept = {row[0] for row in rows}
        return Beat(lost={id_ for id_, _ in held} - kept, cancelled={row[0] for row in rows if row[3]})

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
        text = _json(items)
        rows = await tx.all(sql.HELD, tuple, items=text)
        # Keys are held before heads are removed: who puts in behind one of them holds its key, and would wait for the
        # removed row while we wait for the key.
        if keys := sorted({row[1] for row in rows if row[1] is not None}):
            await _hold(tx, KEYS, keys)
        if rows:
            await tx.execute(sql.ARCHIVE, items=text, now=now)
            await tx.execute(sql.REMOVE, items=text)
        if keys:
            await self._promote(tx, keys, now)
        return {row[0] for row in rows}

    async def _give_back(self, tx: Tx, items: list[tuple[Any, ...]], now: float, keep: Keep) -> set[int]:
        text = _json(items)
        rows = await tx.all(sql.HELD, tuple, items=text)
        if rows:
            await tx.execute(sql.RETURN, items=text)
        if unique := sorted((row[0] for row in rows if row[2] is not None), reverse=True):
            ids = _json(unique)
            await tx.execute(sql.RESTORE_KEYS, ids=ids)
            if doubles := await tx.all(sql.DOUBLES, tuple, ids=ids):
                # they are marked as running, so that the finishing statements take them
                await tx.execute(sql.TAKE_DOUBLES, ids=_ids(doubles))
                await self._finish(tx, [finished(s, now, keep) for s in superseded(doubles)], now)
        return {row[0] for row in rows}

    # ── housekeeping ──

    async def adopt(self, tx: Tx, lanes: Mapping[str, str], now: float) -> int:
        return await tx.execute(sql.UNPARK, lanes=_json(list(lanes.items())), now=now)

    async def prune(self, tx: Tx, now: float, limit: int) -> int:
        return sum([await tx.execute(statement, now=now, limit=limit) for statement in sql.PRUNE])

    async def remember(self, tx: Tx, subscription: str, event_id: str, expires_at: float) -> bool:
        added = await tx.execute(
            sql.REMEMBER, subscription=subscription, event_id=event_id, expires_at=expires_at
        )
        return added == 1


async def _hold(tx: Tx, space: int, names: Collection[str]) -> None:
    """Lock ``names`` until the transaction ends, always in the same order."""
    wanted = sorted({space + zlib.crc32(name.encode()) % BUCKETS for name in names})
    buckets = _json(wanted)
    if len(await tx.all(sql.HOLD, tuple, buckets=buckets)) < len(wanted):  # used for the first time
        await tx.execute(sql.MAKE_LOCKS, buckets=buckets)
        await tx.all(sql.HOLD, tuple, buckets=buckets)


def _has_returning(tx: Tx) -> bool:
    return bool(cast("Any", tx.database.backend.dialect).insert_returning)


def _ids(rows: Sequence[tuple[Any, ...]]) -> str:
    return _json([row[0] for row in rows])


def _by_id(settlement: Settlement) -> int:
    return settlement.id
