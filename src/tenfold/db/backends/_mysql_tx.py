"""One transaction on a connection of its own: from its first statement to its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from tenfold.db.backends import _mysql_returning as returning
from tenfold.db.backends._waiting import quiet, settled
from tenfold.db.contract import Args, Isolation, Rows, TxChannel
from tenfold.db.plan import Plan
from tenfold.errors import (
    DatabaseError,
    SerializationFailure,
    StatementTimeout,
    TransactionMisuse,
)

if TYPE_CHECKING:
    from tenfold.db.backends._mysql_cursor import Pieces
    from tenfold.db.backends._mysql_link import Link
    from tenfold.db.backends._mysql_links import TxLinks

R = TypeVar("R")

_NEW, _OPEN, _FAILED, _DONE = range(4)
_BEGIN = "START TRANSACTION READ WRITE"
_SERIALIZABLE = "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"


class MysqlTx(TxChannel):
    """See the module's docstring. Tasks that share the transaction take turns."""

    __slots__ = (
        "_depth", "_error", "_isolation", "_link", "_links", "_lock", "_lost", "_pieces", "_state",
    )  # fmt: skip

    def __init__(self, links: TxLinks, isolation: Isolation) -> None:
        self._links = links
        self._isolation: Isolation = isolation
        self._link: Link | None = None
        self._lock = asyncio.Lock()
        self._state = _NEW
        self._depth = 0
        self._lost = False
        """The server has no transaction any more."""
        self._error: DatabaseError | None = None
        self._pieces: list[Pieces] = []
        """Of streams that were not read to their end."""

    @property
    def started(self) -> bool:
        return self._state != _NEW

    def require_serializable(self) -> bool:
        if self._state == _NEW:
            self._isolation = "serializable"
        return self._isolation == "serializable"

    # ── statements ──

    async def fetch(self, plan: Plan, args: Args, limit: int) -> Rows:
        if isinstance(plan, returning.ReturningPlan):
            rows = await self._on_link(lambda link, s: link.returning(plan, args[0], s))
        else:
            rows = await self._on_link(lambda link, s: link.fetch(plan, args, s))
        return rows[:limit] if limit else rows

    async def run(self, plan: Plan, args: Args) -> int:
        if isinstance(plan, returning.ReturningPlan):
            return len(await self.fetch(plan, args, 0))
        return await self._on_link(lambda link, s: link.run(plan, args, s))

    async def run_many(self, plan: Plan, many: Sequence[Args]) -> int:
        if isinstance(plan, returning.ReturningPlan):
            return sum([len(await self.fetch(plan, args, 0)) for args in many])
        return await self._on_link(lambda link, s: link.run_many(plan, many, s))

    async def load(self, plan: Plan, columns: Sequence[str], many: Sequence[Args]) -> int:
        return await self._on_link(lambda link, s: link.load(plan, columns, many, s))

    async def stream(self, plan: Plan, args: Args, chunk: int) -> AsyncIterator[Rows]:
        budget_s = self._links.time.statement_s
        pieces = await self._on_link(lambda link, _: link.cursor(plan, args, chunk, budget_s))
        self._pieces.append(pieces)
        try:
            while rows := await self._on_link(lambda *_: pieces.next()):
                yield rows
        finally:
            self._pieces.remove(pieces)
            if self._state == _OPEN:
                async with self._lock:
                    await pieces.close()

    async def perform(self, sql: str, args: Args) -> Any:
        """Any statement; the driver's result (for the ORM)."""
        return await self._on_link(lambda link, s: link.perform(sql, args, s))

    async def raw(self, call: Callable[[Any], Any]) -> Any:
        return await self._on_link(lambda link, s: link.raw(call, s))

    async def _on_link(self, work: Callable[[Link, float], Coroutine[Any, Any, R]]) -> R:
        async with self._lock:
            link = await self._opened()
            try:
                return await work(link, self._links.time.statement_s())
            except DatabaseError as error:
                self._note_failure(error)
                raise
            except asyncio.CancelledError:
                self._note_failure(StatementTimeout("the statement was cancelled."))
                raise

    # ── the life of the transaction ──

    async def _opened(self) -> Link:
        if self._state == _NEW:
            before = (_SERIALIZABLE, _BEGIN) if self._isolation == "serializable" else (_BEGIN,)
            self._link = await self._links.begun(*before)
            self._state = _OPEN
        if self._state != _OPEN or self._link is None:
            raise self._unusable()
        return self._link

    async def savepoint(self) -> None:
        name = f"part{self._depth + 1}"
        await self._on_link(lambda link, s: link.command(f"SAVEPOINT {name}", s))
        self._depth += 1

    async def release(self) -> None:
        name = f"part{self._depth}"
        await self._on_link(lambda link, s: link.command(f"RELEASE SAVEPOINT {name}", s))
        self._depth -= 1

    async def rollback_to(self) -> None:
        cancelled = await quiet(self._lock)
        link = self._link
        if link is not None and not self._lost and self._state != _DONE:
            undoing = asyncio.ensure_future(self._undo_part(link))
            cancelled |= await settled(undoing)
            if (error := undoing.exception()) is not None:
                raise error
        if cancelled:
            raise asyncio.CancelledError

    async def _undo_part(self, link: Link) -> None:
        name = f"part{self._depth}"
        try:
            await link.command(f"ROLLBACK TO SAVEPOINT {name}", self._links.time.statement_timeout_s)
            await link.command(f"RELEASE SAVEPOINT {name}", self._links.time.statement_timeout_s)
        except DatabaseError as error:
            self._note_failure(error)
            raise
        self._depth -= 1
        self._state, self._error = _OPEN, None

    async def commit(self) -> bool:
        if self._state == _NEW:
            self._state = _DONE
            return False
        if self._state != _OPEN:
            error = self._unusable()
            if await self.rollback():
                raise asyncio.CancelledError from error
            raise error
        cancelled = await quiet(self._lock)
        committing = asyncio.ensure_future(self._commit())
        cancelled |= await settled(committing)
        if (failed := committing.exception()) is not None:
            if cancelled:
                raise asyncio.CancelledError from failed
            raise failed
        return cancelled

    async def _commit(self) -> None:
        link, self._link, self._state = self._link, None, _DONE
        assert link is not None
        try:
            await self._links.commit(link)
        finally:
            self._links.give(link)

    async def rollback(self) -> bool:
        if self._state in (_NEW, _DONE):
            self._state = _DONE
            return False
        cancelled = await quiet(self._lock)
        link, self._link, self._state = self._link, None, _DONE
        if link is not None:
            cancelled |= await settled(asyncio.ensure_future(self._roll_back(link)))
        return cancelled

    async def _roll_back(self, link: Link) -> None:
        try:
            if not (link.doubtful or link.closed):
                await self._links.roll_back(link)
        except DatabaseError:
            link.doubtful = True  # what was open in it ends with it
        finally:
            self._links.give(link)

    # ── failures ──

    def _note_failure(self, error: DatabaseError) -> None:
        link = self._link
        # After a deadlock the server has undone everything, savepoints included.
        self._lost = isinstance(error, SerializationFailure) or link is None or link.doubtful
        self._state, self._error = _FAILED, error

    def _unusable(self) -> TransactionMisuse:
        if self._state == _FAILED:
            return TransactionMisuse(
                f"a statement of this transaction failed before: {self._error} Nothing more can be done in it. Put "
                "what may fail into `async with tx.savepoint()`."
            )
        return TransactionMisuse("the transaction has ended. Use it only inside its `async with` block.")
