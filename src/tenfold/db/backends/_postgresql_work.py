"""Statements in one transaction of PostgreSQL, which takes a connection with the first of them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from tenfold._core.failpoints import failpoints
from tenfold.db.backends._time import too_late
from tenfold.db.contract import Args, Channel, Rows
from tenfold.db.plan import Plan, refuse_writes
from tenfold.errors import (
    DatabaseError,
    DatabaseUnavailable,
    StatementTimeout,
    TransactionMisuse,
)

if TYPE_CHECKING:
    from tenfold.db.backends._pool import Pool
    from tenfold.db.backends._postgresql_driver import Part, PgLink, Prefix
    from tenfold.db.backends._time import Time

END_S = 5.0
"""What ends a transaction may take so long, also past its deadline: until then its locks are held."""

NEW, OPEN, FAILED, COMMITTED, DONE = range(5)
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
        "_monotonic",
        "_pending",
        "_pool",
        "_portals",
        "_read_only",
        "_state",
        "_time",
    )

    def __init__(self, pool: Pool[PgLink], time: Time, begin: list[Part], *, read_only: bool = False) -> None:
        self._pool = pool
        self._time = time
        self._monotonic = time.clock.monotonic
        self._link: PgLink | None = None
        self._state = NEW
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
        await self._lock.acquire()
        try:
            link = self._link or await self._take()
            timeout_s = self._ready(plan)
            prefix, self._pending = self._pending, []
            began = self._monotonic()
            try:
                return await link.fetch(plan, args, limit, timeout_s, prefix)
            except BaseException as error:
                raise self._failed(error, plan) from error
            finally:
                plan.ran(self._monotonic() - began, args)
        finally:
            self._lock.release()

    async def fetch_each(self, plan: Plan, many: Sequence[Args], limit: int) -> list[Rows]:
        if self._read_only:
            refuse_writes(plan)
        found: list[Rows] = await self._do(
            plan, lambda link, s, prefix: link.fetch_each(plan, many, limit, s, prefix)
        )
        return found

    async def stream(self, plan: Plan, args: Args, chunk: int) -> AsyncIterator[Rows]:
        if self._read_only:
            refuse_writes(plan)
        self._portals += 1
        name = f"tenfold_{self._portals}"

        async def opened(link: PgLink, timeout_s: float, prefix: Prefix) -> Any:
            return await link.open_portal(name, plan, args, timeout_s, prefix)

        portal = await self._do(plan, opened)
        try:
            while rows := await self._do(plan, lambda link, s, _: link.piece(name, portal, chunk, s)):
                yield rows
                if len(rows) < chunk:
                    break
        finally:
            link = self._link
            if self._state == OPEN and link is not None and not link.closed:
                await self._do(plan, lambda link, s, _: link.close_portal(name, s))

    async def _do(self, plan: Plan | None, act: Callable[..., Awaitable[Any]]) -> Any:
        """``act(link, timeout_s, prefix)``, alone."""
        async with self._lock:
            link = self._link or await self._take()
            timeout_s = self._ready(plan)
            prefix, self._pending = self._pending, []
            try:
                return await act(link, timeout_s, prefix)
            except BaseException as error:
                raise self._failed(error, plan) from error

    async def _take(self) -> PgLink:
        """The connection, for the first statement."""
        if self._state != NEW:
            raise self._unusable()
        link = self._link = self._pool.take_now() or await self._pool.take_later()
        self._state = OPEN
        return link

    def _ready(self, plan: Plan | None) -> float:
        """The seconds that there are for a statement, right before it."""
        if self._state != OPEN:
            raise self._unusable()
        if plan is not None and plan.textual and _CONTROL.match(plan.sql):
            raise TransactionMisuse(
                "the statement begins or ends a transaction by itself. The `async with db.tx()` block does that; use "
                f"tx.savepoint() for parts. The statement: {plan.describe()}"
            )
        timeout_s = self._time.statement_s()
        if timeout_s <= 0:
            self._state, self._error = FAILED, StatementTimeout("the deadline had passed.")
            raise too_late(plan) if plan is not None else self._error
        return timeout_s

    # ── failures ──

    def _failed(self, error: BaseException, plan: Plan | None) -> BaseException:
        link = self._link
        assert link is not None
        if isinstance(error, Exception):
            translated = link.failed(error, plan, read_only=self._read_only)
            if link.doubtful and isinstance(translated, DatabaseUnavailable) and not link.closed:
                self._pool.flush()  # a standby now: all the other connections lead there too
            self._state, self._error = FAILED, translated
            return translated
        link.doubtful = True  # cancelled: the server has been asked to stop, and may do so later
        self._state, self._error = FAILED, StatementTimeout("the statement was cancelled.")
        return error

    def ended(self) -> TransactionMisuse:
        """What is raised for a statement after the end."""
        return TransactionMisuse("the transaction has ended. Use it only inside its `async with` block.")

    def _unusable(self) -> TransactionMisuse:
        if self._state == FAILED:
            return TransactionMisuse(
                f"a statement of this transaction failed before: {self._error} Nothing more can be done in it. Put "
                "what may fail into `async with tx.savepoint()`."
            )
        if self._state == COMMITTED:
            return TransactionMisuse("a statement follows the one that was announced as the last.")
        return self.ended()

    def _let_go(self) -> None:
        self._state = DONE
        link, self._link = self._link, None
        if link is not None:
            link.doubtful |= link.in_transaction
            self._pool.give(link)

    async def _end(self, sql: str) -> bool:
        """Send what ends the transaction, and wait for it through cancellations; True when there was one."""
        assert self._link is not None
        link = self._link
        ending = link.outlasting(self._send_end(link, sql))
        try:
            await ending
        finally:
            self._let_go()
        return ending.cancelled

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
        if self._state == DONE or self._link is None:
            self._state = DONE
            return False
        link = self._link
        if link.doubtful or link.closed or not link.in_transaction:
            self._let_go()  # nothing was begun, or it has ended, or the connection is destroyed and it with that
            return False
        try:
            return await self._end("ROLLBACK")
        except Exception:
            link.doubtful = True
            return False
