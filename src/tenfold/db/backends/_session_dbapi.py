"""What SQLAlchemy's ORM sessions ask of a driver (PEP 249), where a transaction of ours stands in for one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from sqlalchemy.util import await_only

if TYPE_CHECKING:
    from tenfold.db.contract import TxChannel

C = TypeVar("C", bound="TxChannel")


class Error(Exception):
    """PEP 249. A transaction never raises it: its errors are Tenfold's."""


class BufferedCursor:
    """PEP 249; the rows are in memory when ``execute`` returns, the next one last."""

    arraysize = 1

    def __init__(self) -> None:
        self._rows: list[Any] = []
        self.description: Any = None
        self.rowcount = -1
        self.lastrowid: int | None = None

    def execute(self, sql: str, args: Sequence[Any] = ()) -> Self:
        """Run a statement, and keep its rows."""
        raise NotImplementedError

    def executemany(self, sql: str, many: Sequence[Sequence[Any]]) -> Self:
        changed = 0
        for args in many:
            self.execute(sql, args)
            changed += max(self.rowcount, 0)
        self.rowcount = changed
        return self

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
        """What SQLAlchemy awaits after a statement of an asynchronous session; the rows may be asked for later."""


class LentConnection(Generic[C]):
    """PEP 249 on a transaction that somebody else begins and ends."""

    def __init__(self, channel: C) -> None:
        self.channel = channel

    def commit(self) -> None: ...

    def rollback(self) -> None: ...

    def close(self) -> None: ...


class OnChannel:
    """The part of a dialect that knows of the transaction: savepoints are awaited on its channel, in a greenlet."""

    is_async = True

    def do_savepoint(self, connection: Any, name: str) -> None:
        await_only(_channel(connection).savepoint())

    def do_rollback_to_savepoint(self, connection: Any, name: str) -> None:
        # Rolling back is followed by a release in SQLAlchemy; the channel does both at once.
        await_only(_channel(connection).rollback_to())

    def do_release_savepoint(self, connection: Any, name: str) -> None:
        await_only(_channel(connection).release())

    def is_disconnect(self, e: Any, connection: Any, cursor: Any) -> bool:
        return False


def _channel(connection: Any) -> TxChannel:
    channel: TxChannel = connection.connection.dbapi_connection.channel
    return channel
