"""A pool of connections to a server, of whatever driver: capped, fair, and quick to say that it is exhausted.

* At most ``size`` connections, opened when they are first needed; one that is being closed still counts.
* Who waits is served by the priority of its context, within one priority in turns between tenants (by their weights),
  of one tenant in the order of arrival. Nobody waits longer than ``wait_s``, or than the deadline of the context allows for an answer in time: PoolExhausted (503 with
  Retry-After) says which setting to raise.
* While all of them are taken, the framework's own work (``Context.own``: heartbeats, settling, health) has up to
  ``RESERVE`` more, which are opened for it only: it is what requests and jobs themselves depend on, so it must not
  stand behind them.
* A connection that somebody left in doubt is destroyed, never handed on. The others come back as they are: the
  statements of this package leave no state in the session, so nothing has to be reset.
* Work that makes one statement after the other, each by itself, keeps its connection in between for up to
  :data:`TURN_S`, as a transaction would, where only such as it stand in line: a turn of a few statements for one place
  in line, which costs as much as a small statement. Who is more urgent, or another tenant, goes before the next one.
  Whether it asks again is known without a look: it does so before anybody else's code runs. So what it has given back
  is kept until somebody, whoever it is, asks the pool for something; where nobody does, for :data:`KEPT_S`.
* The connection used last is used next, so that those which a quieter time does not need grow idle and are closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar

from tenfold._core.context import Context, current
from tenfold._core.fairness import WeightOf
from tenfold.db.backends._link import Link
from tenfold.db.backends._time import Time
from tenfold.db.backends._turns import share
from tenfold.db.backends._waiters import Waiters, closing
from tenfold.errors import DatabaseUnavailable, PoolExhausted, StatementTimeout

log = logging.getLogger("tenfold.db")

IDLE_S = 300.0
"""A connection that nobody needed for so long is closed."""
RESERVE = 2
"""Connections beside a pool's own for what the framework does: a heartbeat goes on while a look hangs."""
AGE_S = 3600.0
"""An older connection is found by the next sweep, and replaced when it comes back: balancers, passwords and servers change."""
TURN_S = 0.005
"""So long, and for the statement that is under way then, work that was in line keeps the connection that it got."""
KEPT_S = 0.001
"""So long at most a connection is kept for work that did something else than to ask again."""
_SWEEP_S = 30.0
_DRAIN_S = 10.0


L = TypeVar("L", bound=Link)


class Pool(Generic[L]):
    """The connections of one backend. Used from one event loop only."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[L]],
        *,
        size: int,
        wait_s: float,
        time: Time,
        weight_of: WeightOf | None = None,
        spare: bool = False,
    ) -> None:
        self.size = size
        self._spare = spare
        self._reserve: Pool[L] | None = (
            None if spare else Pool(connect, size=RESERVE, wait_s=wait_s, time=time, spare=True)
        )
        self._connect = connect
        self._time = time
        self._monotonic = time.clock.monotonic
        self._idle: list[L] = []
        self._links: set[L] = set()
        """All that are open; those which are not idle are taken, or kept."""
        self._waiters: Waiters[L] = Waiters(size, wait_s, time, weight_of, self._undo)
        self._turns = self._waiters.turns
        self._kept: L | None = None
        """Given back by work that may ask again at once, :attr:`_kept_for`; one, as it asks before anybody else does."""
        self._kept_for: Context | None = None
        self._hander: asyncio.TimerHandle | None = None
        self._places = 0
        """Connections that exist, are being opened or are being closed."""
        self._flushed = 0
        """How often all connections were given up."""
        self._ending: set[asyncio.Task[Any]] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False
        self._came_back = asyncio.Event()
        self._uses = self._opened = self._dropped = 0

    def stats(self) -> dict[str, int | float]:
        """Gauges of now and counters since the start."""
        own: dict[str, int | float] = {
            "uses_total": self._uses, "connections": self._places, "connections_idle": len(self._idle), "waiting": self._turns.size,
            "connections_opened_total": self._opened, "connections_dropped_total": self._dropped,
            "waits_total": self._waiters.waited, "exhausted_total": self._waiters.refused,
        }  # fmt: skip
        spare = {} if self._reserve is None else self._reserve.stats()
        return {name: value + spare.get(name, 0) for name, value in own.items()}

    # ── taking and giving back ──

    def take_now(self, by: Context | None = None) -> L | None:
        """A connection that is idle, if nobody waits for one; or the one that ``by`` has given back a moment ago, and
        may have once more."""
        link = self._kept
        if link is not None:
            if self._kept_for is by:
                self._kept = self._kept_for = None
                return link
            self._hand_on_kept()
        idle = self._idle
        while idle and not self._turns.size:
            link = idle.pop()
            if not link.closed:
                return link
            self._forget(link)
        return None

    async def take(self) -> L:
        """A connection. Raises DatabaseUnavailable when none comes free in time or the server cannot be reached."""
        return self.take_now() or await self.take_later()

    async def take_later(self) -> L:
        """As :meth:`take`, after :meth:`take_now` found none."""
        if self._closed:
            raise closing()
        if self._places < self.size and not self._turns.size:
            self._places += 1
            return await self._open()
        context = current()
        if context.own and self._reserve is not None:
            link = await self._take_spare(self._reserve)
            if link is not None:
                return link
        link = await self._waiters.wait(context)
        return link if link is not None else await self._open()

    async def _take_spare(self, reserve: Pool[L]) -> L | None:
        """One of the reserve; None where the server has no room for it."""
        try:
            return await reserve.take()
        except PoolExhausted:
            raise
        except DatabaseUnavailable:
            return None

    def give(self, link: L, by: Context | None = None) -> float:
        """Take a connection back: for who is next, or to be idle; it is dropped when in doubt or old. ``by`` is named
        by who may ask for another one at once, with :meth:`take_now`. Answers the time, which many want to know."""
        if self._kept is not None:
            self._hand_on_kept()
        if link.spare and self._reserve is not None:
            return self._reserve.give(link)
        self._uses += 1
        now = self._monotonic()
        if by is not None and by.in_line > 1 and now < link.turn_until and self._may_keep(link, by):
            self._kept, self._kept_for = link, by
            if self._hander is None:
                self._hander = asyncio.get_running_loop().call_later(KEPT_S, self._hand_on_late)
            return now
        self._pass_on(link, now)
        return now

    def drop(self, link: L) -> None:
        """Destroy a connection; its place is free as soon as the server has been told."""
        if link.spare and self._reserve is not None:
            self._reserve.drop(link)
            return
        self._dropped += 1
        self._came_back.set()
        if link.closed:
            self._forget(link)
        else:
            self._end(link, link.discard())

    def flush(self) -> None:
        """Use none of the connections there are any more: those in use end when they come back."""
        self._flushed += 1
        for link in self._links:
            link.stained = True
        if self._kept is not None:
            self._hand_on_kept()
        while self._idle:
            link = self._idle.pop()
            self._end(link, link.close())
        if self._reserve is not None:
            self._reserve.flush()

    @asynccontextmanager
    async def link(self) -> AsyncGenerator[L]:
        """A connection for the length of the block."""
        link = await self.take()
        try:
            yield link
        except BaseException:
            self.give(link)
            raise
        self.give(link)

    async def close(self) -> None:
        """Refuse who waits, let what is in use come back for a while, then end every connection."""
        pools = [self] if self._reserve is None else [self, self._reserve]
        for pool in pools:
            pool._refuse()
        for pool in pools:
            await pool._end_all()

    def _refuse(self) -> None:
        self._closed = True
        self._waiters.refuse_all()
        if self._kept is not None:
            self._hand_on_kept()
        if self._hander is not None:
            self._hander.cancel()

    async def _end_all(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_S):
                while len(self._links) > len(self._idle):
                    self._came_back.clear()
                    await self._came_back.wait()
        for link in self._links.difference(self._idle):
            self.drop(link)
        self.flush()
        if self._sweeper is not None:
            self._sweeper.cancel()
        while self._ending:
            await asyncio.wait(self._ending)

    # ── inside ──

    def _may_keep(self, link: L, context: Context) -> bool:
        return (
            self._turns.size > 0
            and not link.doubtful
            and not link.stained
            and not self._turns.any_before(context.priority, share(context))
        )

    def _hand_on_kept(self) -> None:
        """Who gave it back did something else, so it is not expected to ask at once the next time either."""
        link, context = self._kept, self._kept_for
        assert link is not None
        assert context is not None
        self._kept = self._kept_for = None
        context.in_line = 0
        self._pass_on(link, self._monotonic())

    def _hand_on_late(self) -> None:
        self._hander = None
        if self._kept is not None:
            self._hand_on_kept()

    def _pass_on(self, link: L, now: float) -> None:
        if link.doubtful or link.stained or self._closed:
            self.drop(link)
            return
        if self._turns.size:
            if link.closed:  # of one that nobody waits for it is asked when it is taken again
                self.drop(link)
                return
            link.turn_until = now + TURN_S
            if self._waiters.serve(link):
                return
        link.idle_since = now
        self._idle.append(link)

    async def _open(self) -> L:
        """With a place taken. Who is cancelled meanwhile leaves a connection for the next: half-open ones are
        nobody's business to clean up."""
        opening = asyncio.get_running_loop().create_task(self._opened_link())
        self._ending.add(opening)
        opening.add_done_callback(self._ending.discard)
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(self._give_unclaimed)
            raise

    async def _opened_link(self) -> L:
        began, left_s, flushed = self._monotonic(), self._time.statement_s(), self._flushed
        try:
            link = await self._connect()
        except BaseException as error:
            self._free_place()
            if isinstance(error.__cause__, TimeoutError) and self._time.spent(began, left_s):
                raise StatementTimeout(
                    "the deadline left no time to make a connection to the database."
                ) from error
            raise
        self._opened += 1
        link.opened_at = self._monotonic()
        link.stained |= flushed != self._flushed  # it may lead to where the others did
        link.spare = self._spare
        self._links.add(link)
        if self._sweeper is None:
            self._sweep_later()
        return link

    def _give_unclaimed(self, opening: asyncio.Task[L]) -> None:
        if not opening.cancelled() and opening.exception() is None:
            self.give(opening.result())

    def _undo(self, given: L | None) -> None:
        """Of who was cancelled in the moment in which it was served."""
        if given is None:
            self._free_place()
        else:
            self.give(given)

    def _free_place(self) -> None:
        """One connection less: who is next may open another, and the place goes with that."""
        if not self._waiters.serve(None):
            self._places -= 1

    def _forget(self, link: L) -> None:
        """A connection that is closed already."""
        self._links.discard(link)
        self._free_place()

    def _end(self, link: L, ending: Awaitable[None]) -> None:
        self._links.discard(link)

        async def end() -> None:
            try:
                await ending
            finally:
                self._forget(link)

        task = asyncio.get_running_loop().create_task(end())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def _sweep_later(self) -> None:
        self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_S, self.sweep)

    def sweep(self) -> None:
        """Close what has been idle for too long, or is old; runs by itself while there are connections."""
        now = self._monotonic()
        for link in self._links:
            link.stained |= now - link.opened_at > AGE_S
        stay: list[L] = []
        for link in self._idle:
            if link.closed:
                self._forget(link)
            elif link.stained or now - link.idle_since > IDLE_S:
                self._end(link, link.close())
            else:
                stay.append(link)
        self._idle = stay
        self._sweeper = None
        if self._links and not self._closed:
            self._sweep_later()
