"""Reading beside the writer: an inline connection on the event loop, and a pool with threads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import apsw

from tenfold._core.context import current, peek
from tenfold._core.fairness import FairLine, WeightOf
from tenfold.db.backends._sqlite_errors import translate
from tenfold.db.backends._sqlite_link import Counters, Link, note_long
from tenfold.db.backends._time import Time, too_late
from tenfold.db.backends._turns import share
from tenfold.db.backends._waiting import quiet
from tenfold.db.contract import Args, Channel, Rows
from tenfold.db.pace import ALARM_S
from tenfold.db.plan import Plan, refuse_writes
from tenfold.errors import DatabaseUnavailable

INLINE_BUDGET_S = 0.0015
"""A read on the event loop is stopped after this and run again in a thread."""
INLINE_STEPS = 5_000
"""Steps of SQLite's virtual machine between two looks at the clock; about a quarter of a millisecond."""
THREAD_STEPS = 100_000
"""The same for threads, where looking means taking the interpreter's lock."""


class Readers:
    """At most ``size`` connections that read in threads, made when they are first needed. Who waits for one is served
    in turns between tenants."""

    def __init__(
        self,
        make: Callable[[str], Link],
        size: int,
        time: Time,
        counters: Counters,
        weight_of: WeightOf | None = None,
    ) -> None:
        self.inline = make("inline")
        self.counters = counters
        self.time = time
        self.now = time.clock.monotonic
        self._make = make
        self._idle: list[Link] = []
        self._made: list[Link] = [self.inline]
        self._waiting: FairLine[asyncio.Future[None]] = FairLine(weight_of)
        self._free = self._size = size

    @property
    def waiting(self) -> int:
        """How many stand in line for a connection."""
        return self._waiting.size

    @asynccontextmanager
    async def link(self) -> AsyncGenerator[Link]:
        """A connection for the length of the block. Raises DatabaseUnavailable when all are taken for too long."""
        if self._free and not self._waiting.size:
            self._free -= 1
        else:
            await self._wait()
        try:
            link = self._idle.pop() if self._idle else self._new()
            try:
                yield link
            finally:
                self._idle.append(link)
        finally:
            self._release()

    async def _wait(self) -> None:
        """Until one is free for this task."""
        self.counters.waits += 1
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        whose = share(current())
        self._waiting.push(whose, turn)
        try:
            async with asyncio.timeout(self.time.lock_s()):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self._release()  # it came in the very moment we gave up
            else:
                self._waiting.discard(whose, turn)
            if isinstance(error, TimeoutError):
                raise DatabaseUnavailable(
                    f"all {self._size} reading connections are taken. Raise database.readers, or read less at a "
                    "time."
                ) from None
            raise

    def _release(self) -> None:
        """One is free: for who is next, if anybody waits."""
        while self._waiting.size:
            turn = self._waiting.pop()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    def close(self) -> None:
        """Close every connection."""
        for link in self._made:
            link.close()

    def _new(self) -> Link:
        link = self._make(f"reader-{len(self._made)}")
        self._made.append(link)
        return link


async def fetch_in_thread(link: Link, plan: Plan, args: Args, limit: int, readers: Readers) -> Rows:
    """One statement in the link's thread, with its time limit; teaches the plan its cost."""
    readers.counters.threaded += 1
    budget_s = readers.time.budget_s(plan)
    try:
        rows, took_s = await link.call(link.fetch, plan, args, limit, budget_s, cancel=link.halt)
    except (apsw.Error, TypeError, OverflowError) as error:
        link.drop_cursor()
        raise translate(error, plan) from error
    plan.ran_in_thread(took_s)
    return rows


def fetch_inline(link: Link, plan: Plan, args: Args, limit: int, readers: Readers) -> Rows | None:
    """One statement on the event loop; None when it took too long and has to go to a thread."""
    context = peek()  # Time.budget_s, written out
    if context is not None and context.deadline is not None and readers.now() >= context.deadline:
        raise too_late(plan)
    try:
        rows, took_s = link.fetch(plan, args, limit, INLINE_BUDGET_S)
    except apsw.InterruptError:
        plan.aborted()
        readers.counters.demotions += 1
        return None
    except (apsw.Error, TypeError, OverflowError) as error:
        link.drop_cursor()
        raise translate(error, plan) from error
    readers.counters.inline += 1
    if took_s > ALARM_S:
        note_long(plan, took_s, readers.counters)
    return rows


async def pieces(link: Link, plan: Plan, args: Args, chunk: int, time: Time) -> AsyncIterator[Rows]:
    """A statement's rows in pieces, each read in the thread when it is asked for."""
    try:
        cursor = await link.call(link.open_cursor, plan, args, time.budget_s(plan), cancel=link.halt)
        try:
            while rows := await link.call(link.piece, cursor, chunk, time.budget_s(plan), cancel=link.halt):
                yield rows
        finally:
            cursor.close(True)
    except (apsw.Error, TypeError, OverflowError) as error:
        raise translate(error, plan) from error


class AutoChannel(Channel):
    """Each statement by itself, on the latest committed state."""

    __slots__ = ("_inline", "_readers", "detour")

    def __init__(self, readers: Readers) -> None:
        self._readers = readers
        self._inline = readers.inline
        self.detour: Callable[[Plan, Args, int], Awaitable[Rows]] | None = None
        """In a sandbox, reads have to see what is not committed."""

    def fetch_now(self, plan: Plan, args: Args, limit: int) -> Rows | None:
        if not plan.inline or self.detour is not None:
            return None
        return fetch_inline(self._inline, plan, args, limit, self._readers)

    async def fetch(self, plan: Plan, args: Args, limit: int) -> Rows:
        refuse_writes(plan)
        if self.detour is not None:
            return await self.detour(plan, args, limit)
        async with self._readers.link() as link:
            return await fetch_in_thread(link, plan, args, limit, self._readers)

    async def stream(self, plan: Plan, args: Args, chunk: int) -> AsyncIterator[Rows]:
        refuse_writes(plan)
        if self.detour is not None:
            rows = await self.detour(plan, args, 0)
            for start in range(0, len(rows), chunk):
                yield rows[start : start + chunk]
            return
        async with self._readers.link() as link:
            source = pieces(link, plan, args, chunk, self._readers.time)
            try:
                async for rows in source:
                    yield rows
            finally:
                await source.aclose()  # type: ignore[attr-defined] # an async generator


class SnapshotChannel(Channel):
    """Every statement on the same state: that of the first one."""

    __slots__ = ("_link", "_readers")

    def __init__(self, link: Link, readers: Readers) -> None:
        self._link = link
        self._readers = readers

    def fetch_now(self, plan: Plan, args: Args, limit: int) -> Rows | None:
        if not plan.inline or self._link.lock.locked():
            return None
        return fetch_inline(self._link, plan, args, limit, self._readers)

    async def fetch(self, plan: Plan, args: Args, limit: int) -> Rows:
        refuse_writes(plan)
        async with self._link.lock:
            return await fetch_in_thread(self._link, plan, args, limit, self._readers)

    async def stream(self, plan: Plan, args: Args, chunk: int) -> AsyncIterator[Rows]:
        refuse_writes(plan)
        async with (
            self._link.lock
        ):  # one statement of a snapshot at a time: a stream keeps the others waiting
            source = pieces(self._link, plan, args, chunk, self._readers.time)
            try:
                async for rows in source:
                    yield rows
            finally:
                await source.aclose()  # type: ignore[attr-defined] # an async generator


@asynccontextmanager
async def snapshot(readers: Readers) -> AsyncGenerator[Channel]:
    """A connection with a read transaction for the length of the block."""
    async with readers.link() as link:
        link.do("BEGIN")
        try:
            yield SnapshotChannel(link, readers)
        finally:
            cancelled = await quiet(link.lock)
            link.drop_cursor()
            link.do("ROLLBACK")
        if cancelled:
            raise asyncio.CancelledError
