"""The queue in a PostgreSQL database.

Needs nothing beyond the database itself (PostgreSQL 13 or newer). Any number of processes put in, claim and settle
side by side: claims skip the rows that another one is taking (``SKIP LOCKED``), and whoever adds to the line of an
order key, or moves it on, holds the key until its transaction ends.

Weakens one guarantee: between transactions that commit side by side, ids are not in the order of the commits
(within one order key they are). No message is skipped for that, since a claim looks for what is ready, not for
what comes after the last id.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from msgspec import UNSET

from tenfold.errors import NotNullViolation, TransactionMisuse, UniqueViolation
from tenfold.queue.backends import _postgresql_sql as sql
from tenfold.queue.backends._rows import finished
from tenfold.queue.backends._sql_queue import KEYS, LIMITS, SqlQueue
from tenfold.queue.contract import Keep, Look, Stored
from tenfold.queue.message import NewMessage, Settlement
from tenfold.queue.policy import Lane

if TYPE_CHECKING:
    from tenfold.db.database import Reader, Tx

COMMITTED = "read committed"
"""The isolation in which a statement sees all that committed before it began."""
SPACES = {KEYS: sql.KEYS, LIMITS: sql.LIMITS}

_INSERTED = (
    "kind", "handler", "payload", "context", "queue", "lane", "priority", "run_at", "created_at", "order_key",
    "unique_key", "event_id", "state", "share",
)  # fmt: skip
_FINISHED = (
    "ids", "fences", "states", "failures", "crashes", "progress", "errors", "results", "result_until", "expires_at",
)  # fmt: skip
_RETURNED = (
    "ids", "fences", "states", "run_at", "failures", "crashes", "errors", "progress", "suspect", "lanes",
)  # fmt: skip
_ALIKE = ("kind", "handler", "context", "queue", "lane", "priority", "event_id", "state", "share")


class Backend(SqlQueue):
    """See :class:`QueueBackend` and :class:`Inbox`."""

    sql: ClassVar[Any] = sql
    insert_max = 5_000

    def _list(self, values: Collection[Any]) -> list[Any]:
        return list(values)

    async def _hold(self, tx: Tx, space: str, names: Collection[str]) -> None:
        await tx.scalar(sql.HOLD, space=SPACES[space], names=list(names))

    async def hold_keys(self, tx: Tx, keys: Sequence[str]) -> None:
        await tx.ahead(sql.HOLD_AHEAD, names=list(keys))

    # ── putting in ──

    def one_statement(self, rows: Sequence[NewMessage]) -> bool:
        return not any(row.unique_key is not None for row in rows)  # keys are held ahead of it

    async def insert(self, tx: Tx, rows: Sequence[NewMessage]) -> list[Stored]:
        if any(row.order_key is not None or row.unique_key is not None for row in rows):
            return await self._insert_with_keys(tx, rows)
        if len(rows) == 1:
            row = rows[0]
            id_ = await tx.scalar(
                sql.INSERT_ONE, kind=row.kind, handler=row.handler, payload=row.payload, context=row.context,
                queue=row.queue, lane=row.lane, priority=row.priority, run_at=row.run_at, created_at=row.created_at,
                event_id=row.event_id, state=row.state, share=row.share,
            )  # fmt: skip
            return [Stored(id_, existed=False)]
        if _alike(rows):
            columns = {
                name: [getattr(row, name) for row in rows] for name in ("payload", "run_at", "created_at")
            }
            first = {name: getattr(rows[0], name) for name in _ALIKE}
            ids = await tx.all(sql.INSERT_ALIKE, tuple, **first, **columns)
        else:
            ids = await tx.all(sql.INSERT, tuple, **_columns(_INSERTED, rows))
        return [Stored(id_, existed=False) for id_ in sorted(row[0] for row in ids)]

    async def _add(self, tx: Tx, rows: Sequence[NewMessage]) -> Sequence[tuple[int, str | None]]:
        return await tx.all(sql.INSERT, tuple, **_columns(_INSERTED, rows))

    # ── looking ──

    async def look(self, reader: Reader) -> Look:
        queues, lanes, shared, paused, due_at, lease_until, server_at = await reader.one(sql.LOOK, tuple)
        found = [Lane(*lane) for lane in zip(queues, lanes, shared, strict=True)]
        return Look(found, due_at, lease_until, server_at, frozenset(paused))

    # ── settling ──

    async def _extend(
        self, tx: Tx, held: Sequence[tuple[int, int]], lease_until: float, progress: Mapping[int, str]
    ) -> Sequence[tuple[Any, ...]]:
        ids = [id_ for id_, _ in held]
        return await tx.all(
            sql.EXTEND,
            tuple,
            ids=ids,
            fences=[fence for _, fence in held],
            progress=[progress.get(id_) for id_ in ids],
            lease_until=lease_until,
        )

    async def settle(self, tx: Tx, settlements: Sequence[Settlement], now: float, keep: Keep) -> set[int]:
        if tx.final and len(settlements) == 1 and settlements[0].verdict == "done":
            item = finished(settlements[0], now, keep)
            if item[1:9] == _DONE_AT_ONCE and settlements[0].order_key is not UNSET:
                return await self._settle_last(tx, item, settlements[0], now)
        return await super().settle(tx, settlements, now, keep)

    async def _settle_last(
        self, tx: Tx, item: tuple[Any, ...], settlement: Settlement, now: float
    ) -> set[int]:
        """The usual end of a handler's transaction: message, line and commit in one round trip."""
        id_, done = item[0], {"id": item[0], "now": now, "expires_at": item[9]}
        key = settlement.order_key
        try:
            if not isinstance(key, str):
                tx.channel.commit_with_next()
                await tx.all(sql.FINISH_DONE_LAST, tuple, **done)
            else:
                await tx.ahead(sql.FINISH_DONE_AHEAD, **done)
                await self.hold_keys(tx, [key])
                tx.channel.commit_with_next()
                settlement.frees = bool(await tx.all(sql.PROMOTE_LAST, tuple, now=now, keys=[key]))
        except NotNullViolation as error:
            if error.table != _ARCHIVE:
                raise
            if error.columns == ("id",):
                return {id_}
            raise _cannot_see() from error
        return set()

    async def _archive(
        self, tx: Tx, items: list[tuple[Any, ...]], now: float
    ) -> Sequence[tuple[int, str | None]]:
        plain: list[tuple[Any, ...]] = []
        rest: list[tuple[Any, ...]] = []
        for item in items:
            alike = item[1:9] == _DONE_AT_ONCE and (not plain or item[9] == plain[0][9])
            (plain if alike else rest).append(item)
        gone: list[tuple[int, str | None, str]] = []
        if plain:
            ids = [item[0] for item in plain]
            gone += await tx.all(sql.FINISH_DONE, tuple, ids=ids, now=now, expires_at=plain[0][9])
        if rest:
            columns = dict(zip(_FINISHED, map(list, zip(*rest, strict=True)), strict=True))
            gone += await tx.all(sql.FINISH, tuple, now=now, **columns)
        if any(key is not None and isolation != COMMITTED for _, key, isolation in gone):
            raise _cannot_see()
        return [(id_, key) for id_, key, _ in gone]

    async def _move_on(self, tx: Tx, keys: Sequence[str], now: float) -> None:
        """The keys are held since their messages went."""
        if not tx.final:
            await self._promote(tx, keys, now)
            return
        tx.channel.commit_with_next()
        await tx.all(sql.PROMOTE_LAST, tuple, now=now, keys=list(keys))

    async def _return(self, tx: Tx, items: list[tuple[Any, ...]]) -> Sequence[tuple[int, str | None]]:
        columns = dict(zip(_RETURNED, map(list, zip(*items, strict=True)), strict=True))
        return await tx.all(sql.RETURN, tuple, **columns)

    async def _restore_keys(self, tx: Tx, ids: Any) -> None:
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


_ARCHIVE = "tenfold_message_archive"
_DONE_AT_ONCE = (1, "done", 0, 0, None, None, None, None)
"""From the fence to the result: done in the first run, and nothing more to say."""


def _cannot_see() -> TransactionMisuse:
    return TransactionMisuse(
        "a message with an order key is taken off in a serializable transaction, which may not see who waits "
        "behind it. Use `db.tx()`, without isolation=…, or pass no transaction."
    )


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
        and row.share == first.share
        for row in rows
    )
