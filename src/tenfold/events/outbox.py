"""The outbox: what was published, written in the publisher's transaction, and read by the relay.

One row per event, however many subscriptions there are: who subscribes is the broker's business. A row with a key is
written while the key is held, as in the queue, so the ids of one key are in the order of the commits. The notification
after the commit only wakes the relay; polling is the truth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from tenfold._core.context import current
from tenfold.errors import WrongArguments
from tenfold.events._outbox_sql import COLUMNS, INSERT_ONE, INSERT_RETURNING, statements
from tenfold.events.tables import outbox
from tenfold.queue.expiry import wire_of

if TYPE_CHECKING:
    from tenfold.db.database import Database, Tx
    from tenfold.queue.queue import Queue

_BUFFER = "tenfold.outbox"
HINT = "outbox"
INSERT_MAX = 2_000
"""Rows of one statement."""

_expired = (
    sa.select(outbox.c.id)
    .where(outbox.c.sent_at <= sa.bindparam("until"))
    .order_by(outbox.c.sent_at)
    .limit(sa.bindparam("most"))
)


class Row(NamedTuple):
    """An unsent event."""

    id: int
    topic: str
    key: str | None
    event_id: str
    payload: str
    context: str | None
    created_at: float


class Outbox:
    """The outbox of one database; topics and the relay share it. ``size_max_bytes`` is what the broker takes."""

    def __init__(self, queue: Queue, size_max_bytes: int | None = None) -> None:
        self._queue = queue
        self._size_max_bytes = size_max_bytes
        self._listeners: list[Callable[[], None]] = []
        self._end_hints: Callable[[], None] | None = None
        self.leads = False
        """The relay of this process leads: nobody else needs to be told. It sets this itself."""

    @property
    def database(self) -> Database:
        return self._queue.database

    # ── writing ──

    def put(self, tx: Tx, topic: str, key: str | None, payload: str, until: float | None = None) -> None:
        """Publish if and only if ``tx`` commits; nobody handles it after ``until``. Raises WrongArguments for what no
        broker row could hold."""
        self._check(topic, payload)
        clock = self._queue.clock
        context = wire_of(current(), until)
        buffer: list[tuple[Any, ...]] | None = tx.state.get(_BUFFER)
        if buffer is None:
            buffer = tx.state[_BUFFER] = []
            tx.before_commit(self.flush, may_be_last=True)
            tx.on_commit(self.wake)
        buffer.append((topic, key, clock.uuid(), payload, context, clock.now()))

    def _check(self, topic: str, payload: str) -> None:
        most = self._size_max_bytes
        if most is not None and len(payload) * 4 > most and (size := len(payload.encode())) > most:
            raise WrongArguments(
                f"topic {topic}: the event has {size:,} bytes, and the broker (events.url) takes {most:,} at most. "
                "Keep what is large elsewhere, and publish where it is."
            )

    async def flush(self, tx: Tx) -> None:
        """Write what is buffered; called before the commit (and around savepoints)."""
        await self._queue.flush(tx)  # its keys are held before ours, in every transaction: no deadlock
        buffer: list[tuple[Any, ...]] = tx.state.pop(_BUFFER, [])
        keys = sorted({f"outbox:{row[0]}/{row[1]}" for row in buffer if row[1] is not None})
        if keys:
            await self._queue.backend.hold_keys(tx, keys)
        if len(buffer) == 1:
            await self._insert_one(tx, buffer[0], final=tx.final)
            return
        sql = statements(tx.database)
        for start in range(0, len(buffer), INSERT_MAX):
            rows = sql.rows(buffer[start : start + INSERT_MAX])
            await tx.execute(sql.insert, rows)

    async def _insert_one(self, tx: Tx, row: tuple[Any, ...], *, final: bool) -> None:
        fields: dict[str, Any] = dict(zip(COLUMNS, row, strict=True))
        if final and tx.database.backend.capabilities.parallel_writers and _returns(tx):
            tx.channel.commit_with_next()  # committed with its one statement: a round trip less
            await tx.scalar(INSERT_RETURNING, **fields)
        else:
            await tx.execute(INSERT_ONE, fields)

    # ── waking ──

    def on_wake(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call ``listener`` after commits that published, also other processes' where there are hints; returns the
        function that ends this."""
        self._listeners.append(listener)
        if self._end_hints is None:
            self._end_hints = self.database.backend.on_hint(HINT, self._tell)

        def end() -> None:
            self._listeners.remove(listener)
            if not self._listeners and self._end_hints is not None:
                self._end_hints()
                self._end_hints = None

        return end

    def wake(self) -> None:
        """Tell the relay that there may be something, in this process and, unless it leads or the database gives no
        hints, in others."""
        self._tell()
        backend = self.database.backend
        if backend.capabilities.listen and not self.leads:
            backend.hint(HINT)

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()

    # ── for the relay ──

    async def unsent(self, limit: int, topics: Sequence[str] = (), lines: Sequence[str] = ()) -> list[Row]:
        """The first unsent rows by id, without those of the topics and lines named. One statement."""
        await self.database.passage()  # the statement is in the SQL of the database that is then read
        sql = statements(self.database)
        reader = self.database.read(consistency="strong")
        if topics or lines:
            held = {"topics": sql.list(topics), "lines": sql.list(lines)}
            found = await reader.all(sql.around, tuple, limit=limit, **held)
        else:
            found = await reader.all(sql.unsent, tuple, limit=limit)
        return [Row._make(row) for row in found]

    async def record(self, sent: Sequence[int], refused: Mapping[int, str], now: float) -> None:
        """Mark ids as sent, and note of others what the broker said: at most one statement each, one transaction."""
        async with self.database.tx() as tx:
            sql = statements(tx.database)
            if sent and not refused and sql.mark_last is not None:
                tx.channel.commit_with_next()
                await tx.all(sql.mark_last, tuple, ids=sql.list(list(sent)), at=now)
            elif sent:
                await tx.execute(sql.mark, ids=sql.list(list(sent)), at=now)
            if refused:
                errors = [text[:1000] for text in refused.values()]
                await tx.execute(sql.refuse, ids=sql.list(list(refused)), errors=sql.list(errors))

    async def prune(self, before: float, limit: int) -> int:
        """Remove at most ``limit`` rows that were sent before then; answers how many."""
        async with self.database.tx() as tx:
            ids = await tx.all(_expired, int, until=before, most=limit)
            if ids:
                sql = statements(tx.database)
                await tx.execute(sql.prune, ids=sql.list(ids))
        return len(ids)


def _returns(tx: Tx) -> bool:
    return bool(getattr(tx.database.backend.dialect, "insert_returning", False))
