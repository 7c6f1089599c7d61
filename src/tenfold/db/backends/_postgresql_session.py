"""SQLAlchemy engines: for ORM sessions on a transaction's connection, and blocking ones for migrations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import msgspec
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.pool import NullPool
from sqlalchemy.util import await_only

from tenfold.db.backends._postgresql_dialect import Dialect
from tenfold.db.backends._postgresql_errors import refused_in_words
from tenfold.db.backends._session_dbapi import BufferedCursor, Error, LentConnection, OnChannel, Statements

if TYPE_CHECKING:
    from tenfold.db.backends._postgresql_tx import PgTx
    from tenfold.db.backends._postgresql_url import Address

_MIGRATION_LOCK = 0x7E9F01D
"""Key of the advisory lock that a migration holds: any number that nobody else uses."""


class Cursor(BufferedCursor):
    """See :class:`BufferedCursor`."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection = connection

    def execute(self, sql: str, args: Sequence[Any] = ()) -> Self:
        channel, plan = self._connection.channel, self._connection.statements.plan(sql)
        rows, changed, names = await_only(channel.result(plan, tuple(args)))
        self.description = [(name, *[None] * 6) for name in names] or None
        self._rows = rows[::-1]
        self.rowcount = changed if not names or changed else len(rows)
        return self

    def executemany(self, sql: str, many: Sequence[Sequence[Any]]) -> Self:
        channel, plan = self._connection.channel, self._connection.statements.plan(sql)
        self.rowcount = sum([max(await_only(channel.run(plan, tuple(args))), 0) for args in many])
        return self


class Connection(LentConnection["PgTx"]):
    """See :class:`LentConnection`."""

    def __init__(self, channel: PgTx, statements: Statements) -> None:
        super().__init__(channel)
        self.statements = statements

    def cursor(self, server_side: bool = False) -> Cursor:
        return Cursor(self)


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


class SessionDialect(OnChannel, Dialect):
    """For ORM sessions."""

    supports_statement_cache = True
    supports_sane_multi_rowcount = True

    def __init__(self) -> None:
        super().__init__(dbapi=_Module())
        self.server_version_info = (13,)

    def on_connect(self) -> Any:
        return None


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
