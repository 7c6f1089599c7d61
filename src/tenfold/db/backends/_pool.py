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
* The connection used last is used next, so that those which a quieter time does not need grow idle and are closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar

from tenfold._core.context import Context, current
from tenfold._core.fairness import WeightOf
from tenfold.db.backends._time import Time
from tenfold.db.backends._turns import Place, Turns, share
from tenfold.errors import DatabaseUnavailable, PoolExhausted, StatementTimeout

log = logging.getLogger("tenfold.db")

IDLE_S = 300.0
"""A connection that nobody needed for so long is closed."""
RESERVE = 2
"""Connections beside a pool's own for what the framework does: a heartbeat goes on while a look hangs."""
AGE_S = 3600.0
"""An older connection is replaced when it comes back: balancers, passwords and servers change."""
TURN_S = 0.005
"""So long, and for the statement that is under way then, work that was in line keeps the connection that it got."""
_SWEEP_S = 30.0
_DRAIN_S = 10.0


class Link(ABC):
    """One connection, as the pool sees it."""

    doubtful: bool = False
    """Something went wrong, or on, that its user does not know the end of: it must not be used again."""
    stained: bool = False
    """Its session was changed by what somebody ran on it: it serves until it is given back, and nobody after that."""
    spare: bool = False
    """It belongs to the reserve of its pool."""
    opened_at: float = 0.0
    idle_since: float = 0.0
    generation: int = 0
    turn_until: float = 0.0
    """Until when it may be kept by the work that it was handed to, on the clock of its pool."""
    kept_for: Context | None = None
    """The work that has just given it back, and may ask again at once."""

    @property
    @abstractmethod
    def closed(self) -> bool:
        """The connection is gone."""

    @abstractmethod
    async def discard(self) -> None:
        """End it whatever it is doing, and stop what it is doing in the server. Bounded in time; never raises."""

    @abstractmethod
    async def close(self) -> None:
        """End it politely while it does nothing. Bounded in time; never raises."""


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
        self._wait_s = wait_s
        self._time = time
        self._idle: list[L] = []
        self._taken: set[L] = set()
        self._waiting: Turns[L] = Turns(weight_of)
        self._refuser: asyncio.TimerHandle | None = None
        """Set to when the patience of who waits ends first: one timer for all, instead of one for each."""
        self._refuse_at = float("inf")
        self.kept: list[L] = []
        """Given back, and handed on in the loop's next round unless the same work asks again before."""
        self._places = 0
        """Connections that exist, are being opened or are being closed."""
        self._generation = 0
        self._ending: set[asyncio.Task[Any]] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False
        self._came_back = asyncio.Event()
        self._uses = self._opened = self._waited = self._refused = self._dropped = 0

    def stats(self) -> dict[str, int | float]:
        """Gauges of now and counters since the start."""
        own: dict[str, int | float] = {
            "uses_total": self._uses, "connections": self._places, "connections_idle": len(self._idle), "waiting": self._waiting.size,
            "connections_opened_total": self._opened, "connections_dropped_total": self._dropped,
            "waits_total": self._waited, "exhausted_total": self._refused,
        }  # fmt: skip
        spare = {} if self._reserve is None else self._reserve.stats()
        return {name: value + spare.get(name, 0) for name, value in own.items()}

    # ── taking and giving back ──

    def take_now(self) -> L | None:
        """A connection that is idle, if nobody waits for one."""
        idle = self._idle
        while idle and not self._waiting.size:
            link = idle.pop()
            if not link.closed:
                self._taken.add(link)
                return link
            self._forget(link)
        return None

    def take_again(self, context: Context) -> L | None:
        """The connection that this work has given back in this very round of the loop, if it may have it once more."""
        for link in self.kept:
            if link.kept_for is context:
                self.kept.remove(link)
                link.kept_for = None
                if not link.closed and link.generation == self._generation:
                    return link
                self._pass_on(link, self._time.clock.monotonic())
                break
        return None

    async def take(self) -> L:
        """A connection. Raises DatabaseUnavailable when none comes free in time or the server cannot be reached."""
        return self.take_now() or await self.take_later()

    async def take_later(self) -> L:
        """As :meth:`take`, after :meth:`take_now` found none."""
        if self._closed:
            raise _closing()
        if self._places < self.size and not self._waiting.size:
            self._places += 1
            return await self._open()
        context = current()
        if context.own and self._reserve is not None:
            link = await self._take_spare(self._reserve)
            if link is not None:
                return link
        return await self._take_in_turn(context)

    async def _take_spare(self, reserve: Pool[L]) -> L | None:
        """One of the reserve; None where the server has no room for it."""
        try:
            return await reserve.take()
        except PoolExhausted:
            raise
        except DatabaseUnavailable:
            return None

    async def _take_in_turn(self, context: Context) -> L:
        """Wait for a connection. This is the way of most statements of a busy process, so it makes a future and
        nothing else."""
        self._waited += 1
        context.in_line += 1
        loop = asyncio.get_running_loop()
        patience_s = self._time.patience_s(self._wait_s)
        waiter: asyncio.Future[L | None] = loop.create_future()
        until = loop.time() + patience_s
        place = Place(context.priority, share(context), waiter, until, patience_s)
        self._waiting.push(place)
        if until < self._refuse_at:
            self._refuse_by(until)
        try:
            link = await waiter
        except asyncio.CancelledError:
            if waiter.cancelled():
                self._waiting.discard(place)
            elif waiter.exception() is None:  # served and cancelled in the same round
                self._hand_on(waiter.result())
            raise
        return link if link is not None else await self._open()

    def _refuse_by(self, when: float) -> None:
        if self._refuser is not None:
            self._refuser.cancel()
        self._refuse_at = when
        self._refuser = asyncio.get_running_loop().call_at(when, self._refuse_late)

    def _refuse_late(self) -> None:
        """Tell those whose patience has ended that none came free for them."""
        self._refuser, self._refuse_at = None, float("inf")
        now = asyncio.get_running_loop().time()
        late = [place for place in self._waiting if place.until <= now]
        for place in late:
            self._waiting.discard(place)
            if not place.waiter.done():
                self._refused += 1
                place.waiter.set_exception(_exhausted(self.size, place.patience_s))
        if self._waiting.size:
            self._refuse_by(min(place.until for place in self._waiting))

    def give(self, link: L, by: Context | None = None) -> None:
        """Take a connection back: for who is next, or to be idle; it is dropped when in doubt or old. ``by`` is named
        by who may ask for another one at once, with :meth:`take_again`."""
        if link.spare and self._reserve is not None:
            self._reserve.give(link)
            return
        self._uses += 1
        now = self._time.clock.monotonic()
        if by is not None and by.in_line > 1 and now < link.turn_until and self._may_keep(link, by):
            link.kept_for = by
            self.kept.append(link)
            if len(self.kept) == 1:
                asyncio.get_running_loop().call_soon(self._hand_on_kept)
            return
        self._pass_on(link, now)

    def drop(self, link: L) -> None:
        """Destroy a connection; its place is free as soon as the server has been told."""
        if link.spare and self._reserve is not None:
            self._reserve.drop(link)
            return
        self._dropped += 1
        self._taken.discard(link)
        self._came_back.set()
        if link.closed:
            self._forget(link)
        else:
            self._end(link, link.discard())

    def flush(self) -> None:
        """Use none of the connections there are any more: those in use end when they come back."""
        self._generation += 1
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
        while self._waiting.size:
            waiter = self._waiting.pop().waiter
            if not waiter.done():
                waiter.set_exception(_closing())
        if self._refuser is not None:
            self._refuser.cancel()

    async def _end_all(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_S):
                while self._taken:
                    self._came_back.clear()
                    await self._came_back.wait()
        for link in list(self._taken):
            self.drop(link)
        self.flush()
        if self._sweeper is not None:
            self._sweeper.cancel()
        while self._ending:
            await asyncio.wait(self._ending)

    # ── inside ──

    def _may_keep(self, link: L, context: Context) -> bool:
        return (
            self._waiting.size > 0
            and not link.doubtful
            and not link.stained
            and not self._waiting.any_before(context.priority, share(context))
        )

    def _hand_on_kept(self) -> None:
        """Those who gave them back did something else."""
        kept, self.kept = self.kept, []
        now = self._time.clock.monotonic()
        for link in kept:
            link.kept_for = None
            self._pass_on(link, now)

    def _pass_on(self, link: L, now: float) -> None:
        if link.doubtful or link.stained or self._is_old(link, now) or self._closed or link.closed:
            self.drop(link)
            return
        link.turn_until = now + TURN_S
        if self._serve(link):
            return
        self._taken.discard(link)
        link.idle_since = now
        self._idle.append(link)
        if self._sweeper is None:
            self._sweep_later()

    def _serve(self, given: L | None) -> bool:
        """Give a connection, or the right to open one, to who is next; False when nobody waits."""
        while self._waiting.size:
            waiter = self._waiting.pop().waiter
            if not waiter.done():
                waiter.set_result(given)
                return True
        return False

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
        began, left_s = self._time.clock.monotonic(), self._time.statement_s()
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
        link.opened_at = self._time.clock.monotonic()
        link.generation = self._generation
        link.spare = self._spare
        self._taken.add(link)
        return link

    def _give_unclaimed(self, opening: asyncio.Task[L]) -> None:
        if not opening.cancelled() and opening.exception() is None:
            self.give(opening.result())

    def _hand_on(self, given: L | None) -> None:
        if given is None:
            self._free_place()
        else:
            self.give(given)

    def _free_place(self) -> None:
        """One connection less: who is next may open another, and the place goes with that."""
        if not self._serve(None):
            self._places -= 1

    def _forget(self, link: L) -> None:
        """A connection that is closed already."""
        self._taken.discard(link)
        self._free_place()

    def _end(self, link: L, ending: Awaitable[None]) -> None:
        async def end() -> None:
            try:
                await ending
            finally:
                self._forget(link)

        task = asyncio.get_running_loop().create_task(end())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def _is_old(self, link: L, now: float) -> bool:
        return link.generation != self._generation or now - link.opened_at > AGE_S

    def _sweep_later(self) -> None:
        self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_S, self.sweep)

    def sweep(self) -> None:
        """Close what has been idle for too long; runs by itself while something is idle."""
        now = self._time.clock.monotonic()
        stay: list[L] = []
        for link in self._idle:
            if link.closed:
                self._forget(link)
            elif now - link.idle_since > IDLE_S or self._is_old(link, now):
                self._end(link, link.close())
            else:
                stay.append(link)
        self._idle = stay
        self._sweeper = None
        if stay and not self._closed:
            self._sweep_later()


def _closing() -> DatabaseUnavailable:
    return DatabaseUnavailable("the database is being disconnected: the process stops.")


def _exhausted(size: int, patience_s: float) -> PoolExhausted:
    return PoolExhausted(
        f"all {size} connections of this process are taken, and none came free within {patience_s:.3g} s. "
        "Hold them for a shorter time, or raise database.pool_max."
    )
