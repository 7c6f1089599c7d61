"""What the guards' statements need of each database: its clock, and insertion of rows that may be there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa

from tenfold._core.context import current, use
from tenfold.db.ambient import holding
from tenfold.errors import ConfigError, SerializationFailure, TransactionMisuse

if TYPE_CHECKING:
    from tenfold.db.database import Database
    from tenfold.db.tx import Tx

T = TypeVar("T")

ATTEMPTS = 5
"""How often work is done that the server undid for a deadlock."""


class Dialect:
    """One database's way of saying what they have in common."""

    def __init__(self, name: str) -> None:
        family = {"mariadb": "mysql"}.get(name, name)
        if family not in _NOW_US:
            raise ConfigError(
                f"limits, leases and idempotency keys cannot be kept in a database of the kind {name!r}.",
                where="guard.url",
                remedy='Set it to "redis://…".',
            )
        self.family = family
        self.now_us: sa.ColumnElement[int] = sa.type_coerce(_NOW_US[family], sa.BigInteger)
        """The database's clock: microseconds since the epoch."""
        self.locked_us: sa.ColumnElement[int] = sa.type_coerce(
            _LOCKED_US.get(family, self.now_us), sa.BigInteger
        )
        """The same beside a row that is locked: the time at which it is, however long that took."""
        self.now_s: sa.ColumnElement[float] = sa.type_coerce(
            self.now_us / sa.literal_column("1000000.0"), sa.Double
        )

    def insert_absent(self, table: sa.Table, values: dict[str, Any]) -> sa.Insert:
        """INSERT of a row, or nothing (0 rows) where there is one with its key."""
        if self.family == "mysql":
            return sa.insert(table).values(values).prefix_with("IGNORE")
        # Only the dialect that is there: each costs a start some 10 ms.
        if self.family == "postgresql":
            from sqlalchemy.dialects.postgresql import insert

            return insert(table).values(values).on_conflict_do_nothing()
        from sqlalchemy.dialects import sqlite

        return sqlite.insert(table).values(values).on_conflict_do_nothing()

    def clock(self, db: Database) -> dict[str, Any]:
        """The parameters of a statement with ``now_us`` in it. SQLite has no other clock than the machine's, and
        tests move ours."""
        return {"clock_us": int(db.backend.clock.now() * 1_000_000)} if self.family == "sqlite" else {}


POSTGRESQL_NOW_US = "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)"
_NOW_US: dict[str, Any] = {
    "sqlite": sa.bindparam("clock_us", type_=sa.BigInteger),
    "postgresql": sa.literal_column(POSTGRESQL_NOW_US),
    # The session's time zone may have hours that come twice; this is without one.
    "mysql": sa.literal_column("TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))"),
}
# UTC_TIMESTAMP is when the statement began, and so before it waited for a lock. SYSDATE is when it is evaluated, by the
# session's time zone: the pool sets that to UTC.
_LOCKED_US: dict[str, Any] = {
    "mysql": sa.literal_column("TIMESTAMPDIFF(MICROSECOND, '1970-01-01', SYSDATE(6))"),
}

_known: dict[str, Dialect] = {}


def dialect_of(db: Database) -> Dialect:
    """What to know of a bound database. Raises ConfigError for one whose clock we cannot ask."""
    name = db.backend.dialect.name
    if name not in _known:
        _known[name] = Dialect(name)
    return _known[name]


async def alone(db: Database, work: Callable[[Tx], Awaitable[T]], *, late: bool = False) -> T:
    """``work`` in a short transaction of its own, whatever the operation's does; again when it met a deadlock.

    ``late`` is for what has to be done also when the operation's deadline has passed. Raises TransactionMisuse where it would wait for the transaction of its own operation.
    """
    context = current()
    if holding(context, db.backend) is not None:
        raise TransactionMisuse(
            "a limit, a lease or an idempotency key inside an operation whose own transaction has begun: on SQLite the "
            "two would wait for each other. Ask for it before the operation's first statement, or set guard.url."
        )
    with use(context.child(deadline=None) if late else context.child()):
        for attempt in range(1, ATTEMPTS + 1):
            try:
                async with db.tx() as tx:
                    return await work(tx)
            except SerializationFailure:
                if attempt == ATTEMPTS:
                    raise
    raise AssertionError  # the loop ends before
