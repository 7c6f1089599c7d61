"""What a cache backend promises.

A backend is one per app and holds what is shared (connections, limits); each :class:`Cache` gets a region of
its own in it, so that equal keys of two caches never meet.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Literal

import msgspec

from tenfold._core.clock import Clock
from tenfold._core.fairness import WeightOf
from tenfold._core.sections import CacheSettings
from tenfold.cache.policy import Entry, Fill, Purpose

Ended = Callable[[bool], Awaitable[None] | None]
"""Called (and awaited) when an announced transaction has ended, with whether it has committed."""


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What differs between backends; everything else is the same for all."""

    shared: bool
    """Other processes of the app see the same entries, and an invalidation reaches them."""
    strict: Literal["process", "fleet"]
    """How far "no stale read after an acknowledged write" reaches in strict mode."""
    near: Literal["is the store", "until told", "for a time"]
    """What bounds the age of the copies that a process keeps: nothing is a copy; the store tells of changes (and
    ``cache.near_ttl_s`` bounds them while it does not); ``cache.near_ttl_s`` alone."""
    leases: Literal["process", "fleet"]
    """How far single flight reaches."""
    value_max_bytes: int | None
    """Larger values stay in the process that loaded them; None: no bound."""


class CacheStats:
    """Counts since the cache was bound; read them at any time."""

    __slots__ = (
        "evictions",
        "far_hits",
        "fenced",
        "hits",
        "invalidations",
        "load_errors",
        "loads",
        "misses",
        "shared_loads",
        "stale",
        "store_errors",
    )

    def __init__(self) -> None:
        self.reset()

    def numbers(self) -> dict[str, int]:
        """Every count by name, for metrics."""
        return {f"{name}_total": getattr(self, name) for name in self.__slots__}

    def reset(self) -> None:
        """Count from 0."""
        self.hits = 0
        """Reads answered from a fresh entry, negative ones included."""
        self.far_hits = 0
        """Looks into the store outside of this process that found an entry; each may answer many reads."""
        self.misses = 0
        """Reads that had to wait for a load, their own or another's."""
        self.stale = 0
        """Reads answered from a stale entry while it was refreshed."""
        self.loads = 0
        """Calls of loaders."""
        self.load_errors = 0
        """… of which so many raised (NotFound and NoRow are answers, not errors)."""
        self.shared_loads = 0
        """Waits for another process that was loading the same key."""
        self.store_errors = 0
        """Looks into the store, and changes of it, that failed; the reads went to the source instead."""
        self.fenced = 0
        """Loaded values that were not stored because they were invalidated, or overtaken, meanwhile."""
        self.invalidations = 0
        """Entries dropped by `invalidate`, `delete` and `clear`."""
        self.evictions = 0
        """Entries dropped to make room."""


class CacheRegion(ABC):
    """The entries of one cache.

    - Order: operations on one key take effect in the order in which they return.
    - Loss: any entry may vanish at any time; nothing is durable.
    - Consistency: after :meth:`invalidate`, :meth:`delete` or :meth:`clear` returned, no reader of this process
      finds what was stored before, and no fill opened before can be stored, in any process. Other processes
      that share the store (``Capabilities.shared``) find it for ``cache.near_ttl_s`` at most, and with
      ``Purpose.STRICT`` not at all. Where nothing is shared, an entry lives on elsewhere for its declared life.
    - Atomic with: nothing; but see :meth:`CacheBackend.announce` for transactions.
    - Time-out and errors: reads and fills neither wait longer than ``cache.timeout_s`` for the store nor fail by
      it: a store that is away is an empty one. Changes that could not be told to the store are kept and told
      when it is back; a strict region raises errors.Unavailable for them besides.
    """

    peek: Callable[[str], Entry | None]
    """The entry in this process, fresh or not. An attribute, so that a backend can put a builtin here: it is
    the one call a hit makes."""

    strict: bool = False
    """Whether a change that cannot be told to the store has to fail."""

    @property
    @abstractmethod
    def epoch(self) -> int:
        """Number of invalidations this process knows of; grows before the invalidating call returns."""

    def look(self, key: str, now: float) -> Entry | None:
        """What :attr:`peek` gives, with its times prolonged if the backend can vouch for it at ``now``."""
        return self.peek(key)

    @abstractmethod
    async def get(self, key: str) -> Entry | None:
        """The entry, fresh or not, from wherever the backend keeps it."""

    @abstractmethod
    async def put(self, key: str, entry: Entry) -> None:
        """Store an entry that was not loaded; every open fill of the key is fenced off."""

    @abstractmethod
    async def open_fill(self, key: str, tags: tuple[str, ...] = (), purpose: Purpose = Purpose.READ) -> Fill:
        """Call before the loader reads anything; ``tags`` are those known by then.

        Returns with ``Fill.found`` when the store has a usable entry, and only after another process that
        loads the key now has finished, or died. Every fill must be closed.
        """

    @abstractmethod
    def touched(self, fill: Fill, names: Iterable[str]) -> bool:
        """Whether an open fill is known here to be worthless for one of these names (its key, its tags)."""

    @abstractmethod
    async def close_fill(self, key: str, fill: Fill, entry: Entry | None) -> bool:
        """End the fill and store the entry, if there is one and nothing newer happened; whether it was stored."""

    @abstractmethod
    async def delete(self, key: str) -> None:
        """Drop the entry of one key."""

    @abstractmethod
    async def invalidate(self, names: Iterable[str]) -> None:
        """Drop every entry whose key or one of whose tags is among the names."""

    @abstractmethod
    def forget(self, names: Iterable[str]) -> None:
        """The part of :meth:`invalidate` that concerns this process, at once."""

    @abstractmethod
    async def clear(self) -> None:
        """Drop everything in the region."""

    @abstractmethod
    def __len__(self) -> int:
        """Entries held in this process, expired ones included."""


class CacheBackend(ABC):
    """One store, shared by the caches of an app."""

    capabilities: Capabilities
    weight_of: WeightOf | None = None
    """Set before the start: the weights of tenants, by which they share what is kept in this process. None: alike."""

    @classmethod
    @abstractmethod
    def from_url(cls, url: str, settings: CacheSettings, clock: Clock) -> CacheBackend:
        """The backend for ``cache.url``; raises ConfigError for a URL it cannot use. Does not connect."""

    @abstractmethod
    async def start(self) -> None:
        """Connect. Raises ConfigError where the setting must be wrong (a refused password, too old a server). A
        store that cannot be reached is no error: the app starts without it, and finds it when it is back."""

    @abstractmethod
    async def stop(self) -> None:
        """Let everything go; regions may not be used afterwards."""

    @abstractmethod
    def region(self, cache: str, stats: CacheStats) -> CacheRegion:
        """The region of the cache with this name. Counted into ``stats`` are ``evictions``, ``invalidations``,
        ``fenced``, ``far_hits``, ``shared_loads`` and ``store_errors``."""

    async def announce(self, names: Iterable[str]) -> Ended | None:
        """A transaction that changes what is cached under ``names`` is about to commit.

        Until the function that is returned has been called, or the transaction's longest time has passed, no
        reader of any process that asks the store is given entries with these names, and no fill stores any.
        Raises errors.Unavailable when the store could not be told and a strict region has to know.
        """
        return None

    def numbers(self) -> Mapping[str, int | float]:
        """The backend's own counters (``…_total``) and gauges by name; none for a store in the process."""
        return {}
