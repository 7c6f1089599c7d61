"""Those who wait for a connection: each until it is served, or its patience has ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

from tenfold._core.context import Context
from tenfold._core.fairness import WeightOf
from tenfold.db.backends._time import Time
from tenfold.db.backends._turns import Place, Turns, share
from tenfold.errors import DatabaseUnavailable, PoolExhausted

L = TypeVar("L")


class Waiters(Generic[L]):
    """The line of one pool of ``size`` connections. ``undo`` takes back what somebody was served who was cancelled in
    the same round of the loop: a connection, or None for the right to open one."""

    def __init__(
        self,
        size: int,
        wait_s: float,
        time: Time,
        weight_of: WeightOf | None,
        undo: Callable[[L | None], None],
    ) -> None:
        self.turns: Turns[L] = Turns(weight_of)
        self.waited = self.refused = 0
        self._size = size
        self._wait_s = wait_s
        self._time = time
        self._undo = undo
        self._loop: asyncio.AbstractEventLoop | None = None
        """That of who waits. It is kept, since asking for the running one costs a system call."""
        self._refuser: asyncio.TimerHandle | None = None
        """Set to when the patience of who waits ends first: one timer for all, instead of one for each."""
        self._refuse_at = float("inf")

    async def wait(self, context: Context) -> L | None:
        """A connection, or None: the right to open one. Raises DatabaseUnavailable when none comes free in time.

        This is the way of most statements of a busy process, so it makes a future and nothing else.
        """
        self.waited += 1
        context.in_line += 1
        loop = self._loop
        if loop is None or loop.is_closed():
            loop = self._loop = asyncio.get_running_loop()
        patience_s = self._time.patience_s(self._wait_s)
        waiter: asyncio.Future[L | None] = loop.create_future()
        until = loop.time() + patience_s
        place = Place(context.priority, share(context), waiter, until, patience_s)
        self.turns.push(place)
        if until < self._refuse_at:
            self._refuse_by(until)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.cancelled():
                self.turns.discard(place)
            elif waiter.exception() is None:  # served and cancelled in the same round
                self._undo(waiter.result())
            raise

    def serve(self, given: L | None) -> bool:
        """Give a connection, or the right to open one, to who is next; False when nobody waits."""
        turns = self.turns
        while turns.size:
            waiter = turns.pop().waiter
            if not waiter.done():
                waiter.set_result(given)
                return True
        return False

    def refuse_all(self) -> None:
        """The pool is closed: tell those who wait."""
        while self.turns.size:
            waiter = self.turns.pop().waiter
            if not waiter.done():
                waiter.set_exception(closing())
        if self._refuser is not None:
            self._refuser.cancel()

    def _refuse_by(self, when: float) -> None:
        if self._refuser is not None:
            self._refuser.cancel()
        self._refuse_at = when
        self._refuser = asyncio.get_running_loop().call_at(when, self._refuse_late)

    def _refuse_late(self) -> None:
        """Tell those whose patience has ended that none came free for them."""
        self._refuser, self._refuse_at = None, float("inf")
        now = asyncio.get_running_loop().time()
        late = [place for place in self.turns if place.until <= now]
        for place in late:
            self.turns.discard(place)
            if not place.waiter.done():
                self.refused += 1
                place.waiter.set_exception(_exhausted(self._size, place.patience_s))
        if self.turns.size:
            self._refuse_by(min(place.until for place in self.turns))


def closing() -> DatabaseUnavailable:
    """For who asks while the pool is closed."""
    return DatabaseUnavailable("the database is being disconnected: the process stops.")


def _exhausted(size: int, patience_s: float) -> PoolExhausted:
    return PoolExhausted(
        f"all {size} connections of this process are taken, and none came free within {patience_s:.3g} s. "
        "Hold them for a shorter time, or raise database.pool_max."
    )
