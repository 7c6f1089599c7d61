"""A PEP 249 face of a transaction's channel, for ORM sessions: its statements are prepared like all others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.pool import NullPool
from sqlalchemy.util import await_only

from tenfold.db.backends._mysql_dialect import Dialect
from tenfold.db.backends._mysql_tx import MysqlTx

_URL = sa.make_url("mysql://")


class Error(Exception):
    """PEP 249. Never raised: the channel's errors are Tenfold's."""


class Module:
    """What SQLAlchemy takes for the driver's module."""

    paramstyle = "qmark"
    apilevel = "2.0"
    threadsafety = 1
    Error = DatabaseError = OperationalError = IntegrityError = Error
    Binary = bytes


class Connection:
    """PEP 249 on a transaction that somebody else begins and ends."""

    def __init__(self, channel: MysqlTx) -> None:
        self.channel = channel

    def cursor(self, *_: Any) -> Cursor:
        return Cursor(self.channel)

    def commit(self) -> None: ...

    def rollback(self) -> None: ...

    def close(self) -> None: ...


class Cursor:
    """PEP 249; the rows are in memory when ``execute`` returns."""

    arraysize = 1

    def __init__(self, channel: MysqlTx) -> None:
        self._channel = channel
        self._rows: list[tuple[Any, ...]] = []
        self.description: Any = None
        self.rowcount = -1
        self.lastrowid = 0

    def execute(self, sql: str, args: Sequence[Any] = ()) -> Cursor:
        done: Any = await_only(self._channel.perform(sql, tuple(args)))
        self.description, self.rowcount, self.lastrowid = (
            done.description,
            done.affected_rows,
            done.insert_id,
        )
        rows: list[tuple[Any, ...]] = list(done.rows or ())
        self._rows = rows[::-1]
        return self

    def executemany(self, sql: str, many: Sequence[Sequence[Any]]) -> Cursor:
        changed = 0
        for args in many:
            self.execute(sql, args)
            changed += self.rowcount
        self.rowcount = changed
        return self

    def fetchone(self) -> tuple[Any, ...] | None:
        return self._rows.pop() if self._rows else None

    def fetchmany(self, size: int | None = None) -> list[tuple[Any, ...]]:
        return [self._rows.pop() for _ in range(min(size or self.arraysize, len(self._rows)))]

    def fetchall(self) -> list[tuple[Any, ...]]:
        rows, self._rows = self._rows[::-1], []
        return rows

    def close(self) -> None:
        self._rows = []

    async def _async_soft_close(self) -> None:
        """What SQLAlchemy calls on the cursors of asynchronous dialects; the rows may be asked for afterwards."""


class SessionDialect(Dialect):
    """Statements and savepoints are awaited on a transaction's channel, in a greenlet."""

    is_async = True
    supports_statement_cache = True

    def __init__(self) -> None:
        super().__init__(dbapi=Module)

    @classmethod
    def import_dbapi(cls) -> Any:
        return Module

    def do_savepoint(self, connection: Any, name: str) -> None:
        await_only(_channel(connection).savepoint())

    def do_rollback_to_savepoint(self, connection: Any, name: str) -> None:
        # Rolling back is followed by a release in SQLAlchemy; the channel does both at once.
        await_only(_channel(connection).rollback_to())

    def do_release_savepoint(self, connection: Any, name: str) -> None:
        await_only(_channel(connection).release())

    def is_disconnect(self, e: Any, connection: Any, cursor: Any) -> bool:
        return False


def _channel(connection: Any) -> MysqlTx:
    channel: MysqlTx = connection.connection.dbapi_connection.channel
    return channel


def session_engine(channel: MysqlTx, dialect: SessionDialect) -> sa.Engine:
    """An engine for ORM sessions on a transaction that somebody else begins and ends."""
    made: Any = lambda: Connection(channel)  # noqa: E731
    return sa.Engine(NullPool(made, dialect=dialect), dialect, _URL)
