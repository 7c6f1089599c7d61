"""What people do with the queue: count, list, show, retry, discard, cancel, pause. For the CLI, metrics, dashboards.

Everything here is portable SQL, off the hot path. Each change runs in a transaction of its own, or in one that
is handed in.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import sqlalchemy as sa

from tenfold._core.context import current
from tenfold._core.text import keepable
from tenfold.errors import NotFound, QueueError
from tenfold.queue import gates
from tenfold.queue.bulk import Bulk, Tell, nobody
from tenfold.queue.changes import Changes
from tenfold.queue.info import Count, Filter, MessageInfo, QueueInfo, cold, hot
from tenfold.queue.message import State
from tenfold.queue.options import QueueOptions
from tenfold.queue.tables import archive, message
from tenfold.queue.tables import queue as queues

if TYPE_CHECKING:
    from tenfold.db.database import Reader, Tx
    from tenfold.queue.queue import Queue

__all__ = ["Admin", "Count", "Filter", "MessageInfo", "QueueInfo"]

LIST_MAX = 500

_hot_by_id = hot.where(message.c.id == sa.bindparam("id"))
_cold_by_id = cold.where(archive.c.id == sa.bindparam("id"))

_counts = sa.select(message.c.queue, message.c.state, sa.func.count()).group_by(
    message.c.queue, message.c.state
)
_dead = (
    sa.select(archive.c.queue, archive.c.state, sa.func.count())
    .where(archive.c.state == "dead")
    .group_by(archive.c.queue, archive.c.state)
)
_oldest = sa.select(sa.func.min(message.c.run_at)).where(message.c.state == "ready")
_paused = sa.select(queues.c.name, queues.c.paused_at, queues.c.paused_by)
_pause = (
    sa.update(queues)
    .where(queues.c.name == sa.bindparam("queue"), queues.c.paused_at.is_(None))
    .values(paused_at=sa.bindparam("at"), paused_by=sa.bindparam("by"))
)
_resume = (
    sa.update(queues)
    .where(queues.c.name == sa.bindparam("queue"), queues.c.paused_at.is_not(None))
    .values(paused_at=None, paused_by=None)
)


class Admin:
    """See the module's docstring. Unknown ids raise :class:`NotFound`."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._changes = Changes(queue)

    # ── reading ──

    async def counts(self) -> list[Count]:
        """Unfinished messages by queue and state, and dead ones."""
        async with self._queue.database.read(consistency="strong") as reader:
            rows = await reader.all(_counts, tuple) + await reader.all(_dead, tuple)
        return sorted(Count(*row) for row in rows)

    async def lag_s(self) -> float:
        """For how long the oldest ready message has been due."""
        oldest = await self._queue.database.read(consistency="strong").scalar(_oldest)
        return 0.0 if oldest is None else max(0.0, self._queue.now() - oldest)

    async def list(
        self,
        where: Filter | None = None,
        *,
        state: State | None = None,
        handler: str | None = None,
        queue: str | None = None,
        before: int | None = None,
        limit: int = 50,
    ) -> list[MessageInfo]:
        """The newest messages that fit ``where`` (or what is named), newest first; ``before`` an id continues a
        list."""
        where = where or Filter(state=state, handler=handler, queue=queue)
        limit = max(1, min(limit, LIST_MAX))
        found: list[MessageInfo] = []
        async with self._queue.database.read(consistency="strong") as reader:
            for wanted, of_all, table in ((where.hot, hot, message), (where.cold, cold, archive)):
                conditions = where.conditions(table, self._queue.now())
                if before is not None:
                    conditions.append(table.c.id < before)
                newest = of_all.where(*conditions).order_by(table.c.id.desc()).limit(limit)
                found += await reader.all(newest, MessageInfo) if wanted else []
        return sorted(found, key=lambda info: -info.id)[:limit]

    async def show(self, id_: int, reader: Reader | None = None) -> MessageInfo:
        """One message."""
        reader = reader or self._queue.database.read(consistency="strong")
        found = await reader.maybe(_hot_by_id, MessageInfo, id=id_)
        found = found or await reader.maybe(_cold_by_id, MessageInfo, id=id_)
        # it may have moved from one table to the other between the two looks
        found = found or await reader.maybe(_hot_by_id, MessageInfo, id=id_)
        if found is None:
            raise NotFound(f"There is no message {id_}; finished ones are removed after a while.")
        return found

    # ── changing ──

    async def retry(self, id_: int, tx: Tx | None = None) -> None:
        """Run a dead or cancelled message again, as if new; a delayed or parked one now."""
        async with self._transaction(tx) as tx:
            info = await self.show(id_, tx)
            if info.state in ("dead", "cancelled"):
                other = (await self._changes.bring_back(tx, [id_])).get(id_)
                if other is not None:
                    raise QueueError(
                        f"Message {other} with the same unique key is pending; {id_} would repeat it."
                    )
            elif not await self._changes.run_now(tx, [id_]):
                raise QueueError(
                    f"Message {id_} is {info.state}; only dead, cancelled, delayed and parked ones can be retried."
                )

    async def cancel(self, id_: int, tx: Tx | None = None, *, by: str | None = None, why: str = "") -> bool:
        """Take a pending message off, or ask a running one to stop; False when it had finished already.

        Who (default: the principal, or the operation, that asks) and why are kept with the message. Its worker hears
        of it at once where the database gives hints, else within half a second; see docs/guides/jobs-and-events.md for
        what that does to code that runs.
        """
        async with self._transaction(tx) as tx:
            if await self._changes.cancel(tx, [id_], reason(by, why)):
                return True
            info = await self.show(id_, tx)
            return info.state == "running"  # somebody has asked it before

    async def discard(self, id_: int, tx: Tx | None = None) -> None:
        """Remove a finished message for good; one that is pending is cancelled first."""
        async with self._transaction(tx) as tx:
            if await self._changes.remove(tx, [id_]):
                return
            info = await self.show(id_, tx)
            if info.state == "running":
                raise QueueError(f"Message {id_} is running; cancel it first.")
            await self._changes.cancel(tx, [id_], reason(None, "discarded"))
            await self._changes.remove(tx, [id_])

    # ── changing many ──

    async def retry_all(self, where: Filter, tell: Tell = nobody) -> int:
        """:meth:`retry` for every message that fits, in batches; answers how many will run again. Those that would
        repeat a pending message, and those that run, wait or are done, are passed over."""
        return await Bulk(self._queue, tell).retry(where)

    async def cancel_all(
        self, where: Filter, tell: Tell = nobody, *, by: str | None = None, why: str = ""
    ) -> int:
        """:meth:`cancel` for every message that fits, in batches; answers how many were taken off or asked."""
        return await Bulk(self._queue, tell).cancel(where, reason(by, why))

    async def discard_all(self, where: Filter, tell: Tell = nobody) -> int:
        """:meth:`discard` for every message that fits and does not run, in batches; answers how many."""
        return await Bulk(self._queue, tell).discard(where, reason(None, "discarded"))

    # ── queues ──

    async def queues(self) -> Sequence[QueueInfo]:
        """Every queue that has messages, is paused, or of which something is declared."""
        by_name: dict[str, dict[str, int]] = {name: {} for name in ("default", *self._queue.options)}
        for count in await self.counts():
            by_name.setdefault(count.queue, {})[count.state] = count.messages
        rows = await self._queue.database.read(consistency="strong").all(_paused, tuple)
        paused = {name: (at, by) for name, at, by in rows if at is not None}
        return [self._queue_info(name, by_name.get(name, {}), paused) for name in sorted({*by_name, *paused})]

    def _queue_info(
        self, name: str, messages: dict[str, int], paused: dict[str, tuple[float, str]]
    ) -> QueueInfo:
        said = self._queue.options.get(name) or QueueOptions(name)
        at, by = paused.get(name, (None, None))
        return QueueInfo(
            name=name,
            messages=messages,
            paused_at=at,
            paused_by=by,
            rate=said.rate,
            concurrency=said.concurrency,
            fair=said.fair,
        )

    async def pause(self, queue: str, tx: Tx | None = None, *, by: str | None = None, why: str = "") -> bool:
        """Start no more messages of ``queue``, whatever is put in or comes due, until :meth:`resume`; False when it was
        paused before. What runs goes on. No claim that begins after the commit takes any."""
        QueueOptions(queue)  # its name is one that a message can have
        async with self._transaction(tx) as tx:
            at, who = self._queue.now(), reason(by, why, "paused")
            if await tx.execute(_pause, queue=queue, at=at, by=who):
                paused = True
            else:
                await gates.ensure(tx, queue)
                paused = bool(await tx.execute(_pause, queue=queue, at=at, by=who))
            tx.on_commit(self._queue.wake)  # they look, and see it
            return paused

    async def resume(self, queue: str, tx: Tx | None = None) -> bool:
        """Start messages of ``queue`` again, in their order; False when it was not paused."""
        async with self._transaction(tx) as tx:
            resumed = bool(await tx.execute(_resume, queue=queue))
            tx.on_commit(self._queue.wake)
            return resumed

    @asynccontextmanager
    async def _transaction(self, tx: Tx | None) -> AsyncGenerator[Tx]:
        if tx is not None:
            yield tx
            return
        async with self._queue.database.tx() as own:
            yield own


def reason(by: str | None, why: str, what: str = "cancelled") -> str:
    """The sentence that is kept: who did it, and why. Without ``by`` it is who asks now."""
    context = current()
    who = by or getattr(context.principal, "id", "") or context.operation
    return keepable(what + (f" by {who}" if who else "") + (f": {why}" if why else ""))
