"""The slow way of a read: judge what is there, join a load or start one, look into the store before."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from tenfold._core.clock import Clock
from tenfold.cache.contract import CacheRegion, CacheStats
from tenfold.cache.flight import Flight, Flights, LoadGate
from tenfold.cache.load import Found, Load, Unshared
from tenfold.cache.policy import (
    NEGATIVE_ERRORS,
    REFRESH_PAUSE_S,
    Entry,
    Freshness,
    Purpose,
    absence_of,
    again,
    entry_of,
    judge,
)
from tenfold.telemetry import names
from tenfold.telemetry.trace import span

log = logging.getLogger("tenfold.cache")


class Misses(ABC):
    """What :class:`~tenfold.cache.cache.Cache` does when no fresh entry is in this process."""

    name: str
    strict: bool
    load_timeout_s: float
    stats: CacheStats
    monotonic: Callable[[], float]
    _gate: LoadGate
    _shared: bool

    @abstractmethod
    def _parts(self) -> tuple[CacheRegion, Clock, Flights, float]:
        """Region, clock, flights and the ceiling of any life; raises NotBound."""

    async def load(self, load: Load, *, now: bool = False) -> Any:
        """The value by the slow way: judge, join or start a load. ``now`` loads whatever is stored."""
        asks_store = self._shared and (load.strict or self.strict)
        purpose = Purpose.RELOAD if now else Purpose.STRICT if asks_store else Purpose.READ
        own = now
        while True:
            region = self._parts()[0]
            if not (own or asks_store):
                time = self.monotonic()
                entry = region.look(load.key, time)
                freshness = judge(entry, time)
                if entry is not None and freshness is not Freshness.EXPIRED:
                    return self._served(entry, freshness, load)
            seen = region.epoch
            joined = None if own else self._joinable(load, begun=not asks_store)
            flight = joined or self._start(load, purpose)
            try:
                value = await flight.wait()
            except Exception:
                if not flight.outdated(seen):
                    self.stats.misses += not now
                    raise
                value = None
            if flight.outdated(seen):
                # The load we joined began before an invalidation that had happened when we asked.
                own = True
            elif not isinstance(value, Found):
                self.stats.misses += not now
                if isinstance(value, Unshared):
                    return await self._alone(load) if joined else value.value
                return value
            elif (freshness := judge(value.entry, self.monotonic())) is not Freshness.EXPIRED:
                return self._served(value.entry, freshness, load)

    def _served(self, entry: Entry, freshness: Freshness, load: Load) -> Any:
        if freshness is Freshness.STALE:
            self.stats.stale += 1
            now = self.monotonic()
            if entry.retry_at <= now and self._joinable(load) is None:
                entry.retry_at = now + REFRESH_PAUSE_S
                self._start(load, Purpose.REFRESH).task.add_done_callback(self._refreshed)
            return entry.value
        self.stats.hits += 1
        if entry.error is not None:
            raise again(entry.error)
        return entry.value

    def _joinable(self, load: Load, *, begun: bool = True) -> Flight[Any] | None:
        """The load of this key that is under way, unless something invalidated it already.

        A strict read joins none that has ``begun``: the store may have changed since. Where the store has the
        stale value that is being replaced, it is looked up there rather than waited for.
        """
        region, _, flights, _ = self._parts()
        flight = flights.get(load.key)
        if flight is None or flight.fill is None:
            return flight if flight is None or begun or not flight.begun else None
        if not begun or (self._shared and flight.purpose is Purpose.REFRESH):
            return None
        return None if region.touched(flight.fill, (load.key, *flight.tags)) else flight

    def _start(self, load: Load, purpose: Purpose) -> Flight[Any]:
        flights = self._parts()[2]
        flight: Flight[Any] = Flight(load.tags, f"cache {self.name}, {load.key!r}", purpose)
        flights.start(load.key, flight, lambda flight: self._fill(load, flight), self.load_timeout_s)
        return flight

    async def _fill(self, load: Load, flight: Flight[Any]) -> Any:
        """What the store has; or run the loader and store what it gives, unless that was invalidated meanwhile."""
        region, clock, _, ceiling_s = self._parts()
        stats = self.stats
        flight.begun = True
        fill = flight.fill = await region.open_fill(load.key, load.tags, flight.purpose)
        if fill.found is not None:
            flight.tags = fill.found.tags
            flight.fenced = region.touched(fill, (load.key, *flight.tags))
            await region.close_fill(load.key, fill, None)
            return Found(fill.found)
        began = clock.monotonic()
        entry: Entry | None = None
        taken = gone = False
        try:
            taken = await self._gate.enter()
            began = clock.monotonic()
            with span(names.SPAN_CACHE_LOAD, cache=self.name, key=load.key):
                value = await load.loader()
            flight.tags = load.all_tags(value)
            if not isinstance(value, Unshared):
                entry = entry_of(value, load.life, flight.tags, began, ceiling_s, clock.random)
            gone = entry is None
            return value
        except NEGATIVE_ERRORS as error:
            entry = absence_of(error, load.life, load.tags, began, ceiling_s, clock.random)
            gone = entry is None
            raise
        except BaseException:
            stats.load_errors += 1
            raise
        finally:
            self._gate.leave(taken)
            stats.loads += 1
            flight.fenced = region.touched(fill, (load.key, *flight.tags))
            await region.close_fill(load.key, fill, entry)
            if gone and (fill.replaces or region.peek(load.key) is not None):
                # The source answered, and its answer is not to be kept: an older (stale) one is not either.
                await region.delete(load.key)

    async def _alone(self, load: Load) -> Any:
        self.stats.loads += 1
        with span(names.SPAN_CACHE_LOAD, cache=self.name, key=load.key):
            value = await load.loader()
        return value.value if isinstance(value, Unshared) else value

    def _refreshed(self, task: Any) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, NEGATIVE_ERRORS):
            log.warning("cache %s: a refresh failed, the stale value is served on: %r", self.name, error)
