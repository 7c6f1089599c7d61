"""The queue in a SQLite database.

Needs nothing beyond the database itself. Weakens no guarantee of the contract: SQLite has one writer at a
time, so ids are in the order of commits and claims of several processes never meet.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from tenfold.queue.backends import _sqlite_sql as sql
from tenfold.queue.backends._sql_queue import SqlQueue
from tenfold.queue.contract import Look, Stored
from tenfold.queue.message import NewMessage
from tenfold.queue.policy import Lane

if TYPE_CHECKING:
    from tenfold.db.database import Reader, Tx

_encode = msgspec.json.Encoder().encode


class Backend(SqlQueue):
    """See :class:`QueueBackend` and :class:`Inbox`."""

    sql: ClassVar[Any] = sql

    def _list(self, values: Collection[Any]) -> str:
        return _encode(values).decode()

    async def _hold(self, tx: Tx, space: str, names: Collection[str]) -> None:
        return  # a transaction that writes is alone

    # ── putting in ──

    async def insert(self, tx: Tx, rows: Sequence[NewMessage]) -> list[Stored]:
        return await self._insert_with_keys(tx, rows)

    async def _add(self, tx: Tx, rows: Sequence[NewMessage]) -> Sequence[tuple[int, str | None]]:
        return await tx.all(sql.INSERT, tuple, rows=self._list(rows))

    # ── looking ──

    async def look(self, reader: Reader) -> Look:
        lanes, paused, due_at, lease_until = await reader.one(sql.LOOK, tuple)
        found = [Lane(queue, lane, bool(shared)) for queue, lane, shared in msgspec.json.decode(lanes)]
        return Look(found, due_at, lease_until, paused=frozenset(msgspec.json.decode(paused)))

    # ── settling ──

    async def _extend(
        self, tx: Tx, held: Sequence[tuple[int, int]], lease_until: float, progress: Mapping[int, str]
    ) -> Sequence[tuple[Any, ...]]:
        items = [(id_, fence, progress.get(id_)) for id_, fence in held]
        return await tx.all(sql.EXTEND, tuple, held=self._list(items), lease_until=lease_until)

    async def _archive(
        self, tx: Tx, items: list[tuple[Any, ...]], now: float
    ) -> Sequence[tuple[int, str | None]]:
        text = self._list(items)
        await tx.execute(sql.ARCHIVE, items=text, now=now)
        return await tx.all(sql.REMOVE, tuple, items=text)

    async def _return(self, tx: Tx, items: list[tuple[Any, ...]]) -> Sequence[tuple[int, str | None]]:
        return await tx.all(sql.RETURN, tuple, items=self._list(items))
