"""A PEP 249 face of a transaction's channel, for ORM sessions: its statements are prepared like all others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from sqlalchemy.util import await_only

from tenfold.db.backends._mysql_dialect import Dialect
from tenfold.db.backends._mysql_tx import MysqlTx
from tenfold.db.backends._session_dbapi import BufferedCursor, Error, LentConnection, OnChannel


class Module:
    """What SQLAlchemy takes for the driver's module."""

    paramstyle = "qmark"
    apilevel = "2.0"
    threadsafety = 1
    Error = DatabaseError = OperationalError = IntegrityError = Error
    Binary = bytes


class Connection(LentConnection[MysqlTx]):
    """See :class:`LentConnection`."""

    def cursor(self, *_: Any) -> Cursor:
        return Cursor(self.channel)


class Cursor(BufferedCursor):
    """See :class:`BufferedCursor`."""

    def __init__(self, channel: MysqlTx) -> None:
        super().__init__()
        self._channel = channel

    def execute(self, sql: str, args: Sequence[Any] = ()) -> Self:
        done: Any = await_only(self._channel.perform(sql, tuple(args)))
        self.description, self.rowcount, self.lastrowid = (
            done.description,
            done.affected_rows,
            done.insert_id,
        )
        self._rows = list(done.rows or ())[::-1]
        return self


class SessionDialect(OnChannel, Dialect):  # type: ignore[misc] # the attributes are SQLAlchemy's to annotate
    """For ORM sessions."""

    supports_statement_cache = True

    def __init__(self) -> None:
        super().__init__(dbapi=Module)

    @classmethod
    def import_dbapi(cls) -> Any:
        return Module
