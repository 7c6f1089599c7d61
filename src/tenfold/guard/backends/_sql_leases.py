"""Leases in a table: a row per name, which stays for its token."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa

from tenfold.db.schema import framework, framework_part
from tenfold.errors import DatabaseError, StoreUnavailable, TransactionMisuse
from tenfold.guard.backends._sql_dialect import Dialect, alone, dialect_of
from tenfold.guard.lease import NAME_MAX_CHARS, LeaseStore

if TYPE_CHECKING:
    from tenfold.db.database import Database
    from tenfold.db.tx import Tx

T = TypeVar("T")

table = sa.Table(
    "tenfold_lease",
    framework,
    sa.Column("name", sa.String(NAME_MAX_CHARS), primary_key=True),
    sa.Column("token", sa.BigInteger, nullable=False),
    sa.Column("until_us", sa.BigInteger, nullable=False),
)
"""``until_us`` is on the database's clock: microseconds since the epoch, 0 when it was released."""
framework_part("lease")


class _Statements:
    """Those of one kind of database. Bound names differ from the columns', which SQLAlchemy keeps for an UPDATE."""

    def __init__(self, dialect: Dialect) -> None:
        this = table.c.name == sa.bindparam("lease")
        held = this & (table.c.until_us > dialect.now_us)
        mine = held & (table.c.token == sa.bindparam("mine"))
        until = dialect.now_us + sa.bindparam("ttl_us", type_=sa.BigInteger)
        self.take_over = (
            sa.update(table)
            .where(this, table.c.until_us <= dialect.now_us)
            .values(token=table.c.token + 1, until_us=until)
        )
        self.first = dialect.insert_absent(
            table, {"name": sa.bindparam("lease"), "token": sa.literal_column("1"), "until_us": until}
        )
        self.token = sa.select(table.c.token).where(this)
        self.renew = sa.update(table).where(mine).values(until_us=until)
        self.release = sa.update(table).where(mine).values(until_us=sa.literal_column("0"))
        self.holder = sa.select(table.c.token).where(held)


@cache
def _statements(dialect: Dialect) -> _Statements:
    return _Statements(dialect)


class SqlLeases(LeaseStore):
    """As durable as the database; time is the database's."""

    durable = True
    shared = True

    def __init__(self, db: Database) -> None:
        self._db = db

    async def acquire(self, name: str, ttl_s: float) -> int | None:
        async def work(tx: Tx) -> int | None:
            row = self._row(name, ttl_us=int(ttl_s * 1_000_000))
            if await tx.execute(self._sql.take_over, row):
                return int(await tx.scalar(self._sql.token, lease=name))
            return 1 if await tx.execute(self._sql.first, row) else None

        return await self._alone(work)

    async def renew(self, name: str, token: int, ttl_s: float) -> bool:
        ttl_us = int(ttl_s * 1_000_000)
        renewed = await self._alone(
            lambda tx: tx.execute(self._sql.renew, self._row(name, mine=token, ttl_us=ttl_us))
        )
        return renewed > 0

    async def release(self, name: str, token: int) -> bool:
        return await self._alone(lambda tx: tx.execute(self._sql.release, self._row(name, mine=token))) > 0

    async def holder(self, name: str) -> int | None:
        return await self._alone(lambda tx: tx.maybe(self._sql.holder, int, **self._row(name)))

    @property
    def _sql(self) -> _Statements:
        return _statements(dialect_of(self._db))

    def _row(self, name: str, **values: Any) -> dict[str, Any]:
        """Of the database that is bound now: made inside of the transaction that uses it."""
        return {"lease": name, **values, **dialect_of(self._db).clock(self._db)}

    async def _alone(self, work: Callable[[Tx], Awaitable[T]]) -> T:
        try:
            return await alone(self._db, work)
        except TransactionMisuse:
            raise
        except DatabaseError as error:
            raise StoreUnavailable(f"the leases' database does not do its work: {error}") from error
