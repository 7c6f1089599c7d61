"""A sandbox for tests: one connection with one transaction, which is rolled back at the end.

Inside, every transaction is a savepoint of it, one after another; what they commit is seen by every read.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Any

from tenfold._core.context import current
from tenfold.db.ambient import holding
from tenfold.db.backends._postgresql_tx import PgTx
from tenfold.db.contract import Args, DatabaseBackend, Rows, TxChannel
from tenfold.db.plan import Plan

if TYPE_CHECKING:
    from tenfold.db.contract import Isolation

_CHECK = Plan("SET CONSTRAINTS ALL IMMEDIATE", (), None)


class Sandbox:
    """The outer transaction, and whose turn it is in it."""

    def __init__(self, backend: DatabaseBackend, outer: PgTx) -> None:
        self.outer = outer
        self.turn = asyncio.Lock()
        self._backend = backend

    def transaction(self, isolation: Isolation) -> TxChannel:
        """A part of the outer transaction that stands for a transaction. It is alone, hence serializable."""
        return _Part(self)

    async def read(self, plan: Plan, args: Args, limit: int) -> Rows:
        """What a read outside of transactions finds."""
        task = asyncio.current_task()
        open_ = self._backend.open_by_task.get(task) if task is not None else None
        if open_ is None and (ambient := holding(current(), self._backend)) is not None:
            open_ = ambient.tx
        if open_ is not None:  # its own transaction has the turn, and would wait for itself
            return await open_.channel.fetch(plan, args, limit)
        part = self.transaction("default")
        try:
            return await part.fetch(plan, args, limit)
        finally:
            await part.rollback()


class _Part(TxChannel):
    """A transaction inside the sandbox."""

    __slots__ = ("_box", "_done", "_outer", "_started")

    def __init__(self, box: Sandbox) -> None:
        self._box = box
        self._outer = box.outer
        self._started = False
        self._done = False

    @property
    def started(self) -> bool:
        return self._started

    async def _begun(self) -> PgTx:
        if self._done:
            raise self._outer.ended()
        if not self._started:
            await self._box.turn.acquire()
            self._started = True
            await self._outer.savepoint()
        return self._outer

    async def fetch(self, plan: Plan, args: Args, limit: int) -> Rows:
        return await (await self._begun()).fetch(plan, args, limit)

    async def fetch_each(self, plan: Plan, many: Sequence[Args], limit: int) -> list[Rows]:
        return await (await self._begun()).fetch_each(plan, many, limit)

    async def stream(self, plan: Plan, args: Args, chunk: int) -> AsyncIterator[Rows]:
        async for rows in (await self._begun()).stream(plan, args, chunk):
            yield rows

    async def run(self, plan: Plan, args: Args) -> int:
        return await (await self._begun()).run(plan, args)

    async def run_many(self, plan: Plan, many: Sequence[Args]) -> int:
        return await (await self._begun()).run_many(plan, many)

    async def load(self, plan: Plan, columns: Sequence[str], many: Sequence[Args]) -> int:
        return await (await self._begun()).load(plan, columns, many)

    async def result(self, plan: Plan, args: Args) -> tuple[Rows, int, Sequence[str]]:
        return await (await self._begun()).result(plan, args)

    async def raw(self, call: Callable[[Any], Any]) -> Any:
        return await (await self._begun()).raw(call)

    async def savepoint(self) -> None:
        await (await self._begun()).savepoint()

    async def release(self) -> None:
        await self._outer.release()

    async def rollback_to(self) -> None:
        await self._outer.rollback_to()

    async def commit(self) -> bool:
        if not self._started or self._done:
            self._done = True
            return False
        try:
            await self._check_deferred()
            await self._outer.release()
        except BaseException:
            await self.rollback()
            raise
        self._end()
        return False

    async def _check_deferred(self) -> None:
        """What COMMIT would check; undone again, so that the constraints stay deferred."""
        await self._outer.savepoint()
        try:
            await self._outer.run(_CHECK, ())
        finally:
            await self._outer.rollback_to()

    async def rollback(self) -> bool:
        if self._started and not self._done:
            try:
                await self._outer.rollback_to()
            finally:
                self._end()
        self._done = True
        return False

    def _end(self) -> None:
        self._done = True
        self._box.turn.release()
