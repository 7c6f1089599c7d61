"""What a cache backend promises.

A backend is one per app and holds what is shared (connections, limits); each :class:`Cache` gets a region of
its own in it, so that equal keys of two caches never meet.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable

from tenfold._core.clock import Clock
from tenfold._core.settings import CacheSettings
from tenfold.cache.policy import Entry, Fill


class CacheStats:
    """Counts since the cache was bound; read them at any time."""

    __slots__ = (
        "evictions",
        "fenced",
        "hits",
        "invalidations",
        "load_errors",
        "loads",
        "misses",
        "stale",
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
        self.misses = 0
        """Reads that had to wait for a load, their own or another's."""
        self.stale = 0
        """Reads answered from a stale entry while it was refreshed."""
        self.loads = 0
        """Calls of loaders."""
        self.load_errors = 0
        """… of which so many raised (NotFound and NoRow are answers, not errors)."""
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
    - Consistency: after :meth:`invalidate`, :meth:`delete` or :meth:`clear` returned, no reader in the
      backend's reach (``CacheBackend.shared``) finds what was stored before, and no fill opened before can
      be stored. Reach of the ``memory`` backend: this process. Elsewhere an entry lives on for its declared
      life at most.
    - Atomic with: nothing. The facade calls it after the database's commit and before the commit is
      acknowledged to its caller.
    - Time-out and errors: a local region neither waits nor fails; a remote one treats a store that is away as
      empty for reads, and raises errors.Unavailable for invalidations it could not deliver.
    """

    peek: Callable[[str], Entry | None]
    """The entry in this process, fresh or not. An attribute, so that a backend can put a builtin here: it is
    the one call a hit makes."""

    @property
    @abstractmethod
    def epoch(self) -> int:
        """Number of invalidations this process knows of; grows before the invalidating call returns."""

    @abstractmethod
    async def get(self, key: str) -> Entry | None:
        """The entry, fresh or not, from wherever the backend keeps it."""

    @abstractmethod
    async def put(self, key: str, entry: Entry) -> None:
        """Store an entry that was not loaded; every open fill of the key is fenced off."""

    @abstractmethod
    async def open_fill(self, key: str) -> Fill:
        """Call before the loader reads anything."""

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

    shared: bool
    """Whether an invalidation reaches the other processes of the app."""

    @classmethod
    @abstractmethod
    def from_url(cls, url: str, settings: CacheSettings, clock: Clock) -> CacheBackend:
        """The backend for ``cache.url``; raises ConfigError for a URL it cannot use. Does not connect."""

    @abstractmethod
    async def start(self) -> None:
        """Connect. Raises ConfigError or Unavailable when that fails."""

    @abstractmethod
    async def stop(self) -> None:
        """Let everything go; regions may not be used afterwards."""

    @abstractmethod
    def region(self, cache: str, stats: CacheStats) -> CacheRegion:
        """The region of the cache with this name; ``evictions``, ``invalidations`` and ``fenced`` are counted
        into ``stats``."""
