"""A PEP 249 face of apsw, and the SQLAlchemy dialects that stand on it.

SQLAlchemy and Alembic must reach the file through the same SQLite library as everything else: two libraries on
one file in one process break its POSIX locks, so the standard library's ``sqlite3`` is never used.

The types store what PostgreSQL would: an aware datetime in a ``DateTime(timezone=True)`` comes back aware and in
UTC, a ``Numeric`` comes back with its scale, and what SQLite could not give back exactly is refused.
"""

from __future__ import annotations

import datetime as dt
import decimal
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Self

import apsw
import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.sqlite.base import SQLiteCompiler, SQLiteDialect
from sqlalchemy.pool import NullPool
from sqlalchemy.util import await_only

from tenfold.db.backends._session_dbapi import BufferedCursor, Error, LentConnection, OnChannel
from tenfold.db.backends._sqlite_line import Line, begin_in_turn
from tenfold.db.backends._strict import Strict
from tenfold.db.backends._time import Time
from tenfold.db.contract import TxChannel
from tenfold.errors import StatementError

Perform = Callable[[Callable[[apsw.Connection], Any]], Any]
"""Calls a function with the connection, wherever that has to happen, and returns what it returns."""

_DIGITS_EXACT = 15
"""Decimal digits that a double keeps."""

_URL = sa.make_url("sqlite://")


class DatabaseError(Error): ...


class OperationalError(DatabaseError): ...


class IntegrityError(DatabaseError): ...


class Connection:
    """PEP 249 on one apsw connection that somebody else owns the transactions of, or on one of its own."""

    def __init__(
        self,
        perform: Perform,
        *,
        owned: apsw.Connection | None = None,
        begin: Callable[[apsw.Connection], Any] | None = None,
    ) -> None:
        self.perform = perform
        self._begin = begin
        self._owned = owned

    def cursor(self) -> Cursor:
        return Cursor(self)

    def begin(self) -> None:
        if self._begin is not None:
            self.perform(self._begin)

    def commit(self) -> None:
        if self._owned is not None and self._owned.in_transaction:
            self._owned.execute("COMMIT")

    def rollback(self) -> None:
        if self._owned is not None and self._owned.in_transaction:
            self._owned.execute("ROLLBACK")

    def close(self) -> None:
        if self._owned is not None:
            self._owned.close(True)


class Cursor(BufferedCursor):
    """See :class:`BufferedCursor`."""

    def __init__(self, connection: Connection | Lent) -> None:
        super().__init__()
        self._connection = connection

    def execute(self, sql: str, args: Sequence[Any] = ()) -> Self:
        done = self._connection.perform(lambda conn: _execute(conn, sql, tuple(args)))
        self.description, self._rows, self.rowcount, self.lastrowid = done
        self._rows.reverse()
        return self


def _execute(conn: apsw.Connection, sql: str, args: tuple[Any, ...]) -> tuple[Any, Any, int, int]:
    cursor = conn.cursor()
    description: list[Any] = []

    def learn(running: apsw.Cursor, _sql: str, _args: Any) -> bool:
        description.extend((name, *[None] * 6) for name, *_ in running.get_description())
        return True

    cursor.exec_trace = learn  # the only moment at which a result without rows has a description
    before = conn.total_changes()
    try:
        rows = cursor.execute(sql, args).fetchall()
    finally:
        cursor.close(True)
    changed = conn.changes() if conn.total_changes() != before else 0
    return tuple(description) or None, rows, changed, conn.last_insert_rowid()


class _Module:
    """What SQLAlchemy takes for the driver's module."""

    paramstyle = "qmark"
    apilevel = "2.0"
    threadsafety = 1
    Error, DatabaseError, OperationalError, IntegrityError = (
        Error,
        DatabaseError,
        OperationalError,
        IntegrityError,
    )
    sqlite_version = apsw.sqlite_lib_version()
    sqlite_version_info = tuple(int(part) for part in apsw.sqlite_lib_version().split("."))
    Binary = bytes


class _Numeric(sa.Numeric[Any]):
    """Stored as a number; a value that a double cannot keep exactly is refused."""

    def bind_processor(self, dialect: sa.Dialect) -> Any:
        quantum = None if self.scale is None else decimal.Decimal(1).scaleb(-self.scale)

        def process(value: Any) -> Any:
            if not isinstance(value, decimal.Decimal):
                return value
            if quantum is not None and value.is_finite():
                value = value.quantize(quantum, rounding=decimal.ROUND_HALF_UP)
            if not value.is_finite() or len(value.normalize().as_tuple().digits) > _DIGITS_EXACT:
                raise StatementError(
                    f"SQLite keeps {_DIGITS_EXACT} digits of a Numeric, which is too few for {value}. Store it as an "
                    "integer of the smallest unit, or as text."
                )
            return float(value)

        return process

    def result_processor(self, dialect: sa.Dialect, coltype: Any) -> Any:
        if not self.asdecimal:
            return None
        scale = self.scale

        def process(value: Any) -> Any:
            if value is None:
                return None
            return decimal.Decimal(f"{value:.{scale}f}" if scale is not None else repr(value))

        return process


class _DateTime(sa.DateTime):
    """ISO text that sorts by time: UTC for aware values, as it is for naive ones."""

    def bind_processor(self, dialect: sa.Dialect) -> Any:
        aware = self.timezone

        def process(value: Any) -> Any:
            if value is None or isinstance(value, str):
                return value
            if (value.tzinfo is not None) is not aware:
                wanted = "with a time zone" if aware else "without one"
                raise StatementError(f"{value!r} does not fit its column, which holds times {wanted}.")
            if aware:
                value = value.astimezone(dt.UTC)
            return (
                f"{value:%Y-%m-%d %H:%M:%S.%f}"
                if value.year > 999
                else value.isoformat(" ", "microseconds")[:26]
            )

        return process

    def result_processor(self, dialect: sa.Dialect, coltype: Any) -> Any:
        parse, zone = dt.datetime.fromisoformat, "+00:00" if self.timezone else ""
        return lambda value: None if value is None else parse(value + zone)


class _Binary(sa.LargeBinary):
    """apsw takes and gives bytes."""

    def bind_processor(self, dialect: sa.Dialect) -> Any:
        return None

    def result_processor(self, dialect: sa.Dialect, coltype: Any) -> Any:
        return None


class StrictCompiler(Strict, SQLiteCompiler):
    """Refuses what SQLite would store although its column is of another type."""


class ApswDialect(SQLiteDialect):
    """SQLAlchemy's SQLite dialect on apsw."""

    driver = "apsw"
    default_paramstyle = "qmark"
    statement_compiler = StrictCompiler
    supports_statement_cache = True
    supports_native_decimal = True
    colspecs: Any = {  # noqa: RUF012 - SQLAlchemy declares it like this
        **SQLiteDialect.colspecs,
        sa.Numeric: _Numeric,
        sa.DateTime: _DateTime,
        sa.LargeBinary: _Binary,
    }

    def __init__(self, **options: Any) -> None:
        options_with_module: dict[str, Any] = {"dbapi": _Module, **options}
        super().__init__(
            json_serializer=lambda value: msgspec.json.encode(value).decode(),
            json_deserializer=msgspec.json.decode,
            paramstyle="qmark",
            **options_with_module,
        )

        self.server_version_info = _Module.sqlite_version_info

    @classmethod
    def import_dbapi(cls) -> Any:
        return _Module

    def do_begin(self, dbapi_connection: Any) -> None:
        dbapi_connection.begin()

    def is_disconnect(self, e: Any, connection: Any, cursor: Any) -> bool:
        return False


class SessionDialect(OnChannel, ApswDialect):
    """For ORM sessions."""

    supports_statement_cache = True


def sync_engine(path: Path, time: Time, *, write: bool) -> sa.Engine:
    """A blocking engine; each of its connections opens the file anew."""

    def connect() -> Connection:
        conn = apsw.Connection(str(path))
        conn.set_busy_timeout(int(time.lock_timeout_s * 1000))
        # Changing a table means copying it; with the constraints on, dropping the old one would delete the rows
        # that refer to it. Migrations check the constraints at their end instead.
        conn.execute("PRAGMA foreign_keys=OFF")

        def perform(call: Callable[[apsw.Connection], Any]) -> Any:
            try:
                return call(conn)
            except apsw.ConstraintError as error:
                raise IntegrityError(str(error)) from error
            except apsw.Error as error:
                raise OperationalError(str(error)) from error

        def begin(conn: apsw.Connection) -> None:
            if not write:
                conn.execute("BEGIN")
                return
            # At once: SQLite's later upgrade from reading to writing fails whatever the busy time-out.
            with closing(Line(path)) as line:
                conn.set_busy_timeout(0)
                now = time.clock.monotonic
                begin_in_turn(conn, line, threading.Event(), now() + time.lock_timeout_s, now)

        return Connection(perform, owned=conn, begin=begin)

    made: Any = connect
    dialect = ApswDialect()
    return sa.Engine(NullPool(made, dialect=dialect), dialect, _URL)


class Lent(LentConnection[TxChannel]):
    """See :class:`LentConnection`."""

    def perform(self, call: Callable[[apsw.Connection], Any]) -> Any:
        return await_only(self.channel.raw(call))

    def cursor(self) -> Cursor:
        return Cursor(self)
