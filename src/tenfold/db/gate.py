"""Holding what begins on a database, while what has begun goes on: for moving a running app to another one.

A held database keeps new transactions and reads waiting, without failing any, until it is bound again: to the
backend that it had, or to another one, whose dialect they are then compiled for. Whoever holds an open transaction
passes, for it would otherwise wait for itself.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from tenfold.db.decode import Row
from tenfold.db.reader import ReadBlock, Reader
from tenfold.db.tx import Tx

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from typing import Self

    from tenfold.db.contract import DatabaseBackend, Isolation
    from tenfold.db.database import Database

_POLL_S = 0.001


class Gate:
    """Closed when made, opened once."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self.waiting = 0
        """How many wait now."""
        self.waited = 0
        """How many have waited, or wait."""

    async def passage(self) -> None:
        """Wait until the gate is open."""
        self.waiting += 1
        self.waited += 1
        try:
            await self._open.wait()
        finally:
            self.waiting -= 1

    def open(self) -> None:
        """Let everybody through, in the order in which they came."""
        self._open.set()


def busy(backend: DatabaseBackend) -> int:
    """Transactions that have begun, or whose block was entered, and are not over."""
    return len(backend.open_by_task) + len(backend.ambients)


async def quiet(backend: DatabaseBackend, seconds: float) -> bool:
    """Wait until no transaction is open on ``backend``; False when one still is after ``seconds``."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while busy(backend):
        if loop.time() > until:
            return False
        await asyncio.sleep(_POLL_S)
    return True


class HeldTx(Tx):
    """A ``db.tx()`` of a held database: becomes a transaction of whatever the database is bound to next."""

    __slots__ = ("_again",)

    def __init__(self, db: Database, isolation: Isolation) -> None:
        self._db = db
        self._again: Isolation = isolation

    async def __aenter__(self) -> Self:
        await self._db.passage()
        super().__init__(self._db, self._db.backend.transaction(isolation=self._again))
        return await super().__aenter__()


async def through(reader: Reader) -> Reader:
    """``reader``, when it is known which database it reads: for who chooses SQL by the database before reading."""
    return await reader.through() if isinstance(reader, HeldReads) else reader


class HeldReads(ReadBlock):
    """A ``db.read()`` of a held database: each statement, or the whole block, waits for the gate and then is one of
    what the database is bound to."""

    __slots__ = ("_again", "_db", "_opened")

    def __init__(self, db: Database, again: Callable[[], ReadBlock]) -> None:
        self._db = db
        self._again = again

    async def through(self) -> ReadBlock:
        """Wait for the gate; answers a reader of what the database is bound to then."""
        await self._db.passage()
        return self._again()

    async def one(self, stmt: Any, type_: Any = Row, /, **params: Any) -> Any:
        return await (await self.through()).one(stmt, type_, **params)

    async def maybe(self, stmt: Any, type_: Any = Row, /, **params: Any) -> Any:
        return await (await self.through()).maybe(stmt, type_, **params)

    async def all(self, stmt: Any, type_: Any = Row, /, **params: Any) -> list[Any]:
        return await (await self.through()).all(stmt, type_, **params)

    async def scalar(self, stmt: Any, /, **params: Any) -> Any:
        return await (await self.through()).scalar(stmt, **params)

    async def stream(self, stmt: Any, type_: Any = Row, /, **params: Any) -> AsyncIterator[Any]:
        async for row in (await self.through()).stream(stmt, type_, **params):
            yield row

    async def __aenter__(self) -> Any:
        self._opened = await self.through()
        return await self._opened.__aenter__()

    async def __aexit__(self, *failure: Any) -> None:
        await self._opened.__aexit__(*failure)
