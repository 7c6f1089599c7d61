"""SQLAlchemy engines: for ORM sessions on a transaction's connection, and blocking ones for migrations."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.pool import NullPool
from sqlalchemy.util import await_only

from tenfold.db.backends._postgresql_dialect import Dialect
from tenfold.db.backends._postgresql_errors import refused_in_words
from tenfold.db.plan import Plan

if TYPE_CHECKING:
    from tenfold.db.backends._postgresql_tx import PgTx
    from tenfold.db.backends._postgresql_url import Address

_STATEMENTS_MAX = 500
_MIGRATION_LOCK = 0x7E9F01D
"""Key of the advisory lock that a migration holds: any number that nobody else uses."""

_URL = sa.make_url("postgresql://")


class Error(Exception):
    """PEP 249."""


class Cursor:
    """PEP 249 on a transaction's channel; the rows are in memory when ``execute`` returns."""

    arraysize = 1

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._rows: list[Any] = []
        self.description: list[tuple[Any, ...]] | None = None
        self.rowcount = -1

    def execute(self, sql: str, args: Sequence[Any] = ()) -> Cursor:
        channel, plan = self._connection.channel, self._connection.statement(sql)
        rows, changed, names = await_only(channel.result(plan, tuple(args)))
        self.description = [(name, *[None] * 6) for name in names] or None
        self._rows = rows[::-1]
        self.rowcount = changed if not names or changed else len(rows)
        return self

    def executemany(self, sql: str, many: Sequence[Sequence[Any]]) -> Cursor:
        self.rowcount = 0
        for args in many:
            self.rowcount += max(self._only(sql, args), 0)
        return self

    def _only(self, sql: str, args: Sequence[Any]) -> int:
        channel, plan = self._connection.channel, self._connection.statement(sql)
        return await_only(channel.run(plan, tuple(args)))

    def fetchone(self) -> Any:
        return self._rows.pop() if self._rows else None

    def fetchmany(self, size: int | None = None) -> list[Any]:
        return [self._rows.pop() for _ in range(min(size or self.arraysize, len(self._rows)))]

    def fetchall(self) -> list[Any]:
        rows, self._rows = self._rows[::-1], []
        return rows

    def close(self) -> None:
        self._rows = []

    async def _async_soft_close(self) -> None:
        """SQLAlchemy awaits this after a statement of an asynchronous session; nothing is left open here."""


class Connection:
    """PEP 249 on a transaction that somebody else begins and ends."""

    def __init__(self, channel: PgTx, statement: Callable[[str], Plan]) -> None:
        self.channel = channel
        self.statement = statement

    def cursor(self, server_side: bool = False) -> Cursor:
        return Cursor(self)

    def commit(self) -> None: ...

    def rollback(self) -> None: ...

    def close(self) -> None: ...


class _Module:
    """What SQLAlchemy takes for the driver's module."""

    paramstyle = "numeric_dollar"
    Error = DatabaseError = OperationalError = IntegrityError = InterfaceError = Error
    InvalidCachedStatementError = Error
    Binary = bytes

    def __getattr__(self, name: str) -> Any:
        if name != "asyncpg":
            raise AttributeError(name)
        import asyncpg  # type: ignore[import-untyped]  # range and bit types ask for it

        return asyncpg


class SessionDialect(Dialect):
    """For ORM sessions: statements and savepoints are awaited on a transaction's channel, in a greenlet."""

    is_async = True
    supports_statement_cache = True
    supports_sane_multi_rowcount = True

    def __init__(self) -> None:
        super().__init__(dbapi=_Module())
        self.server_version_info = (13,)
        self._statements: OrderedDict[str, Plan] = OrderedDict()

    def statement(self, sql: str) -> Plan:
        """One plan per text, so that connections keep it prepared."""
        plan = self._statements.get(sql)
        if plan is None:
            plan = self._statements[sql] = Plan(sql, (), None, named=False)
            if len(self._statements) > _STATEMENTS_MAX:
                self._statements.popitem(last=False)
        else:
            self._statements.move_to_end(sql)
        return plan

    def on_connect(self) -> Any:
        return None

    def is_disconnect(self, e: Any, connection: Any, cursor: Any) -> bool:
        return False

    def do_savepoint(self, connection: Any, name: str) -> None:
        await_only(connection.connection.dbapi_connection.channel.savepoint())

    def do_rollback_to_savepoint(self, connection: Any, name: str) -> None:
        # Rolling back is followed by a release in SQLAlchemy; the channel does both at once.
        await_only(connection.connection.dbapi_connection.channel.rollback_to())

    def do_release_savepoint(self, connection: Any, name: str) -> None:
        await_only(connection.connection.dbapi_connection.channel.release())


def session_engine(channel: PgTx, dialect: SessionDialect) -> sa.Engine:
    """An engine for ORM sessions on a transaction that somebody else begins and ends."""
    made: Any = lambda: Connection(channel, dialect.statement)  # noqa: E731
    return sa.Engine(NullPool(made, dialect=dialect), dialect, _URL)


def sync_engine(address: Address, timeout_s: float, *, write: bool) -> sa.Engine:
    """A blocking engine on psycopg; each of its connections is a new one. Connecting raises ConfigError or
    DatabaseUnavailable."""
    import psycopg

    def connect() -> Any:
        try:
            return psycopg.connect(
                address.dsn, connect_timeout=max(int(timeout_s), 2), prepare_threshold=None,
                target_session_attrs="primary" if address.several else "any",
            )  # fmt: skip
        except psycopg.OperationalError as error:
            raise refused_in_words(str(error), address) from error

    engine = sa.create_engine(
        "postgresql+psycopg://", creator=connect, poolclass=NullPool,
        json_serializer=lambda value: msgspec.json.encode(value).decode(), json_deserializer=msgspec.json.decode,
    )  # fmt: skip
    if write:

        def exclude_other_migrations(connection: sa.Connection) -> None:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})")

        event.listen(engine, "begin", exclude_other_migrations)
    return engine
