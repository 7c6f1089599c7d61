"""The same change to every message that fits a filter, in batches: each batch is a transaction of its own, so that
others get between, and what has been done stays done when it is interrupted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import sqlalchemy as sa

from tenfold.queue.changes import Changes
from tenfold.queue.info import Filter
from tenfold.queue.tables import archive, message

if TYPE_CHECKING:
    from tenfold.db.database import Tx
    from tenfold.queue.queue import Queue

BATCH = 500

Tell = Callable[[int, int], None]
"""Told after each batch: how many messages were looked at, of how many."""


def nobody(done: int, total: int) -> None:
    """Nobody is told."""


class Bulk:
    """Only what was there at the beginning is changed. ``tell`` shows how far it is."""

    def __init__(self, queue: Queue, tell: Tell = nobody) -> None:
        self._queue = queue
        self._changes = Changes(queue)
        self._tell = tell

    async def cancel(self, where: Filter, reason: str) -> int:
        """Take pending messages off and ask running ones to stop; answers how many."""
        return await self._each(where, (message,), lambda tx, _, ids: self._changes.cancel(tx, ids, reason))

    async def retry(self, where: Filter) -> int:
        """Run dead and cancelled messages again, delayed and parked ones now; answers how many. Those that would
        repeat a pending message stay where they are."""

        async def again(tx: Tx, table: sa.Table, ids: list[int]) -> int:
            if table is message:
                return await self._changes.run_now(tx, ids)
            before = await tx.scalar(_count_of, ids=ids)
            await self._changes.bring_back(tx, ids)
            return int(before - await tx.scalar(_count_of, ids=ids))

        return await self._each(where, (archive, message), again)

    async def discard(self, where: Filter, reason: str) -> int:
        """Remove finished messages for good, and pending ones; those that run stay. Answers how many."""

        async def remove(tx: Tx, table: sa.Table, ids: list[int]) -> int:
            if table is message:
                pending = await tx.all(_pending, int, ids=ids)
                if not pending:
                    return 0
                await self._changes.cancel(tx, pending, reason)
            return await self._changes.remove(tx, ids)

        return await self._each(where, (archive, message), remove)

    async def _each(
        self,
        where: Filter,
        tables: tuple[sa.Table, ...],
        change: Callable[[Tx, sa.Table, list[int]], Awaitable[int]],
    ) -> int:
        """Every batch of ids that fit, in their order."""
        now = self._queue.now()
        wanted = [table for table in tables if (where.hot if table is message else where.cold)]
        scopes = [(table, where.conditions(table, now)) for table in wanted]
        reader = self._queue.database.read(consistency="strong")
        bounds = [
            await reader.one(sa.select(sa.func.count(), sa.func.max(table.c.id)).where(*conditions), tuple)
            for table, conditions in scopes
        ]
        total, looked_at, changed = sum(count for count, _ in bounds), 0, 0
        for (table, conditions), (_, last) in zip(scopes, bounds, strict=True):
            after = 0
            batch = (
                sa.select(table.c.id)
                .where(*conditions, table.c.id > sa.bindparam("after"), table.c.id <= sa.bindparam("last"))
                .order_by(table.c.id)
                .limit(BATCH)
            )
            while last is not None:
                async with self._queue.database.tx() as tx:
                    ids = await tx.all(batch, int, after=after, last=last)
                    if not ids:
                        break
                    changed += await change(tx, table, ids)
                after = ids[-1]
                looked_at += len(ids)
                self._tell(min(looked_at, total), total)
        return changed


_ids: sa.BindParameter[int] = sa.bindparam("ids", expanding=True)
_count_of = (
    sa.select(sa.func.count())
    .select_from(archive)
    .where(archive.c.id.in_(_ids), archive.c.state.in_(("dead", "cancelled")))
)
_pending = sa.select(message.c.id).where(message.c.id.in_(_ids), message.c.state != "running")
