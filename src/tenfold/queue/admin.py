"""What people do with the queue: count, list, show, retry, discard, cancel. For the CLI, metrics, dashboards.

Everything here is portable SQL, off the hot path. Each change runs in a transaction of its own, or in one that
is handed in.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import sqlalchemy as sa

from tenfold.errors import NotFound, QueueError
from tenfold.queue.contract import Keep
from tenfold.queue.message import FINISHED, PENDING, Progress, Settlement, State
from tenfold.queue.tables import archive, message

if TYPE_CHECKING:
    from tenfold.db.database import Reader, Tx
    from tenfold.queue.queue import Queue

LIST_MAX = 500


class MessageInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One message as people see it. Times are seconds since the epoch."""

    id: int
    kind: str
    handler: str
    state: State
    queue: str
    priority: int
    payload: str
    created_at: float
    failures: int
    crashes: int
    run_at: float | None = None
    started_at: float | None = None
    finished_at: float | None = None
    lease_until: float | None = None
    worker: str | None = None
    cancel: int = 0
    """1 when it runs and somebody asked it to stop."""
    order_key: str | None = None
    unique_key: str | None = None
    event_id: str | None = None
    context: str | None = None
    progress: str | None = None
    error: str | None = None
    result: str | None = None
    result_until: float | None = None

    @property
    def attempts(self) -> int:
        """Runs so far that failed or died."""
        return self.failures + self.crashes

    @property
    def how_far(self) -> Progress | None:
        """The job's last word about its progress."""
        return msgspec.json.decode(self.progress, type=Progress) if self.progress else None

    @property
    def first_error_line(self) -> str:
        return (self.error or "").split("\n", 1)[0]


class Count(NamedTuple):
    """How many messages of one queue are in one state."""

    queue: str
    state: str
    messages: int


_SHARED = (
    "id", "kind", "handler", "state", "queue", "priority", "payload", "created_at", "failures", "crashes",
    "started_at", "order_key", "unique_key", "event_id", "context", "progress", "error",
)  # fmt: skip
_HOT = (*_SHARED, "run_at", "lease_until", "worker", "cancel")
_COLD = (*_SHARED, "finished_at", "result", "result_until")

_hot = sa.select(*(message.c[name] for name in _HOT))
_cold = sa.select(*(archive.c[name] for name in _COLD))
_hot_by_id = _hot.where(message.c.id == sa.bindparam("id"))
_cold_by_id = _cold.where(archive.c.id == sa.bindparam("id"))

_counts = sa.select(message.c.queue, message.c.state, sa.func.count()).group_by(
    message.c.queue, message.c.state
)
_dead = (
    sa.select(archive.c.queue, archive.c.state, sa.func.count())
    .where(archive.c.state == "dead")
    .group_by(archive.c.queue, archive.c.state)
)
_oldest = sa.select(sa.func.min(message.c.run_at)).where(message.c.state == "ready")

# A pending message that is taken off is marked as running, so that the ordinary settlement finishes it.
_take_off = (
    sa.update(message)
    .where(message.c.id == sa.bindparam("taken"), message.c.state.in_(PENDING))
    .values(state="running", pending_key=None)
    .returning(message.c.fence)
)
_ask_to_stop = (
    sa.update(message)
    .where(message.c.id == sa.bindparam("running"), message.c.state == "running")
    .values(cancel=1)
)
_run_now = (
    sa.update(message)
    .where(message.c.id == sa.bindparam("pending"), message.c.state.in_(("delayed", "parked")))
    .values(state="ready", run_at=sa.bindparam("now"), error=None)
)
_remove = sa.delete(archive).where(archive.c.id == sa.bindparam("id"))
_busy_key = sa.select(message.c.id).where(message.c.pending_key == sa.bindparam("key"))
_head = sa.select(message.c.id).where(message.c.head_key == sa.bindparam("key"))
_BACK = (
    "id", "kind", "handler", "queue", "lane", "priority", "created_at", "payload", "context", "order_key",
    "unique_key", "event_id", "fence",
)  # fmt: skip
_bring_back = sa.insert(message).from_select(
    [*_BACK, "pending_key", "head_key", "state", "run_at", "failures", "crashes", "cancel"],
    sa.select(
        *(archive.c[name] for name in _BACK),
        archive.c.unique_key,
        sa.bindparam("head_key", type_=sa.String),
        sa.bindparam("state", type_=sa.String),
        sa.bindparam("now", type_=sa.Double),
        sa.literal_column("0"),
        sa.literal_column("0"),
        sa.literal_column("0"),
    ).where(archive.c.id == sa.bindparam("id")),
)


class Admin:
    """See the module's docstring. Unknown ids raise :class:`NotFound`."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    # ── reading ──

    async def counts(self) -> list[Count]:
        """Unfinished messages by queue and state, and dead ones."""
        async with self._queue.database.read(consistency="strong") as reader:
            rows = await reader.all(_counts, tuple) + await reader.all(_dead, tuple)
        return sorted(Count(*row) for row in rows)

    async def lag_s(self) -> float:
        """For how long the oldest ready message has been due."""
        oldest = await self._queue.database.read(consistency="strong").scalar(_oldest)
        return 0.0 if oldest is None else max(0.0, self._queue.clock.now() - oldest)

    async def list(
        self,
        *,
        state: State | None = None,
        handler: str | None = None,
        queue: str | None = None,
        before: int | None = None,
        limit: int = 50,
    ) -> list[MessageInfo]:
        """The newest messages that fit, newest first; ``before`` an id continues a list."""
        limit = max(1, min(limit, LIST_MAX))
        found: list[MessageInfo] = []
        async with self._queue.database.read(consistency="strong") as reader:
            if state is None or state not in FINISHED:
                found += await reader.all(
                    _filtered(_hot, message, state, handler, queue, before, limit), MessageInfo
                )
            if state is None or state in FINISHED:
                found += await reader.all(
                    _filtered(_cold, archive, state, handler, queue, before, limit), MessageInfo
                )
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
            now = self._queue.clock.now()
            if info.state in ("dead", "cancelled"):
                await self._bring_back(tx, info, now)
            elif not await tx.execute(_run_now, pending=id_, now=now):
                raise QueueError(
                    f"Message {id_} is {info.state}; only dead, cancelled, delayed and parked ones can be retried."
                )
            tx.on_commit(self._queue.wake)

    async def _bring_back(self, tx: Tx, info: MessageInfo, now: float) -> None:
        if info.unique_key is not None:
            other = await tx.maybe(_busy_key, int, key=info.unique_key)
            if other is not None:
                raise QueueError(
                    f"Message {other} with the same unique key is pending; {info.id} would repeat it."
                )
        state, head_key = "ready", info.order_key
        if info.order_key is not None:
            await self._queue.backend.hold_keys(tx, [info.order_key])
            if await tx.maybe(_head, int, key=info.order_key) is not None:
                state, head_key = "waiting", None
        await tx.execute(_bring_back, id=info.id, state=state, head_key=head_key, now=now)
        await tx.execute(_remove, id=info.id)

    async def retry_dead(self, handler: str | None = None, limit: int = LIST_MAX) -> int:
        """Retry up to ``limit`` dead messages, of one handler or of all; answers how many."""
        retried = 0
        for info in await self.list(state="dead", handler=handler, limit=limit):
            try:
                await self.retry(info.id)
                retried += 1
            except QueueError:
                continue  # one that would repeat a pending message stays dead
        return retried

    async def cancel(self, id_: int, tx: Tx | None = None) -> bool:
        """Take a pending message off, or ask a running one to stop; False when it had finished already.

        A running job learns of it at its worker's next heartbeat (a third of the lease).
        """
        async with self._transaction(tx) as tx:
            await self._queue.flush(tx)
            fence = await tx.maybe(_take_off, int, taken=id_)
            if fence is not None:
                await self._finish(tx, id_, fence)
                tx.on_commit(self._queue.wake)  # another of its key may be ready now
                return True
            if await tx.execute(_ask_to_stop, running=id_):
                return True
            await self.show(id_, tx)
            return False

    async def _finish(self, tx: Tx, id_: int, fence: int) -> None:
        settlement = Settlement(id_, fence, "cancelled", error="cancelled before it ran")
        keep = Keep(_CANCELLED_KEEP_S, _CANCELLED_KEEP_S)
        await self._queue.backend.settle(tx, (settlement,), self._queue.clock.now(), keep)

    async def discard(self, id_: int, tx: Tx | None = None) -> None:
        """Remove a finished message for good; one that is pending is cancelled first."""
        async with self._transaction(tx) as tx:
            if await tx.execute(_remove, id=id_):
                return
            info = await self.show(id_, tx)
            if info.state == "running":
                raise QueueError(f"Message {id_} is running; cancel it first.")
            await self.cancel(id_, tx)
            await tx.execute(_remove, id=id_)

    @asynccontextmanager
    async def _transaction(self, tx: Tx | None) -> AsyncGenerator[Tx]:
        if tx is not None:
            yield tx
            return
        async with self._queue.database.tx() as own:
            yield own


_CANCELLED_KEEP_S = 604_800.0


def _filtered(
    select: sa.Select[Any],
    table: sa.Table,
    state: State | None,
    handler: str | None,
    queue: str | None,
    before: int | None,
    limit: int,
) -> sa.Select[Any]:
    wanted: Mapping[str, Any] = {"state": state, "handler": handler, "queue": queue}
    for name, value in wanted.items():
        if value is not None:
            select = select.where(table.c[name] == value)
    if before is not None:
        select = select.where(table.c.id < before)
    return select.order_by(table.c.id.desc()).limit(limit)
