"""One load per key at a time, shared by everyone who asks meanwhile.

A load runs in a task of its own: a waiter that is cancelled leaves the others and the load alone, and the
load's result serves the next reader even when nobody waits any more. Its time is bounded by its own limit.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, Generic, TypeVar

from tenfold._core.causal import NEWEST
from tenfold._core.clock import Clock
from tenfold._core.context import current, enter
from tenfold._core.tasks import end_tasks
from tenfold.cache.policy import Fill, Purpose
from tenfold.errors import DeadlineExceeded, Unavailable

T = TypeVar("T")


class Flight(Generic[T]):
    """A load that is under way."""

    __slots__ = ("begun", "fenced", "fill", "purpose", "tags", "task", "where")

    def __init__(self, tags: tuple[str, ...], where: str, purpose: Purpose = Purpose.READ) -> None:
        self.tags = tags
        self.where = where
        """What is loaded, for messages."""
        self.purpose = purpose
        self.begun = False
        """Set before anything is asked: what a flight finds is at least as new as those who joined it earlier."""
        self.fill: Fill | None = None
        """Set when the load begins."""
        self.fenced = False
        """Set when the load ended after something had invalidated it."""
        self.task: asyncio.Task[T]

    def outdated(self, seen: int) -> bool:
        """Whether the value, now loaded, may be older than an invalidation that a waiter had ``seen``."""
        return self.fenced and self.fill is not None and self.fill.epoch < seen

    async def wait(self) -> T:
        """The loaded value or the loader's error. Cancelling a waiter does not cancel the load.

        Raises DeadlineExceeded when the load took too long, Unavailable when it was cancelled.
        """
        try:
            return await asyncio.shield(self.task)
        except asyncio.CancelledError:
            waiter = asyncio.current_task()
            if self.task.cancelled() and waiter is not None and not waiter.cancelling():
                raise Unavailable(f"{self.where}: the load was cancelled; ask again.") from None
            raise


_loading: ContextVar[bool] = ContextVar("tenfold_cache_loading", default=False)


class LoadGate:
    """At most ``loads_max`` loads at a time in this process, first come, first served.

    A fleet that starts with empty caches would otherwise ask its database for everything at once. A load inside
    of a load takes no place of its own: with all places taken by loads that wait for theirs, none would end.
    """

    def __init__(self, loads_max: int) -> None:
        self._free = loads_max
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        """Loads that wait for a place."""
        return len(self._waiting)

    async def enter(self) -> bool:
        """Wait for a place; returns whether one was taken, to be handed to :meth:`leave`."""
        if _loading.get():
            return False
        if self._free > 0:
            self._free -= 1
        else:
            await self._turn()
        _loading.set(True)  # in the task of this flight, which ends with its load
        return True

    def leave(self, taken: bool) -> None:
        """The load has ended."""
        if taken:
            self._pass_on()

    async def _turn(self) -> None:
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            await place
        except BaseException:
            if place.done() and not place.cancelled():
                self._pass_on()  # the place was given to us in the moment of our end
            else:
                self._waiting.remove(place)
            raise

    def _pass_on(self) -> None:
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                return
        self._free += 1


class Flights:
    """The loads that are under way, by key."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._by_key: dict[str, Flight[Any]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    def get(self, key: str) -> Flight[Any] | None:
        """The load that newcomers join, if one is under way."""
        return self._by_key.get(key)

    def start(
        self, key: str, flight: Flight[T], work: Callable[[Flight[T]], Awaitable[T]], timeout_s: float
    ) -> None:
        """Begin a load; newcomers join it from now on instead of any earlier one of the same key."""
        flight.task = asyncio.create_task(self._run(key, flight, work, timeout_s))
        self._by_key[key] = flight
        self._tasks.add(flight.task)
        flight.task.add_done_callback(self._landed)

    async def stop(self) -> None:
        """Cancel every load; their waiters get Unavailable."""
        tasks = tuple(self._tasks)
        self._by_key.clear()
        await end_tasks(*tasks)

    async def _run(
        self, key: str, flight: Flight[T], work: Callable[[Flight[T]], Awaitable[T]], timeout_s: float
    ) -> T:
        # The load belongs to everyone who waits for it. So it does not inherit the deadline of the caller who
        # came first, nor (a child Context carries no state) the transaction that caller may have open:
        # uncommitted data must not enter the cache. Nor must what a replica has not yet heard of: the entry would
        # outlive the invalidation that made room for it.
        enter(current().child(deadline=self._clock.monotonic() + timeout_s, causal=NEWEST))
        limit = asyncio.timeout(timeout_s)
        try:
            async with limit:
                return await work(flight)
        except TimeoutError:
            if not limit.expired():
                raise
            raise DeadlineExceeded(f"{flight.where}: loading took longer than {timeout_s:g} s.") from None
        finally:
            if self._by_key.get(key) is flight:
                del self._by_key[key]

    def _landed(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # counts as looked at, also when every waiter is gone
