"""Reading: ``one``, ``maybe``, ``all``, ``scalar`` and ``stream``, typed into what the caller names."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from tenfold.db.decode import Row
from tenfold.db.tracing import at_once, timed
from tenfold.errors import ManyRows, NoRow, TransactionMisuse
from tenfold.telemetry.trace import recorded

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType
    from typing import Self

    from sqlalchemy.ext.asyncio import AsyncSession

    from tenfold.db.contract import Channel, DatabaseBackend, Rows
    from tenfold.db.plan import Plan

T = TypeVar("T")
R = TypeVar("R")

STREAM_CHUNK = 500
"""Rows that ``stream`` reads at a time."""
_DECODE_SLICE = 2000
"""Rows that are decoded before other tasks get a turn."""


class Reader:
    """Reads committed data. A statement is SQLAlchemy Core, ``sa.text()`` or a select of ORM columns.

    The positional argument after it names the type of a row: a msgspec Struct, dataclass, attrs class, TypedDict,
    Pydantic model, ``dict``, ``tuple`` or a scalar for one column; without it rows are :class:`Row`. Keywords are
    the statement's parameters. Build statements once, at import, with ``sa.bindparam``: they are found by
    identity then, which saves compiling them.

    Raises :class:`~tenfold.errors.StatementTimeout` past the deadline of the context, other subclasses of
    :class:`~tenfold.errors.DatabaseError` as their docstrings say.
    """

    __slots__ = ("_backend", "_bind", "_channel")

    def __init__(self, backend: DatabaseBackend, channel: Channel) -> None:
        self._bind = backend.plans.bind
        self._channel = channel
        self._backend = backend

    @overload
    async def one(self, stmt: Any, /, **params: Any) -> Row: ...
    @overload
    async def one(self, stmt: Any, type_: type[T], /, **params: Any) -> T: ...

    async def one(self, stmt: Any, type_: Any = Row, /, **params: Any) -> Any:
        """The only row. Raises NoRow or ManyRows when there is not exactly one."""
        plan, args = self._bind(stmt, params)
        now = self._channel.fetch_now
        rows = now(plan, args, 2) if recorded() is None else at_once(now, plan, args, 2)
        if rows is None:
            rows = await timed(self._channel.fetch(plan, args, 2), plan, args)
        if len(rows) != 1:
            raise _not_one(plan, rows)
        decode = plan.decoders.get(type_) or plan.decoder(type_)
        return decode(rows[0])

    @overload
    async def maybe(self, stmt: Any, /, **params: Any) -> Row | None: ...
    @overload
    async def maybe(self, stmt: Any, type_: type[T], /, **params: Any) -> T | None: ...

    async def maybe(self, stmt: Any, type_: Any = Row, /, **params: Any) -> Any:
        """The only row, or None when there is none. Raises ManyRows."""
        plan, args = self._bind(stmt, params)
        now = self._channel.fetch_now
        rows = now(plan, args, 2) if recorded() is None else at_once(now, plan, args, 2)
        if rows is None:
            rows = await timed(self._channel.fetch(plan, args, 2), plan, args)
        if not rows:
            return None
        if len(rows) != 1:
            raise _not_one(plan, rows)
        decode = plan.decoders.get(type_) or plan.decoder(type_)
        return decode(rows[0])

    @overload
    async def all(self, stmt: Any, /, **params: Any) -> list[Row]: ...
    @overload
    async def all(self, stmt: Any, type_: type[T], /, **params: Any) -> list[T]: ...

    async def all(self, stmt: Any, type_: Any = Row, /, **params: Any) -> list[Any]:
        """Every row, in memory at once; use :meth:`stream` where there may be very many.

        Raises ManyRows for a select of more than ``database.rows_max`` (100,000).
        """
        plan, args = self._bind(stmt, params)
        most = 0 if plan.writes else self._backend.rows_max
        limit = most and most + 1
        now = self._channel.fetch_now
        rows = now(plan, args, limit) if recorded() is None else at_once(now, plan, args, limit)
        if rows is None:
            rows = await timed(self._channel.fetch(plan, args, limit), plan, args)
        if not rows:
            return []
        if most and len(rows) > most:
            raise ManyRows(
                f"more than {most:,} rows (database.rows_max). Read them with stream(), or a page at a time. "
                f"The statement: {plan.describe()}"
            )
        decode = plan.decoders.get(type_) or plan.decoder(type_)
        if len(rows) <= _DECODE_SLICE:
            return [decode(row) for row in rows]
        return await _decode_in_slices(rows, decode)

    async def scalar(self, stmt: Any, /, **params: Any) -> Any:
        """The first column of the only row. Raises NoRow or ManyRows."""
        plan, args = self._bind(stmt, params)
        now = self._channel.fetch_now
        rows = now(plan, args, 2) if recorded() is None else at_once(now, plan, args, 2)
        if rows is None:
            rows = await timed(self._channel.fetch(plan, args, 2), plan, args)
        if len(rows) != 1:
            raise _not_one(plan, rows)
        process = plan.columns[0].processor if plan.columns else None
        value = rows[0][0]
        return value if process is None else process(value)

    @property
    def session(self) -> AsyncSession:
        """An SQLAlchemy ORM session that reads as this reader does: each statement is one round trip, of the same
        consistency, with no transaction around it. What is added to it or changed is refused at the next flush."""
        from tenfold.db.session import reading_session  # the ORM costs start-up time that few need

        return reading_session(self._channel, self._backend)

    @overload
    def stream(self, stmt: Any, /, **params: Any) -> AsyncIterator[Row]: ...
    @overload
    def stream(self, stmt: Any, type_: type[T], /, **params: Any) -> AsyncIterator[T]: ...

    async def stream(self, stmt: Any, type_: Any = Row, /, **params: Any) -> AsyncIterator[Any]:
        """Row after row of one consistent state, read in pieces of 500 as the consumer asks for them.

        A connection is taken until the iteration ends; leave it early only through ``contextlib.aclosing``.
        """
        plan, args = self._bind(stmt, params)
        pieces = self._channel.stream(plan, args, STREAM_CHUNK)
        try:
            async for rows in pieces:
                decode = plan.decoders.get(type_) or plan.decoder(type_)
                for row in rows:
                    yield decode(row)
        finally:
            await cast("Any", pieces).aclose()


class ReadBlock(Reader):
    """What ``db.read()`` returns. Used directly, each statement sees a state of its own; inside
    ``async with db.read() as reader`` all statements see the same one."""

    __slots__ = ("_each", "_snapshot")

    def __init__(self, backend: DatabaseBackend, channel: Channel) -> None:
        self._bind = backend.plans.bind
        self._channel = channel
        self._backend = backend
        self._snapshot: AbstractAsyncContextManager[Channel] | None = None

    async def __aenter__(self) -> Self:
        if self._snapshot is not None:
            raise TransactionMisuse("this reader is open already. Call db.read() for another one.")
        channel = self._each = self._channel
        latest = channel is self._backend.reader()
        self._snapshot = self._backend.snapshot() if latest else channel.snapshot()
        self._channel = await self._snapshot.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._snapshot is not None
        snapshot, self._snapshot = self._snapshot, None
        self._channel = self._each
        await snapshot.__aexit__(kind, error, trace)


async def _decode_in_slices(rows: Rows, decode: Any) -> list[Any]:
    decoded: list[Any] = []
    for start in range(0, len(rows), _DECODE_SLICE):
        decoded += [decode(row) for row in rows[start : start + _DECODE_SLICE]]
        await asyncio.sleep(0)
    return decoded


def _not_one(plan: Plan, rows: Rows) -> NoRow | ManyRows:
    if rows:
        return ManyRows(f"more than one row where at most one may be. The statement: {plan.describe()}")
    return NoRow(f"no row. The statement: {plan.describe()}")
