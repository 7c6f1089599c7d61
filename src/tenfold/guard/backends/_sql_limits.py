"""Rate limits in a table: a row of one number per cell.

A check is a short transaction of its own. It is not part of the operation's: what was admitted is counted also when
the operation is rolled back, and the row of a busy cell is not held while an operation works.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import event

from tenfold.db.schema import framework, framework_part
from tenfold.errors import DatabaseError, StoreUnavailable, TransactionMisuse
from tenfold.guard.backends._sql_dialect import POSTGRESQL_NOW_US, Dialect, alone, dialect_of
from tenfold.guard.gcra import Cell, Taken, decide
from tenfold.guard.leasing import Unused
from tenfold.guard.limits import LimitStore

if TYPE_CHECKING:
    from tenfold.db.database import Database
    from tenfold.db.tx import Tx

KEY_CHARS = 32

table = sa.Table(
    "tenfold_limit",
    framework,
    sa.Column("key", sa.String(KEY_CHARS), primary_key=True),
    sa.Column("tat_us", sa.BigInteger, nullable=False),
    sa.Column("at_us", sa.BigInteger, nullable=False),
)
"""``key`` is a hash: whom a limit counts may be of any length, and is nobody's business. ``at_us`` is the time of the
last decision. Both times are microseconds since the epoch on the database's clock. There is no index on them: each
check would have to write it."""
framework_part("limit")

_DDL: Any = sa.DDL  # untyped in SQLAlchemy
# Limits need not survive a crash of the server, and so cost no write-ahead log there.
event.listen(
    table,
    "after_create",
    _DDL("ALTER TABLE tenfold_limit SET UNLOGGED").execute_if(dialect="postgresql"),
)


class _Row(msgspec.Struct, frozen=True):
    key: str
    tat_us: int
    now_us: int


class _Statements:
    """Those of one kind of database."""

    def __init__(self, dialect: Dialect) -> None:
        now = dialect.now_us
        cells = sa.select(table.c.key, table.c.tat_us, dialect.locked_us.label("now_us")).with_for_update()
        self.one = cells.where(table.c.key == sa.bindparam("cell"))
        self.several = cells.where(table.c.key.in_(sa.bindparam("cells", expanding=True))).order_by(
            table.c.key
        )
        self.now = sa.select(now.label("now_us"))
        unused: dict[str, Any] = {
            "key": sa.bindparam("cell"),
            "tat_us": sa.literal_column("0"),
            "at_us": sa.literal_column("0"),
        }
        self.first = dialect.insert_absent(table, unused)
        self.move = (
            sa.update(table)
            .where(table.c.key == sa.bindparam("cell"))
            .values(tat_us=sa.bindparam("to_us"), at_us=sa.bindparam("decided_us"))
        )
        self.back = (
            sa.update(table)
            .where(table.c.key == sa.bindparam("cell"), table.c.tat_us == sa.bindparam("end_us"))
            .values(tat_us=sa.bindparam("to_us"))
        )
        # MariaDB cannot delete from what it selects from, so the names come first.
        self.unused = sa.select(table.c.key).where(table.c.tat_us <= now).limit(sa.bindparam("at_most"))
        self.delete = sa.delete(table).where(table.c.key == sa.bindparam("cell"), table.c.tat_us <= now)


_AHEAD = "LEAST(GREATEST(l.tat_us - {now}, 0), :room) + :cost"

_TAKE_ONE = sa.text(
    f"""
    INSERT INTO tenfold_limit AS l (key, tat_us, at_us)
    SELECT :cell, t.now_us + :cost, t.now_us FROM (SELECT {POSTGRESQL_NOW_US} AS now_us) t
    WHERE :cost <= :room
    ON CONFLICT (key) DO UPDATE SET (tat_us, at_us) = (
        SELECT t.now_us + {_AHEAD.format(now="t.now_us")}, t.now_us FROM (SELECT {POSTGRESQL_NOW_US} AS now_us) t
    )
    WHERE {_AHEAD.format(now=POSTGRESQL_NOW_US)} <= :room
    RETURNING l.key, l.tat_us, l.at_us AS now_us
    """  # noqa: S608 - a constant
).bindparams(
    sa.bindparam("cell", type_=sa.String),
    sa.bindparam("cost", type_=sa.BigInteger),
    sa.bindparam("room", type_=sa.BigInteger),
)
"""PostgreSQL: judged and counted in one statement. A row comes back if and only if the work was admitted. The clock is
looked at once the row is locked, however long that took: first to judge, then to count, and what fits fits later too."""


@cache
def _statements(dialect: Dialect) -> _Statements:
    return _Statements(dialect)


class SqlLimits(LimitStore):
    """Exact over all processes that have the database."""

    shared = True
    gives_back = True

    def __init__(self, db: Database) -> None:
        self._db = db

    async def take(self, cells: Sequence[Cell]) -> Taken:
        named = [(_hashed(key), cost, room) for key, cost, room in cells]
        try:
            await self._db.passage()
            if len(named) == 1 and dialect_of(self._db).family == "postgresql":
                return await alone(self._db, lambda tx: self._take_one(tx, named))
            return await alone(self._db, lambda tx: self._take(tx, named))
        except TransactionMisuse:
            raise
        except DatabaseError as error:
            raise StoreUnavailable(f"the limits' database does not do its work: {error}") from error

    async def prune(self, limit: int) -> int:
        try:
            await self._db.passage()
            names = await self._db.read(consistency="strong").all(
                self._sql.unused, str, at_most=limit, **self._clock()
            )
            if names:
                await alone(self._db, lambda tx: self._delete(tx, names))
        except DatabaseError as error:
            raise StoreUnavailable(f"the limits' database does not do its work: {error}") from error
        return len(names)

    async def give_back(self, unused: Sequence[Unused]) -> int:
        # In the order of their keys, as all lock them.
        moves = sorted((_hashed(each.key), each.end_us, each.end_us - each.unused_us) for each in unused)

        async def move(tx: Tx) -> int:
            return await tx.execute(
                self._sql.back, [{"cell": key, "end_us": end, "to_us": to} for key, end, to in moves]
            )

        try:
            await self._db.passage()
            return await alone(self._db, move, late=True)
        except DatabaseError as error:
            raise StoreUnavailable(f"the limits' database does not do its work: {error}") from error

    async def _delete(self, tx: Tx, names: Sequence[str]) -> int:
        return await tx.execute(self._sql.delete, [{"cell": name, **self._clock()} for name in names])

    async def _take_one(self, tx: Tx, cells: Sequence[Cell]) -> Taken:
        key, cost, room = cells[0]
        row = await tx.maybe(_TAKE_ONE, _Row, cell=key, cost=cost, room=room)
        if row is not None:
            return Taken(True, row.now_us, (row.tat_us - row.now_us,))
        found = await tx.maybe(self._sql.one, _Row, cell=key)
        if found is None:  # more than the room: it never fits
            return Taken(False, await tx.scalar(self._sql.now), (0,))
        # A moment has passed since it was refused; it may just have become possible, and is refused all the same.
        ahead = max(found.tat_us - found.now_us, room - cost + 1, 0)
        return Taken(False, found.now_us, (min(ahead, room),))

    async def _take(self, tx: Tx, cells: Sequence[Cell]) -> Taken:
        """Lock what there is, decide, and write. On SQLite all writers take turns anyway."""
        if not cells:
            return Taken(True, await tx.scalar(self._sql.now, **self._clock()), ())
        found = await self._find(tx, cells)
        missing = sorted(key for key, _, _ in cells if key not in found)
        if missing:
            # A row must be there to be locked: two that find none would both count from nothing.
            await tx.execute(self._sql.first, [{"cell": key} for key in missing])
            found = await self._find(tx, cells)
        now_us = max(row.now_us for row in found.values())
        taken = decide(cells, [found[key].tat_us for key, _, _ in cells], now_us)
        if taken.admitted:
            moves = [
                {"cell": key, "to_us": now_us + ahead, "decided_us": now_us}
                for (key, _, _), ahead in zip(cells, taken.ahead_us, strict=True)
            ]
            await tx.execute(self._sql.move, moves)
        return taken

    async def _find(self, tx: Tx, cells: Sequence[Cell]) -> dict[str, _Row]:
        if len(cells) == 1:
            rows = await tx.all(self._sql.one, _Row, cell=cells[0][0], **self._clock())
        else:
            names = [key for key, _, _ in cells]
            rows = await tx.all(self._sql.several, _Row, cells=names, **self._clock())
        return {row.key: row for row in rows}

    @property
    def _sql(self) -> _Statements:
        return _statements(dialect_of(self._db))

    def _clock(self) -> dict[str, Any]:
        return dialect_of(self._db).clock(self._db)


def _hashed(key: str) -> str:
    return hashlib.blake2b(key.encode(errors="surrogatepass"), digest_size=KEY_CHARS // 2).hexdigest()
