"""Transactions that write, on the connections of the pool.

A transaction takes a connection with its first statement, and sends BEGIN and SAVEPOINT together with the statement
that follows them, and COMMIT with the last where that is known: one round trip per statement, and none besides.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from tenfold._core.failpoints import failpoints
from tenfold.db.backends._postgresql_driver import Ahead
from tenfold.db.backends._postgresql_errors import broken
from tenfold.db.backends._postgresql_positions import COMMIT_TELLING, told
from tenfold.db.backends._postgresql_work import COMMITTED, DONE, END_S, NEW, OPEN, Work
from tenfold.db.contract import Args, Rows, TxChannel
from tenfold.db.decode import Column
from tenfold.db.plan import Plan
from tenfold.errors import (
    DatabaseError,
    OutcomeUnknown,
)

if TYPE_CHECKING:
    from tenfold._core.causal import Position
    from tenfold.db.backends._pool import Pool
    from tenfold.db.backends._postgresql_driver import Part, PgLink, Prefix
    from tenfold.db.backends._postgresql_hints import Wire
    from tenfold.db.backends._time import Time


BEGIN = "BEGIN READ WRITE"
BEGIN_SERIALIZABLE = "BEGIN ISOLATION LEVEL SERIALIZABLE READ WRITE"


class PgTx(Work, TxChannel):
    """One transaction that writes. With ``tells``, its COMMIT says how far it went. ``wire`` is where hints go out, if
    they do."""

    __slots__ = ("_cancelled", "_hint", "_hinted", "_last", "_position", "_tells", "_wire")

    def __init__(
        self,
        pool: Pool[PgLink],
        time: Time,
        begin: list[Part],
        *,
        tells: bool = False,
        wire: Wire | None = None,
    ) -> None:
        super().__init__(pool, time, begin)
        self._tells = tells
        self._wire = wire
        self._hint, self._hinted = "", False
        self._last = False
        """The next statement is the last, and takes the commit along."""
        self._cancelled = False
        self._position: Position | None = None

    @property
    def position(self) -> Position | None:
        return self._position

    @property
    def started(self) -> bool:
        return self._state != NEW

    def require_serializable(self) -> bool:
        if self._state == NEW and self._pending:
            self._pending[0] = BEGIN_SERIALIZABLE
            return True
        return False

    def commit_with_next(self, hint: str = "") -> None:
        self._last = self._depth == 0 and not self._tells
        self._hint = hint

    @property
    def hinted(self) -> bool:
        return self._hinted

    def precede_next(self, plan: Plan, args: Args) -> bool:
        if self._state in (NEW, OPEN):
            self._pending.append(Ahead(plan, args))
        return True  # elsewhere the next statement says why nothing more can be done

    async def fetch(self, plan: Plan, args: Args, limit: int) -> Rows:
        if not self._last:
            return await super().fetch(plan, args, limit)
        return await self._fetch_last(plan, args, limit)

    async def _fetch_last(self, plan: Plan, args: Args, limit: int) -> Rows:
        """It is the commit too, so its outcome is waited for through cancellations."""
        await self._lock.acquire()
        try:
            link = self._link or await self._take()
            timeout_s = self._ready(plan)
            prefix, self._pending = self._pending, []
            if failpoints.on:
                failpoints.visit("db.commit.before")
            hint = self._wire.along(self._hint, link) if self._hint and self._wire else b""
            ending = link.outlasting(link.fetch_last(plan, args, limit, timeout_s, prefix, hint))
            began = self._monotonic()
            rows: Rows
            try:
                rows, tag = await ending
            except Exception as error:
                translated = self._failed(error, plan)
                assert isinstance(translated, DatabaseError)
                raise (_unknown(translated) if link.doubtful else translated) from error
            finally:
                self._cancelled = ending.cancelled
                plan.ran(self._monotonic() - began, args)
        finally:
            self._lock.release()
        if tag != "COMMIT":
            raise self._unusable()
        self._state, self._hinted = COMMITTED, bool(hint)
        if failpoints.on:
            failpoints.visit("db.commit.after")
        return rows

    async def rollback(self) -> bool:
        return await super().rollback() or self._cancelled

    async def run(self, plan: Plan, args: Args) -> int:
        await self._lock.acquire()
        try:
            link = self._link or await self._take()
            timeout_s = self._ready(plan)
            prefix, self._pending = self._pending, []
            try:
                return await link.run(plan, args, timeout_s, prefix)
            except BaseException as error:
                raise self._failed(error, plan) from error
        finally:
            self._lock.release()

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
        async def act(link: PgLink, timeout_s: float, prefix: Prefix) -> Any:
            if prefix:
                await link.run_ahead(prefix, timeout_s)
            answer = call(link.connection)
            return await answer if isawaitable(answer) else answer

        return await self._do(None, act)

    # ── parts ──

    async def savepoint(self) -> None:
        if self._state not in (NEW, OPEN):
            raise self._unusable()
        self._depth += 1
        self._pending.append(f"SAVEPOINT part{self._depth}")

    async def release(self) -> None:
        if self._state not in (NEW, OPEN):
            raise self._unusable()
        if not self._take_back(self._depth):
            self._pending.append(f"RELEASE SAVEPOINT part{self._depth}")
        self._depth -= 1

    async def rollback_to(self) -> None:
        depth, self._depth = self._depth, self._depth - 1
        if self._state == DONE:
            return
        link = self._link
        if self._take_back(depth):
            self._state, self._error = (NEW if link is None else OPEN), None
            return
        if link is None or link.closed:
            return
        async with self._lock:
            try:
                await link.command(f"ROLLBACK TO SAVEPOINT part{depth}; RELEASE SAVEPOINT part{depth}", END_S)
            except BaseException as error:
                raise self._failed(error, None) from error
            self._pending.clear()
            self._state, self._error = OPEN, None

    def _take_back(self, depth: int) -> bool:
        """Forget a savepoint that was not sent yet, with all that was to follow it."""
        savepoint = f"SAVEPOINT part{depth}"
        if savepoint not in self._pending:
            return False
        del self._pending[self._pending.index(savepoint) :]
        return True

    # ── the end ──

    async def commit(self) -> bool:
        if self._state == NEW:
            self._state = DONE
            return False
        if self._state == COMMITTED:
            self._let_go()
            return self._cancelled
        if self._state != OPEN:
            error = self._unusable()
            if await self.rollback():
                raise asyncio.CancelledError from error
            raise error
        link = self._link
        assert link is not None
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
