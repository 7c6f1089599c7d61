"""Reads on the connections of the pool: by itself, a statement makes one round trip."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

from tenfold._core.context import current, peek
from tenfold.db.backends._postgresql_work import Work
from tenfold.db.backends._time import too_late
from tenfold.db.contract import Args, Channel, Rows
from tenfold.db.plan import Plan, refuse_writes
from tenfold.errors import (
    DatabaseUnavailable,
    SerializationFailure,
)

if TYPE_CHECKING:
    from tenfold.db.backends._pool import Pool
    from tenfold.db.backends._postgresql_driver import Manner, Part, PgLink
    from tenfold.db.backends._time import Time


T = TypeVar("T")

BEGIN_SNAPSHOT = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
BEGIN_READ = "BEGIN READ ONLY"


class Auto(Channel):
    """Each statement by itself: one round trip."""

    __slots__ = ("_manner", "_monotonic", "_pool", "_time", "detour")

    def __init__(self, pool: Pool[PgLink], time: Time, manner: Manner) -> None:
        self._pool = pool
        self._time = time
        self._monotonic = time.clock.monotonic
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
        pool, context = self._pool, peek() or current()
        link = pool.take_now(context)
        again = link is not None
        if link is None:
            link = await pool.take_later()
        began, deadline = self._monotonic(), context.deadline
        timeout_s = self._time.statement_timeout_s if deadline is None else deadline - began
        if timeout_s <= 0:
            pool.give(link)
            raise too_late(plan)
        try:
            rows = await link.fetch(plan, args, limit, timeout_s)
        except BaseException as error:
            plan.ran(self._monotonic() - began, args)
            translated = self._failed(link, error, plan)
            # One that was idle may be dead, or have prepared what is outdated: another can do it.
            if not again or not isinstance(translated, DatabaseUnavailable | SerializationFailure):
                raise translated from error
        else:
            plan.ran(pool.give(link, context) - began, args)
            return rows
        return await self._once(plan, lambda link, s: link.fetch(plan, args, limit, s))

    async def fetch_each(self, plan: Plan, many: Sequence[Args], limit: int) -> list[Rows]:
        refuse_writes(plan)
        if self.detour is not None:
            return await super().fetch_each(plan, many, limit)
        if self._manner.pooled:
            async with self._reading() as work:
                return await work.fetch_each(plan, many, limit)
        link = self._pool.take_now()

        def act(link: PgLink, timeout_s: float) -> Awaitable[list[Rows]]:
            return link.fetch_each(plan, many, limit, timeout_s)

        if link is not None:
            try:
                return await self._on(link, plan, act)
            except (DatabaseUnavailable, SerializationFailure):
                pass  # as above: it was idle
        return await self._once(plan, act)

    async def _once(self, plan: Plan, act: Callable[[PgLink, float], Awaitable[T]]) -> T:
        return await self._on(await self._pool.take(), plan, act)

    async def _on(self, link: PgLink, plan: Plan, act: Callable[[PgLink, float], Awaitable[T]]) -> T:
        """``act(link, timeout_s)``, and the connection is given back."""
        timeout_s = self._time.statement_s()
        if timeout_s <= 0:
            self._pool.give(link)
            raise too_late(plan)
        try:
            found = await act(link, timeout_s)
        except BaseException as error:
            raise self._failed(link, error, plan) from error
        self._pool.give(link)
        return found

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
async def reading(pool: Pool[PgLink], time: Time, begin: list[Part]) -> AsyncGenerator[Work]:
    """A transaction that reads, for the length of the block."""
    work = Work(pool, time, begin, read_only=True)
    try:
        yield work
    finally:
        if await work.rollback():
            raise asyncio.CancelledError
