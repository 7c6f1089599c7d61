"""Entries in this process, least recently used first out; of a tenant within its share nothing (:mod:`~tenfold.cache.shares`).

Needs nothing. Guarantees: strict within the process (no stale read after an invalidation was acknowledged);
other processes with a memory cache of their own keep an entry until its declared life ends. Values are kept
and returned as they are, not copied.
"""

from __future__ import annotations

from collections.abc import Iterable

import cachebox

from tenfold._core.clock import Clock
from tenfold._core.context import current
from tenfold._core.fairness import WeightOf
from tenfold._core.sections import CacheSettings
from tenfold.cache.contract import CacheBackend, CacheRegion, CacheStats, Capabilities
from tenfold.cache.policy import Entry, Fences, Fill, Purpose
from tenfold.cache.shares import NOBODY, Shares
from tenfold.errors import ConfigError

LOOKS = 8
"""Entries that are looked at, those used least recently first, for one whose owner has more than its share; after that
the oldest of such an owner goes, however lately it was used."""


class Backend(CacheBackend):
    """Each region holds at most ``cache.entries_max`` entries."""

    capabilities = Capabilities(
        shared=False, strict="process", near="is the store", leases="process", value_max_bytes=None
    )

    def __init__(self, entries_max: int, clock: Clock) -> None:
        self._entries_max = entries_max
        self._clock = clock

    @classmethod
    def from_url(cls, url: str, settings: CacheSettings, clock: Clock) -> Backend:
        if url.rstrip("/") != "memory:":
            raise ConfigError(
                f"the memory backend takes no address, and {url!r} has one.",
                where="cache.url",
                remedy='Write "memory:".',
            )
        return cls(settings.entries_max, clock)

    async def start(self) -> None:
        """Nothing to connect."""

    async def stop(self) -> None:
        """Nothing to let go: the regions go with the caches."""

    def region(self, cache: str, stats: CacheStats) -> MemoryRegion:
        return MemoryRegion(self._entries_max, stats, self._clock, self.weight_of)


class MemoryRegion(CacheRegion):
    """An LRU map and an index from tags to keys. No method suspends, so each is atomic on the event loop."""

    def __init__(
        self, entries_max: int, stats: CacheStats, clock: Clock, weight_of: WeightOf | None = None
    ) -> None:
        self._entries_max, self._clock, self._weight_of = entries_max, clock, weight_of
        self._shares: Shares | None = None
        """Kept from the first entry on that is stored for a tenant."""
        self._entries: cachebox.LRUCache[str, Entry] = cachebox.LRUCache(entries_max)
        self._keys_of: dict[str, set[str]] = {}
        self.fences = Fences()
        self._stats = stats
        self.peek = self._entries.get

    @property
    def epoch(self) -> int:
        return self.fences.epoch

    async def get(self, key: str) -> Entry | None:
        return self.peek(key)

    async def put(self, key: str, entry: Entry) -> None:
        self.fences.invalidate((key,))
        self.keep(key, entry, self.fences.serial())

    async def open_fill(self, key: str, tags: tuple[str, ...] = (), purpose: Purpose = Purpose.READ) -> Fill:
        return self.fences.open()

    def touched(self, fill: Fill, names: Iterable[str]) -> bool:
        return self.fences.touched(fill, names)

    async def close_fill(self, key: str, fill: Fill, entry: Entry | None) -> bool:
        try:
            if entry is None:
                return False
            held = self.peek(key)
            overtaken = held is not None and held.version > fill.serial
            if overtaken or self.fences.touched(fill, (key, *entry.tags)):
                self._stats.fenced += 1
                return False
            self.keep(key, entry, fill.serial)
            return True
        finally:
            self.fences.close()

    async def delete(self, key: str) -> None:
        self.fences.invalidate((key,))
        self.drop(key)

    async def invalidate(self, names: Iterable[str]) -> None:
        self.forget(names)

    def forget(self, names: Iterable[str]) -> None:
        names = tuple(names)
        self.fences.invalidate(names)
        for name in names:
            for key in tuple(self._keys_of.get(name, ())):
                self.drop(key)
            self.drop(name)

    async def clear(self) -> None:
        self.forget_all()

    def forget_all(self) -> None:
        """What :meth:`clear` does, at once."""
        self.fences.invalidate_all()
        self._stats.invalidations += len(self._entries)
        self._entries.clear()
        self._keys_of.clear()
        self._shares = None

    def __len__(self) -> int:
        return len(self._entries)

    def keep(self, key: str, entry: Entry, version: int) -> None:
        """Store an entry, whatever is open or there; for this region and for those that keep copies here."""
        whose = current().tenant or NOBODY
        held = self._entries.pop(key, None)
        if held is not None:
            self._unlink(key, held)
        elif self._entries.is_full():
            # Making room ourselves, because the map does not say whom it evicts and the tag index must know.
            self._unlink(*self._evicted(whose))
            self._stats.evictions += 1
        entry.version = version
        entry.share = whose
        if whose and self._shares is None:
            self._shares = self._shared_out()
        if self._shares is not None:
            self._shares.add(whose, key)
        self._entries[key] = entry
        for tag in entry.tags:
            self._keys_of.setdefault(tag, set()).add(key)

    def drop(self, key: str) -> None:
        """Let one entry go, if it is there."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._unlink(key, entry)
            self._stats.invalidations += 1

    def _evicted(self, newcomer: str) -> tuple[str, Entry]:
        """Who makes room: the entry used least recently, unless it is alive and its owner within its share."""
        shares, entries = self._shares, self._entries
        if shares is None or len(shares) == 1:
            return entries.popitem()
        now = self._clock.monotonic()
        for _ in range(LOOKS):
            key, entry = entries.popitem()
            if now >= max(entry.fresh_until, entry.stale_until) or shares.is_over(entry.share):
                return key, entry
            entries[key] = entry  # it stays, and stands at the end of the line again
        key = shares.oldest(newcomer)
        return key, entries.pop(key)

    def _shared_out(self) -> Shares:
        """With everything that was stored so far."""
        shares = Shares(self._entries_max, self._weight_of)
        for key in self._entries:
            shares.add(NOBODY, key)
        return shares

    def _unlink(self, key: str, entry: Entry) -> None:
        if self._shares is not None:
            self._shares.remove(entry.share, key)
        for tag in entry.tags:
            keys = self._keys_of.get(tag)
            if keys is not None:
                keys.discard(key)
                if not keys:
                    del self._keys_of[tag]
