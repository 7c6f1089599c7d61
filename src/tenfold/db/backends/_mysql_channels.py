"""Reading outside of a transaction: each statement by itself, or all of a block on one state."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from tenfold.db.backends._waiting import quiet, settled
from tenfold.db.contract import Args, Channel, Rows
from tenfold.db.plan import Plan, refuse_writes
from tenfold.errors import DatabaseError

if TYPE_CHECKING:
    from tenfold.db.backends._mysql_link import Link
    from tenfold.db.backends._mysql_links import Links

_SNAPSHOT = ("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "START TRANSACTION READ ONLY")


class AutoChannel(Channel):
    """Each statement by itself, on the latest committed state."""

    __slots__ = ("_links", "detour")

    def __init__(self, links: Links) -> None:
        self._links = links
        self.detour: Callable[[Plan, Args, int], Awaitable[Rows]] | None = None
        """In a sandbox, reads have to see what is not committed."""

    async def fetch(self, plan: Plan, args: Args, limit: int) -> Rows:
        refuse_writes(plan)
        if self.detour is not None:
            return await self.detour(plan, args, limit)
        budget_s = self._links.time.statement_s
        rows = await self._links.read(lambda link: link.fetch(plan, args, budget_s()))
        return rows[:limit] if limit else rows

    async def stream(self, plan: Plan, args: Args, chunk: int) -> AsyncIterator[Rows]:
        refuse_writes(plan)
        if self.detour is not None:
            rows = await self.detour(plan, args, 0)
            for start in range(0, len(rows), chunk):
                yield rows[start : start + chunk]
            return
        async with self._links.pool.link() as link:
            async for rows in _stream(self._links, link, plan, args, chunk):
                yield rows


class SnapshotChannel(Channel):
    """Every statement on the same state: that of the first one."""

    __slots__ = ("_link", "_links", "lock")

    def __init__(self, links: Links, link: Link) -> None:
        self._links = links
        self._link = link
        self.lock = asyncio.Lock()

    async def fetch(self, plan: Plan, args: Args, limit: int) -> Rows:
        refuse_writes(plan)
        async with self.lock:
            rows = await self._link.fetch(plan, args, self._links.time.statement_s())
        return rows[:limit] if limit else rows

    async def stream(self, plan: Plan, args: Args, chunk: int) -> AsyncIterator[Rows]:
        refuse_writes(plan)
        async with self.lock:  # one statement of a snapshot at a time: a stream keeps the others waiting
            async for rows in _stream(self._links, self._link, plan, args, chunk):
                yield rows


@asynccontextmanager
async def snapshot(links: Links) -> AsyncGenerator[Channel]:
    """A connection with a read transaction for the length of the block."""
    link = await links.begun(*_SNAPSHOT)
    channel = SnapshotChannel(links, link)
    try:
        yield channel
    finally:
        cancelled = await quiet(channel.lock)
        cancelled |= await settled(asyncio.ensure_future(_end(links, link)))
    if cancelled:
        raise asyncio.CancelledError


async def _end(links: Links, link: Link) -> None:
    try:
        if not (link.doubtful or link.closed):
            await link.command("ROLLBACK", links.time.statement_timeout_s)
    except DatabaseError:
        link.doubtful = True
    finally:
        links.give(link)


async def _stream(links: Links, link: Link, plan: Plan, args: Args, chunk: int) -> AsyncIterator[Rows]:
    budget_s = links.time.statement_s
    pieces = await link.cursor(plan, args, chunk, budget_s)
    try:
        while rows := await pieces.next():
            yield rows
    finally:
        await pieces.close()
