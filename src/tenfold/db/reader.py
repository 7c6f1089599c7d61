"""Reading: ``one``, ``maybe``, ``all``, ``scalar`` and ``stream``, typed into what the caller names."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from tenfold.db.decode import Row
from tenfold.db.tracing import ask, timed
from tenfold.errors import ManyRows, NoRow, StatementError, TransactionMisuse

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType
    from typing import Self

    from sqlalchemy.ext.asyncio import AsyncSession

    from tenfold.db.contract import Args, Channel, DatabaseBackend, Rows
    from tenfold.db.plan import Plan

T = TypeVar("T")
R = TypeVar("R")

STREAM_CHUNK = 500
"""Rows that ``stream`` reads at a time."""
EACH_AT_ONCE = 250
"""Executions that ``one_each`` and its like send together: their rows are in memory at once."""
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
        found = ask(self._backend, self._channel, plan, args, 2)
        rows = found if type(found) is list else await found
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
        found = ask(self._backend, self._channel, plan, args, 2)
        rows = found if type(found) is list else await found
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
        found = ask(self._backend, self._channel, plan, args, limit)
        rows = found if type(found) is list else await found
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
        found = ask(self._backend, self._channel, plan, args, 2)
        rows = found if type(found) is list else await found
        if len(rows) != 1:
            raise _not_one(plan, rows)
        process = plan.columns[0].processor if plan.columns else None
        value = rows[0][0]
        return value if process is None else process(value)

    @overload
    async def one_each(self, stmt: Any, /, **params: Sequence[Any]) -> list[Row]: ...
    @overload
    async def one_each(self, stmt: Any, type_: type[T], /, **params: Sequence[Any]) -> list[T]: ...

    async def one_each(self, stmt: Any, type_: Any = Row, /, **params: Sequence[Any]) -> list[Any]:
        """As :meth:`one`, once for each value of the parameters, in their order: ``one_each(book_by_id, Book, id=[3, 8])``.

        Every parameter is a sequence, all of the same length. PostgreSQL gets the executions in one round trip, 250 at a
        time; elsewhere they run one after another. Each of them sees what a statement by itself would see. Raises
        NoRow or ManyRows when there is not exactly one row for every value.
        """
        found = await self._run_each(stmt, type_, params, least=1, most=1)
        return [row for (row,) in found]

    @overload
    async def maybe_each(self, stmt: Any, /, **params: Sequence[Any]) -> list[Row | None]: ...
    @overload
    async def maybe_each(self, stmt: Any, type_: type[T], /, **params: Sequence[Any]) -> list[T | None]: ...

    async def maybe_each(self, stmt: Any, type_: Any = Row, /, **params: Sequence[Any]) -> list[Any]:
        """As :meth:`one_each`, with None for a value without a row. Raises ManyRows."""
        found = await self._run_each(stmt, type_, params, most=1)
        return [rows[0] if rows else None for rows in found]

    @overload
    async def all_each(self, stmt: Any, /, **params: Sequence[Any]) -> list[list[Row]]: ...
    @overload
    async def all_each(self, stmt: Any, type_: type[T], /, **params: Sequence[Any]) -> list[list[T]]: ...

    async def all_each(self, stmt: Any, type_: Any = Row, /, **params: Sequence[Any]) -> list[list[Any]]:
        """As :meth:`all`, once for each value of the parameters, like :meth:`one_each`.

        Raises ManyRows for more than ``database.rows_max`` (100,000) rows together.
        """
        return await self._run_each(stmt, type_, params)

    async def _run_each(
        self, stmt: Any, type_: Any, params: Mapping[str, Sequence[Any]], *, least: int = 0, most: int = 0
    ) -> list[list[Any]]:
        """The rows of each execution: at least and (0: any number) at most so many."""
        in_all = self._backend.rows_max
        limit = (most or in_all) and (most or in_all) + 1
        sets, found, count = _sets(params), list[list[Any]](), 0
        for start in range(0, len(sets), EACH_AT_ONCE):
            if start:
                await asyncio.sleep(0)
            plan, many = self._bound(stmt, sets[start : start + EACH_AT_ONCE])
            several = await timed(self._channel.fetch_each(plan, many, limit), plan, many[0])
            decode = plan.decoders.get(type_) or plan.decoder(type_)
            for rows in several:
                if len(rows) < least or (most and len(rows) > most):
                    raise _not_one(plan, rows, f" for the value at [{len(found)}] of {' and '.join(params)}")
                count += len(rows)
                found.append([decode(row) for row in rows])
            if not most and in_all and count > in_all:
                raise ManyRows(
                    f"more than {in_all:,} rows (database.rows_max). Ask for fewer values at a time. The statement: "
                    f"{plan.describe()}"
                )
        return found

    def _bound(self, stmt: Any, sets: Sequence[Mapping[str, Any]]) -> tuple[Plan, list[Args]]:
        """The plan, and the arguments of each execution of it. Who watches statements sees the first."""
        plan, first = self._bind(stmt, sets[0])
        bind = self._backend.plans.bind_unseen
        bound = [bind(stmt, params) for params in sets[1:]]
        if any(other is not plan for other, _ in bound):
            raise TransactionMisuse(
                "every set of parameters must have the same names, and lists for IN of the same length. The "
                f"statement: {plan.describe()}"
            )
        return plan, [first, *(args for _, args in bound)]

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


def _sets(params: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """The parameters of each execution. Raises StatementError where it is unclear how many there are."""
    if not params:
        raise StatementError(
            "each value of what? Name at least one parameter of the statement, with a sequence."
        )
    for name, values in params.items():
        if isinstance(values, str | bytes) or not isinstance(values, Sequence):
            raise StatementError(
                f"{name} is to be a sequence with a value for each execution, and is {type(values).__name__}."
            )
    lengths = {name: len(values) for name, values in params.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise StatementError(f"the parameters have different numbers of values: {told}.")
    return [dict(zip(params, values, strict=True)) for values in zip(*params.values(), strict=True)]


def _not_one(plan: Plan, rows: Rows, where: str = "") -> NoRow | ManyRows:
    if rows:
        return ManyRows(
            f"more than one row{where} where at most one may be. The statement: {plan.describe()}"
        )
    return NoRow(f"no row{where}. The statement: {plan.describe()}")
