"""One transaction on the writer: from its first statement to its acknowledgement."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import apsw

from tenfold._core.context import current
from tenfold.db.backends._sqlite_errors import translate
from tenfold.db.backends._sqlite_link import note_long
from tenfold.db.backends._waiting import quiet, settled
from tenfold.db.contract import Args, Rows, TxChannel
from tenfold.db.pace import ALARM_S, INLINE_MAX_S
from tenfold.db.plan import Plan
from tenfold.errors import DatabaseError, StatementTimeout, TransactionMisuse

if TYPE_CHECKING:
    from tenfold.db.backends._sqlite_link import Link
    from tenfold.db.backends._sqlite_writer import Writer

_NEW, _OPEN, _FAILED, _DONE = range(4)


class SqliteTx(TxChannel):
    """A savepoint of the writer's open group."""

    __slots__ = (
        "_busy", "_cursors", "_depth", "_error", "_heavy", "_link", "_lock", "_lost", "_state", "_writer",
    )  # fmt: skip

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._link: Link = writer.link
        self._state = _NEW
        self._depth = 0
        self._busy = False
        """A task waits for the writer, or its statement is in the thread; its siblings wait for the lock."""
        self._lock: asyncio.Lock | None = None
        self._cursors: list[apsw.Cursor] = []
        """Of streams that were not read to their end."""
        self._heavy = False
        """Ran something slow, so undoing it may be slow too."""
        self._lost = False
        """The SQL transaction is gone already."""
        self._error: DatabaseError | None = None

    @property
    def started(self) -> bool:
        return self._state != _NEW

    # ── statements ──

    def fetch_now(self, plan: Plan, args: Args, limit: int) -> Rows | None:
        if not plan.inline or self._busy or not (self._state == _OPEN or self._open_now()):
            return None
        writer, budget_s = self._writer, self._budget_s(plan)
        try:
            rows, took_s = self._link.fetch(plan, args, limit, budget_s)
        except (apsw.Error, TypeError, OverflowError) as error:
            raise self._failed(error, plan) from error
        writer.counters.inline += 1
        if took_s > ALARM_S:
            note_long(plan, took_s, writer.counters)
        return rows

    def run_now(self, plan: Plan, args: Args) -> int | None:
        if not plan.inline or self._busy or not (self._state == _OPEN or self._open_now()):
            return None
        writer, budget_s = self._writer, self._budget_s(plan)
        try:
            changed, took_s = self._link.run(plan, args, budget_s)
        except (apsw.Error, TypeError, OverflowError) as error:
            raise self._failed(error, plan) from error
        writer.counters.inline += 1
        if took_s > ALARM_S:
            note_long(plan, took_s, writer.counters)
        return changed

    async def fetch(self, plan: Plan, args: Args, limit: int) -> Rows:
        if await self._opens_for(plan):
            at_once = self.fetch_now(plan, args, limit)
            if at_once is not None:
                return at_once
        rows: Rows
        rows, took_s = await self._timed(plan, self._link.fetch, plan, args, limit)
        plan.ran_in_thread(took_s)
        return rows

    async def run(self, plan: Plan, args: Args) -> int:
        if await self._opens_for(plan):
            at_once = self.run_now(plan, args)
            if at_once is not None:
                return at_once
        changed, took_s = await self._timed(plan, self._link.run, plan, args)
        plan.ran_in_thread(took_s)
        return changed  # type: ignore[no-any-return]

    async def run_many(self, plan: Plan, many: Sequence[Args]) -> int:
        changed: int
        fast = plan.inline and plan.cost_s * len(many) < INLINE_MAX_S
        if fast and not self._busy and (self._state == _OPEN or self._open_now()):
            budget_s = self._budget_s(plan)
            try:
                changed, took_s = self._link.run_many(plan, many, budget_s)
            except (apsw.Error, TypeError, OverflowError) as error:
                raise self._failed(error, plan) from error
            self._writer.counters.inline += 1
            if took_s > ALARM_S * len(many):
                note_long(plan, took_s / len(many), self._writer.counters)
            return changed
        changed, took_s = await self._timed(plan, self._link.run_many, plan, many)
        plan.ran_in_thread(took_s, len(many))
        return changed

    async def stream(self, plan: Plan, args: Args, chunk: int) -> AsyncIterator[Rows]:
        cursor = await self._timed(plan, self._link.open_cursor, plan, args)
        self._cursors.append(cursor)
        try:
            while rows := await self._timed(plan, self._link.piece, cursor, chunk):
                yield rows
        finally:
            self._cursors.remove(cursor)
            cursor.close(True)

    async def raw(self, call: Callable[[Any], Any]) -> Any:
        return await self._in_thread(None, call, self._link.conn)

    async def _opens_for(self, plan: Plan) -> bool:
        """Wait for the writer with a quick first statement, which then need not go to the thread."""
        if not plan.inline or self._state != _NEW:
            return False
        async with self._turn():
            await self._ensure_open(plan)
        return True

    def _budget_s(self, plan: Plan) -> float:
        """Seconds for a statement that starts now. What is late fails the transaction, as any statement that does."""
        try:
            return self._writer.time.budget_s(plan)
        except StatementTimeout as error:
            self._note_failure(error)
            raise

    async def _timed(self, plan: Plan, fn: Callable[..., Any], *args: Any) -> Any:
        """``fn(*args, seconds)`` in the thread; the seconds are those that are left once the writer is ours."""
        return await self._in_thread(plan, fn, *args, timed=True)

    async def _in_thread(
        self, plan: Plan | None, fn: Callable[..., Any], *args: Any, timed: bool = False
    ) -> Any:
        async with self._turn():
            await self._ensure_open(plan)
            if timed and plan is not None:
                args = (*args, self._budget_s(plan))
            self._heavy = True
            self._writer.counters.threaded += 1
            # Stopping a write makes SQLite undo the whole group, so with neighbours in it the statement may finish.
            group = self._writer.group
            alone = group is None or not group.members
            try:
                return await self._link.call(fn, *args, cancel=self._link.halt if alone else None)
            except (apsw.Error, TypeError, OverflowError) as error:
                raise self._failed(error, plan) from error
            except asyncio.CancelledError:
                self._note_failure(StatementTimeout("the statement was cancelled."))
                raise

    @asynccontextmanager
    async def _turn(self) -> AsyncGenerator[None]:
        """One task of the transaction at a time."""
        if self._lock is None:
            self._lock = asyncio.Lock()
        async with self._lock:
            self._busy = True
            try:
                yield
            finally:
                self._busy = False

    # ── the life of the transaction ──

    def _open_now(self) -> bool:
        if self._state != _NEW:
            raise self._unusable()
        if not self._writer.take_now():
            return False
        self._opened()
        return True

    async def _ensure_open(self, plan: Plan | None) -> None:
        if self._state == _NEW:
            await self._writer.take(alone=plan is not None and not plan.inline)
            self._opened()
        elif self._state != _OPEN:
            raise self._unusable()

    def _opened(self) -> None:
        self._state = _OPEN
        self._writer.holder = current().operation

    async def savepoint(self) -> None:
        async with self._turn():
            await self._ensure_open(None)
        self._depth += 1
        self._link.cursor.execute(f"SAVEPOINT part{self._depth}")

    async def release(self) -> None:
        if self._state != _OPEN:
            raise self._unusable()
        if await self._quiet():
            raise asyncio.CancelledError
        self._link.cursor.execute(f"RELEASE part{self._depth}")
        self._depth -= 1

    async def rollback_to(self) -> None:
        cancelled = await self._quiet()
        if not self._lost and self._state != _DONE:
            name = f"part{self._depth}"
            cancelled |= await self._undo(f"ROLLBACK TO {name}; RELEASE {name}")
            self._depth -= 1
            self._state, self._error = _OPEN, None
        if cancelled:
            raise asyncio.CancelledError

    async def commit(self) -> bool:
        if self._state == _NEW:
            self._state = _DONE
            return False
        if self._state != _OPEN:
            error = self._unusable()
            if await self.rollback():
                raise asyncio.CancelledError from error
            raise error
        cancelled = await self._quiet()
        group = self._writer.group
        self._end()
        member = self._writer.leave(keep=True)
        assert member is not None
        assert group is not None
        try:
            await member
        except asyncio.CancelledError:
            await settled(group.done)
            if group.error is not None:
                raise asyncio.CancelledError from group.error
            return True
        return cancelled

    async def rollback(self) -> bool:
        if self._state in (_NEW, _DONE):
            self._state = _DONE
            return False
        cancelled = await self._quiet()
        self._end()
        if self._lost:
            self._writer.abandon()
            return cancelled
        if self._heavy:
            cancelled |= await self._undo("ROLLBACK TO tx")
        group = self._writer.group
        self._writer.leave(keep=False)
        if group is not None and group.members and not _is_cancelled():
            # What made the caller give up may have been read from a neighbour that is not durable yet.
            cancelled |= await settled(group.done)
        return cancelled

    def _end(self) -> None:
        self._state = _DONE
        for cursor in self._cursors:
            cursor.close(True)

    async def _quiet(self) -> bool:
        """Wait until no sibling task of the transaction is in the thread. True when cancelled meanwhile."""
        return await quiet(self._lock) if self._busy and self._lock is not None else False

    async def _undo(self, sql: str) -> bool:
        if self._heavy:
            return await settled(self._link.lane.submit(self._link.do, sql))
        self._link.do(sql)
        return False

    # ── failures ──

    def _failed(self, error: Exception, plan: Plan | None) -> DatabaseError:
        self._link.drop_cursor()
        translated = translate(error, plan)
        self._note_failure(translated)
        return translated

    def _note_failure(self, error: DatabaseError) -> None:
        self._lost = self._writer.lost()
        self._state, self._error = _FAILED, error

    def _unusable(self) -> TransactionMisuse:
        if self._state == _FAILED:
            return TransactionMisuse(
                f"a statement of this transaction failed before: {self._error} Nothing more can be done in it. Put "
                "what may fail into `async with tx.savepoint()`."
            )
        return TransactionMisuse("the transaction has ended. Use it only inside its `async with` block.")


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
