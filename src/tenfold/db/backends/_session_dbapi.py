"""What SQLAlchemy's ORM sessions ask of a driver (PEP 249), where a transaction or a reader of ours stands in for one.

A session gets a connection of SQLAlchemy's around that, without an engine or a pool of its own: their bookkeeping costs
a quarter of the calls of a small transaction.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

import sqlalchemy as sa
from sqlalchemy.pool import NullPool
from sqlalchemy.util import await_only

from tenfold.db.plan import Plan
from tenfold.errors import TransactionMisuse

if TYPE_CHECKING:
    from tenfold.db.contract import Channel, TxChannel

C = TypeVar("C", bound="Channel")

_STATEMENTS_MAX = 500


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


class Statements:
    """One plan per text, so that connections keep it prepared; the 500 used last are kept."""

    def __init__(self) -> None:
        self._plans: OrderedDict[str, Plan] = OrderedDict()

    def plan(self, sql: str) -> Plan:
        plan = self._plans.get(sql)
        if plan is None:
            plan = self._plans[sql] = Plan(sql, (), None, named=False)
            if len(self._plans) > _STATEMENTS_MAX:
                self._plans.popitem(last=False)
        else:
            self._plans.move_to_end(sql)
        return plan


class LentConnection(Generic[C]):
    """PEP 249 on a channel that somebody else begins and ends; and what SQLAlchemy's pools put around that, for which
    nothing is to be done either."""

    is_valid = True

    def __init__(self, channel: C) -> None:
        self.channel = channel

    @property
    def dbapi_connection(self) -> Self:
        return self

    def begin(self) -> None: ...

    def commit(self) -> None: ...

    def rollback(self) -> None: ...

    def close(self) -> None: ...

    def invalidate(self, *_: Any, **__: Any) -> None: ...

    def _close_special(self, *, transaction_reset: bool = False) -> None: ...


class Reading(LentConnection["Channel"]):
    """Reads, each statement by itself; on any backend, and on its copies."""

    def __init__(self, channel: Channel, statements: Statements) -> None:
        super().__init__(channel)
        self.statements = statements

    def cursor(self, server_side: bool = False) -> ReadingCursor:
        return ReadingCursor(self)


class ReadingCursor(BufferedCursor):
    """See :class:`BufferedCursor`."""

    def __init__(self, connection: Reading) -> None:
        super().__init__()
        self._connection = connection

    def execute(self, sql: str, args: Sequence[Any] = ()) -> Self:
        channel, plan = self._connection.channel, self._connection.statements.plan(sql)
        rows = channel.fetch_now(plan, tuple(args), 0)
        if rows is None:
            rows = await_only(channel.fetch(plan, tuple(args), 0))
        self.description = [(column.name, *[None] * 6) for column in plan.columns or ()] or None
        self._rows, self.rowcount = list(rows)[::-1], len(rows)
        return self


def engine_of(dialect: sa.Dialect) -> sa.Engine:
    """What sessions ask of an engine beside connections: it has none, they are lent to it (:func:`lent`). It keeps what
    it has compiled, so there is one per backend."""

    def refuse() -> Any:
        raise TransactionMisuse("this engine has no connections of its own. Use db.tx() or db.read().")

    return sa.Engine(NullPool(refuse, dialect=dialect), dialect, sa.make_url(f"{dialect.name}://"))


def lent(engine: sa.Engine, connection: LentConnection[Any]) -> sa.Connection:
    """What a session is bound to."""
    stands_in: Any = connection
    return sa.Connection(engine, connection=stands_in, _allow_revalidate=False)


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
    lent_one = connection.connection
    if isinstance(lent_one, Reading):
        raise TransactionMisuse("a session that reads has no savepoints. Use the session of a transaction.")
    channel: TxChannel = lent_one.channel
    return channel
