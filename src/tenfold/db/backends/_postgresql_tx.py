"""Transactions and reads on the connections of the pool.

A transaction takes a connection with its first statement, and sends BEGIN and SAVEPOINT together with the statement
that follows them: one with a single statement makes two round trips, a read by itself one.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from tenfold._core.failpoints import failpoints
from tenfold.db.backends._postgresql_errors import broken, too_late
from tenfold.db.backends._postgresql_positions import COMMIT_TELLING, told
from tenfold.db.backends._waiting import settled
from tenfold.db.contract import Args, Channel, Rows, TxChannel
from tenfold.db.decode import Column
from tenfold.db.plan import Plan, refuse_writes
from tenfold.errors import (
    DatabaseError,
    DatabaseUnavailable,
    OutcomeUnknown,
    SerializationFailure,
    StatementTimeout,
    TransactionMisuse,
)

if TYPE_CHECKING:
    from tenfold._core.causal import Position
    from tenfold.db.backends._pool import Pool
    from tenfold.db.backends._postgresql_driver import Manner, PgLink
    from tenfold.db.backends._time import Time

BEGIN = "BEGIN READ WRITE"
BEGIN_SERIALIZABLE = "BEGIN ISOLATION LEVEL SERIALIZABLE READ WRITE"
BEGIN_SNAPSHOT = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
BEGIN_READ = "BEGIN READ ONLY"
ALONE = "SET transaction_read_only = off"
"""In place of BEGIN, for a statement that the Sync behind it commits. (SET LOCAL and SET TRANSACTION do the same, but
have the server warn that there is no BEGIN.)"""
END_S = 5.0
"""What ends a transaction may take so long, also past its deadline: until then its locks are held."""

_NEW, _OPEN, _FAILED, _DONE = range(4)
_CONTROL = re.compile(
    r"(?:\s|--[^\n]*\n|/\*.*?\*/)*(?:begin|start|commit|end|rollback|abort|savepoint|release|discard|deallocate"
    r"|prepare\s+transaction)\b",
    re.IGNORECASE | re.DOTALL,
)


class Work(Channel):
    """Statements in one transaction; the base of what reads only and of what writes."""

    __slots__ = (
        "_depth",
        "_error",
        "_link",
        "_lock",
        "_pending",
        "_pool",
        "_portals",
        "_read_only",
        "_state",
        "_time",
    )

    def __init__(self, pool: Pool[PgLink], time: Time, begin: list[str], *, read_only: bool = False) -> None:
        self._pool = pool
        self._time = time
        self._link: PgLink | None = None
        self._state = _NEW
        self._pending = begin
        """Sent in front of the next statement."""
        self._read_only = read_only
        self._lock = asyncio.Lock()
        self._error: DatabaseError | None = None
        self._depth = 0
        self._portals = 0

    # ── statements ──

    async def fetch(self, plan: Plan, args: Args, limit: int) -> Rows:
        if self._read_only:
            refuse_writes(plan)
        async with self._lock:
            link, timeout_s = await self._ready(plan)
            prefix, self._pending = self._pending, []
            try:
                return await link.fetch(plan, args, limit, timeout_s, prefix)
            except BaseException as error:
                raise self._failed(error, plan) from error

    async def stream(self, plan: Plan, args: Args, chunk: int) -> AsyncIterator[Rows]:
        if self._read_only:
            refuse_writes(plan)
        self._portals += 1
        name = f"tenfold_{self._portals}"

        async def opened(link: PgLink, timeout_s: float, prefix: Sequence[str]) -> Any:
            return await link.open_portal(name, plan, args, timeout_s, prefix)

        portal = await self._do(plan, opened)
        try:
            while rows := await self._do(plan, lambda link, s, _: link.piece(name, portal, chunk, s)):
                yield rows
                if len(rows) < chunk:
                    break
        finally:
            link = self._link
            if self._state == _OPEN and link is not None and not link.closed:
                await self._do(plan, lambda link, s, _: link.close_portal(name, s))

    async def _do(self, plan: Plan | None, act: Callable[..., Awaitable[Any]]) -> Any:
        """``act(link, timeout_s, prefix)``, alone."""
        async with self._lock:
            link, timeout_s = await self._ready(plan)
            prefix, self._pending = self._pending, []
            try:
                return await act(link, timeout_s, prefix)
            except BaseException as error:
                raise self._failed(error, plan) from error

    async def _ready(self, plan: Plan | None) -> tuple[PgLink, float]:
        """The connection, taken if this is the first statement, and the seconds that there are."""
        if self._state == _NEW:
            self._link = self._pool.take_now() or await self._pool.take()
            self._state = _OPEN
        elif self._state != _OPEN:
            raise self._unusable()
        assert self._link is not None
        if plan is not None and plan.textual and _CONTROL.match(plan.sql):
            raise TransactionMisuse(
                "the statement begins or ends a transaction by itself. The `async with db.tx()` block does that; use "
                f"tx.savepoint() for parts. The statement: {plan.describe()}"
            )
        timeout_s = self._time.statement_s()
        if timeout_s <= 0:
            self._state, self._error = _FAILED, StatementTimeout("the deadline had passed.")
            raise too_late(plan) if plan is not None else self._error
        return self._link, timeout_s

    # ── failures ──

    def _failed(self, error: BaseException, plan: Plan | None) -> BaseException:
        link = self._link
        assert link is not None
        if isinstance(error, Exception):
            translated = link.failed(error, plan, read_only=self._read_only)
            if link.doubtful and isinstance(translated, DatabaseUnavailable) and not link.closed:
                self._pool.flush()  # a standby now: all the other connections lead there too
            self._state, self._error = _FAILED, translated
            return translated
        link.doubtful = True  # cancelled: the server has been asked to stop, and may do so later
        self._state, self._error = _FAILED, StatementTimeout("the statement was cancelled.")
        return error

    def ended(self) -> TransactionMisuse:
        """What is raised for a statement after the end."""
        return TransactionMisuse("the transaction has ended. Use it only inside its `async with` block.")

    def _unusable(self) -> TransactionMisuse:
        if self._state == _FAILED:
            return TransactionMisuse(
                f"a statement of this transaction failed before: {self._error} Nothing more can be done in it. Put "
                "what may fail into `async with tx.savepoint()`."
            )
        return self.ended()

    def _let_go(self) -> None:
        self._state = _DONE
        link, self._link = self._link, None
        if link is not None:
            link.doubtful |= link.in_transaction
            self._pool.give(link)

    async def _end(self, sql: str) -> bool:
        """Send what ends the transaction, and wait for it through cancellations; True when there was one."""
        assert self._link is not None
        link = self._link
        ending = asyncio.ensure_future(self._send_end(link, sql))
        cancelled = False
        while not ending.done():
            try:
                await asyncio.shield(ending)
            except asyncio.CancelledError:
                cancelled = True
            except Exception:  # noqa: S110 - looked at below
                pass
        try:
            ending.result()
        finally:
            self._let_go()
        return cancelled

    async def _send_end(self, link: PgLink, sql: str) -> None:
        if failpoints.on and sql != "ROLLBACK":
            failpoints.visit("db.commit.before")
        async with self._lock:
            tag = await link.command(sql, max(self._time.statement_s(), END_S))
        if failpoints.on and sql != "ROLLBACK":
            failpoints.visit("db.commit.after")
        if sql == "COMMIT" and tag != "COMMIT":
            raise self._unusable()

    async def rollback(self) -> bool:
        """Undo everything and let go. Never raises; True when it was cancelled meanwhile."""
        if self._state == _DONE or self._link is None:
            self._state = _DONE
            return False
        link = self._link
        unsaid = bool(self._pending) and self._pending[0].startswith("BEGIN")
        if link.doubtful or link.closed or unsaid:
            self._let_go()  # nothing was begun, or the connection is destroyed, and the transaction with it
            return False
        try:
            return await self._end("ROLLBACK")
        except Exception:
            link.doubtful = True
            return False


class PgTx(Work, TxChannel):
    """One transaction that writes. With ``tells``, its COMMIT says how far it went."""

    __slots__ = ("_alone", "_cancelled", "_position", "_tells")

    def __init__(self, pool: Pool[PgLink], time: Time, begin: list[str], *, tells: bool = False) -> None:
        super().__init__(pool, time, begin)
        self._tells = tells
        self._alone = False
        """It is one statement, which commits by itself."""
        self._cancelled = False
        self._position: Position | None = None

    @property
    def position(self) -> Position | None:
        return self._position

    @property
    def started(self) -> bool:
        return self._state != _NEW

    def require_serializable(self) -> bool:
        if self._state == _NEW and self._pending:
            self._pending[0] = BEGIN_SERIALIZABLE
            return True
        return False

    def only_one(self) -> None:
        if self._state == _NEW and self._pending == [BEGIN] and not self._tells:
            self._pending, self._alone = [ALONE], True

    async def fetch(self, plan: Plan, args: Args, limit: int) -> Rows:
        if not self._alone:
            return await super().fetch(plan, args, limit)
        return await self._fetch_alone(plan, args, limit)

    async def _fetch_alone(self, plan: Plan, args: Args, limit: int) -> Rows:
        """It is the commit too, so its outcome is waited for through cancellations."""
        if not self._pending:
            raise TransactionMisuse("a second statement follows where one was announced.")
        async with self._lock:
            link, timeout_s = await self._ready(plan)
            self._pending = []
            if failpoints.on:
                failpoints.visit("db.commit.before")
            sending = asyncio.ensure_future(link.fetch_alone(ALONE, plan, args, limit, timeout_s))
            self._cancelled = await settled(sending)
            try:
                rows = sending.result()
            except Exception as error:
                translated = self._failed(error, plan)
                assert isinstance(translated, DatabaseError)
                raise (_unknown(translated) if link.doubtful else translated) from error
        if failpoints.on:
            failpoints.visit("db.commit.after")
        return rows

    async def rollback(self) -> bool:
        if not self._alone or self._state == _DONE or self._link is None:
            return await super().rollback()
        self._let_go()  # the statement failed, and its transaction with it
        return self._cancelled

    async def run(self, plan: Plan, args: Args) -> int:
        async with self._lock:
            link, timeout_s = await self._ready(plan)
            prefix, self._pending = self._pending, []
            try:
                return await link.run(plan, args, timeout_s, prefix)
            except BaseException as error:
                raise self._failed(error, plan) from error

    async def run_many(self, plan: Plan, many: Sequence[Args]) -> int:
        counted = counting(plan)
        if counted is None:
            return sum([await self.run(plan, args) for args in many])
        return int(await self._do(plan, lambda link, s, prefix: link.run_many(counted, many, s, prefix)))

    async def load(self, plan: Plan, columns: Sequence[str], many: Sequence[Args]) -> int:
        return int(await self._do(plan, lambda link, s, prefix: link.load(plan, columns, many, s, prefix)))

    async def result(self, plan: Plan, args: Args) -> tuple[Rows, int, Sequence[str]]:
        """Rows, number of rows changed and names of the columns, for the ORM."""
        done: tuple[Rows, int, Sequence[str]] = await self._do(
            plan, lambda link, s, prefix: link.result(plan, args, s, prefix)
        )
        return done

    async def raw(self, call: Callable[[Any], Any]) -> Any:
        async def act(link: PgLink, timeout_s: float, prefix: Sequence[str]) -> Any:
            if prefix:
                await link.command("; ".join(prefix), timeout_s)
            answer = call(link.connection)
            return await answer if isawaitable(answer) else answer

        return await self._do(None, act)

    # ── parts ──

    async def savepoint(self) -> None:
        if self._state not in (_NEW, _OPEN):
            raise self._unusable()
        self._depth += 1
        self._pending.append(f"SAVEPOINT part{self._depth}")

    async def release(self) -> None:
        if self._state not in (_NEW, _OPEN):
            raise self._unusable()
        if not self._take_back(self._depth):
            self._pending.append(f"RELEASE SAVEPOINT part{self._depth}")
        self._depth -= 1

    async def rollback_to(self) -> None:
        depth, self._depth = self._depth, self._depth - 1
        if self._state == _DONE:
            return
        link = self._link
        if self._take_back(depth):
            self._state, self._error = (_NEW if link is None else _OPEN), None
            return
        if link is None or link.closed:
            return
        async with self._lock:
            try:
                await link.command(f"ROLLBACK TO SAVEPOINT part{depth}; RELEASE SAVEPOINT part{depth}", END_S)
            except BaseException as error:
                raise self._failed(error, None) from error
            self._pending.clear()
            self._state, self._error = _OPEN, None

    def _take_back(self, depth: int) -> bool:
        """Forget a savepoint that was not sent yet, with all that was to follow it."""
        savepoint = f"SAVEPOINT part{depth}"
        if savepoint not in self._pending:
            return False
        del self._pending[self._pending.index(savepoint) :]
        return True

    # ── the end ──

    async def commit(self) -> bool:
        if self._state == _NEW:
            self._state = _DONE
            return False
        if self._state != _OPEN:
            error = self._unusable()
            if await self.rollback():
                raise asyncio.CancelledError from error
            raise error
        link = self._link
        assert link is not None
        if self._alone:
            self._let_go()
            return self._cancelled
        if link.closed:
            self._let_go()
            raise broken("it was closed before COMMIT was sent")
        try:
            return await self._end(COMMIT_TELLING if self._tells else "COMMIT")
        except DatabaseError:
            raise
        except Exception as error:
            translated = link.failed(error, None)
            if link.doubtful:
                raise _unknown(translated) from error
            raise translated from error

    async def _send_end(self, link: PgLink, sql: str) -> None:
        await super()._send_end(link, sql)
        if sql is COMMIT_TELLING:
            self._position = told(link.reported_name)


def _unknown(error: DatabaseError) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"the connection broke at COMMIT: {error} The transaction may or may not have happened. Look for a row that "
        "it wrote before you do it again, or give the operation an Idempotency-Key."
    )


def counting(plan: Plan) -> Plan | None:
    """A plan that tells how many rows each of many executions changes; None for SQL written by hand."""
    if plan.returns or plan.many_is_one_each:
        return plan
    if not plan.writes:
        return None
    if plan.counting is None:
        counted = plan.counting = Plan(f"{plan.sql} RETURNING 1", [Column("changed")], None)
        counted.table, counted.returns = plan.table, True
    return plan.counting


# ── reading ──


class Auto(Channel):
    """Each statement by itself: one round trip."""

    __slots__ = ("_manner", "_pool", "_time", "detour")

    def __init__(self, pool: Pool[PgLink], time: Time, manner: Manner) -> None:
        self._pool = pool
        self._time = time
        self._manner = manner
        self.detour: Callable[[Plan, Args, int], Awaitable[Rows]] | None = None
        """In a sandbox, reads have to see what is not committed."""

    async def fetch(self, plan: Plan, args: Args, limit: int) -> Rows:
        if plan.writes:
            refuse_writes(plan)
        if self.detour is not None:
            return await self.detour(plan, args, limit)
        if plan.textual and self._manner.pooled:  # nothing else keeps the statement from writing
            async with self._reading() as work:
                return await work.fetch(plan, args, limit)
        link = self._pool.take_now()
        again = link is not None
        if link is None:
            link = await self._pool.take()
        timeout_s = self._time.statement_s()
        if timeout_s <= 0:
            self._pool.give(link)
            raise too_late(plan)
        try:
            rows = await link.fetch(plan, args, limit, timeout_s)
        except BaseException as error:
            translated = self._failed(link, error, plan)
            # One that was idle may be dead, or have prepared what is outdated: another can do it.
            if not again or not isinstance(translated, DatabaseUnavailable | SerializationFailure):
                raise translated from error
        else:
            self._pool.give(link)
            return rows
        return await self._once(plan, args, limit)

    async def _once(self, plan: Plan, args: Args, limit: int) -> Rows:
        link = await self._pool.take()
        try:
            rows = await link.fetch(plan, args, limit, max(self._time.statement_s(), 0.001))
        except BaseException as error:
            raise self._failed(link, error, plan) from error
        self._pool.give(link)
        return rows

    def _failed(self, link: PgLink, error: BaseException, plan: Plan) -> BaseException:
        """Gives the connection back."""
        if isinstance(error, Exception):
            translated: BaseException = link.failed(error, plan, read_only=True)
            link.doubtful |= link.in_transaction
        else:
            translated, link.doubtful = error, True  # cancelled: the server has been asked to stop
        self._pool.give(link)
        return translated

    async def stream(self, plan: Plan, args: Args, chunk: int) -> AsyncIterator[Rows]:
        if self.detour is not None:
            refuse_writes(plan)
            rows = await self.detour(plan, args, 0)
            for start in range(0, len(rows), chunk):
                yield rows[start : start + chunk]
            return
        async with self._reading() as channel:
            source = channel.stream(plan, args, chunk)
            async with contextlib.aclosing(source):  # type: ignore[type-var] # an async generator
                async for rows in source:
                    yield rows

    def _reading(self) -> AbstractAsyncContextManager[Work]:
        return reading(self._pool, self._time, self._manner.begin(BEGIN_READ))


@asynccontextmanager
async def reading(pool: Pool[PgLink], time: Time, begin: list[str]) -> AsyncGenerator[Work]:
    """A transaction that reads, for the length of the block."""
    work = Work(pool, time, begin, read_only=True)
    try:
        yield work
    finally:
        if await work.rollback():
            raise asyncio.CancelledError
