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
from typing import TYPE_CHECKING, Any, ClassVar, cast

import msgspec

from tenfold.queue.backends import _mysql_sql as sql
from tenfold.queue.backends._sql_queue import KEYS, LIMITS, SqlQueue
from tenfold.queue.contract import Look, Stored
from tenfold.queue.message import Claim, Message, NewMessage
from tenfold.queue.policy import Lane
from tenfold.queue.tables import LOCKS

if TYPE_CHECKING:
    from tenfold.db.database import Reader, Tx

BUCKETS = LOCKS // 2
"""Names are held by buckets; two names of one bucket wait for each other for the length of a transaction."""
SPACES = {KEYS: 0, LIMITS: BUCKETS}
"""Where the locks of each begin."""

TURNS = 8
"""Shares that one claim takes messages from: each is a statement, for there is no LATERAL."""

_encode = msgspec.json.Encoder().encode
_PLAIN = (
    "kind", "handler", "payload", "context", "queue", "lane", "priority", "run_at", "created_at", "event_id", "state",
    "share",
)  # fmt: skip


class Backend(SqlQueue):
    """See :class:`QueueBackend` and :class:`Inbox`."""

    sql: ClassVar[Any] = sql

    def _list(self, values: Collection[Any]) -> str:
        return _encode(values).decode()

    async def _hold(self, tx: Tx, space: str, names: Collection[str]) -> None:
        wanted = sorted({SPACES[space] + zlib.crc32(name.encode()) % BUCKETS for name in names})
        buckets = self._list(wanted)
        if len(await tx.all(sql.HOLD, tuple, buckets=buckets)) < len(wanted):  # somebody has removed rows
            await tx.execute(sql.MAKE_LOCKS, buckets=buckets)
            await tx.all(sql.HOLD, tuple, buckets=buckets)

    # ── putting in ──

    async def insert(self, tx: Tx, rows: Sequence[NewMessage]) -> list[Stored]:
        if any(row.order_key is not None or row.unique_key is not None for row in rows):
            return await self._insert_with_keys(tx, rows)
        if len(rows) > 1 and _has_returning(tx):
            ids = await tx.all(sql.INSERT_PLAIN, tuple, rows=self._list(rows))
            return [Stored(id_, existed=False) for id_ in sorted(row[0] for row in ids)]
        stored: list[Stored] = []
        for row in rows:
            await tx.execute(sql.INSERT_ONE, {name: getattr(row, name) for name in _PLAIN})
            stored.append(Stored(int(await tx.scalar(sql.LAST_ID)), existed=False))
        return stored

    async def _add(self, tx: Tx, rows: Sequence[NewMessage]) -> Sequence[tuple[int, str | None]]:
        if _has_returning(tx):
            return await tx.all(sql.INSERT_WITH_KEYS, tuple, rows=self._list(rows))
        added: list[tuple[int, str | None]] = []
        for row in rows:
            if await tx.execute(sql.INSERT_ONE_WITH_KEYS, rows=self._list([row])) == 1:
                added.append((int(await tx.scalar(sql.LAST_ID)), row.unique_key))
        return added

    async def _promote(self, tx: Tx, keys: Sequence[str], now: float) -> None:
        found = await tx.all(sql.NEXT_IN_LINE, tuple, keys=self._list(keys))
        if ids := [id_ for (id_,) in found if id_ is not None]:
            await tx.execute(sql.PROMOTE, ids=self._list(ids), now=now)

    # ── looking ──

    async def look(self, reader: Reader) -> Look:
        *lanes, (_, _, _, due_at, lease_until, more) = await reader.all(sql.LOOK, tuple)
        server_at, paused = msgspec.json.decode(more)
        found = [Lane(queue, lane, bool(shared)) for queue, lane, shared, *_ in lanes]
        return Look(found, due_at, lease_until, float(server_at), frozenset(paused or ()))

    # ── moving ──

    async def wake_due(self, tx: Tx, now: float, limit: int) -> int:
        due = await tx.all(sql.DUE, tuple, now=now, limit=limit)
        return await tx.execute(sql.WAKE_DUE, ids=self._ids(due)) if due else 0

    async def claim(self, tx: Tx, claim: Claim, worker: str, now: float, lease_until: float) -> list[Message]:
        return await self._claim_share(tx, claim, "", worker, now, lease_until)

    async def claim_in_turn(
        self, tx: Tx, claim: Claim, after: str, worker: str, now: float, lease_until: float
    ) -> list[Message]:
        most = min(claim.limit, TURNS)
        where = {"queue": claim.queue, "lane": claim.lane, "after": after}
        ring = await tx.all(sql.LATER, tuple, **where, count=most)
        if len(ring) < most:
            ring = [*ring, *await tx.all(sql.EARLIER, tuple, **where, count=most - len(ring))]
        messages: list[Message] = []
        for _, _, _, share in ring:
            part = claim._replace(limit=claim.limit // len(ring))
            messages += await self._claim_share(tx, part, share, worker, now, lease_until)
        return messages

    async def _claim_share(
        self, tx: Tx, claim: Claim, share: str, worker: str, now: float, lease_until: float
    ) -> list[Message]:
        rows = await tx.all(
            sql.READY, tuple, queue=claim.queue, lane=claim.lane, share=share, count=claim.limit
        )
        if rows:
            await tx.execute(sql.CLAIM, ids=self._ids(rows), worker=worker, now=now, lease_until=lease_until)
        return [Message._make(row) for row in rows]

    # ── settling ──

    async def _extend(
        self, tx: Tx, held: Sequence[tuple[int, int]], lease_until: float, progress: Mapping[int, str]
    ) -> Sequence[tuple[Any, ...]]:
        items = self._list([(id_, fence, "running", progress.get(id_)) for id_, fence in held])
        rows = await tx.all(sql.HELD, tuple, items=items)
        if rows:
            await tx.execute(sql.EXTEND, items=items, lease_until=lease_until)
        return [(row[0], row[3]) for row in rows]

    async def _archive(
        self, tx: Tx, items: list[tuple[Any, ...]], now: float
    ) -> Sequence[tuple[int, str | None]]:
        text = self._list(items)
        rows = await tx.all(sql.HELD, tuple, items=text)
        # Keys are held before heads are removed: who puts in behind one of them holds its key, and would wait for the
        # removed row while we wait for the key.
        if keys := {row[1] for row in rows if row[1] is not None}:
            await self._hold(tx, KEYS, keys)
        if rows:
            await tx.execute(sql.ARCHIVE, items=text, now=now)
            await tx.execute(sql.REMOVE, items=text)
        return [(row[0], row[1]) for row in rows]

    async def _move_on(self, tx: Tx, keys: Sequence[str], now: float) -> None:
        await self._promote(tx, keys, now)  # they are held

    async def _return(self, tx: Tx, items: list[tuple[Any, ...]]) -> Sequence[tuple[int, str | None]]:
        text = self._list(items)
        rows = await tx.all(sql.HELD, tuple, items=text)
        if rows:
            await tx.execute(sql.RETURN, items=text)
        return [(row[0], row[2]) for row in rows]

    async def _doubles(self, tx: Tx, ids: Any) -> Sequence[tuple[int, int]]:
        doubles: list[tuple[int, int]] = await tx.all(sql.DOUBLES, tuple, ids=ids)
        if doubles:
            await tx.execute(sql.TAKE_DOUBLES, ids=self._ids(doubles))
        return doubles

    def _ids(self, rows: Sequence[tuple[Any, ...]]) -> str:
        return self._list([row[0] for row in rows])


def _has_returning(tx: Tx) -> bool:
    return bool(cast("Any", tx.database.backend.dialect).insert_returning)
