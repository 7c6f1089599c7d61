"""What a store that processes share has to do for :mod:`._tiers`, and the words in which it is asked and answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from tenfold.cache.policy import NEVER, Purpose

if TYPE_CHECKING:
    from tenfold.cache.backends._tiers import TieredBackend

REGION = "\0"
"""The name that every entry of a region has: its new generation clears the region. Names that begin like it are
escaped by one more."""


def outside(name: str) -> str:
    """A key or tag as the store knows it."""
    return REGION + name if name.startswith(REGION) else name


def inside(name: str) -> str:
    """The key or tag that the store knows so."""
    return name[1:] if name.startswith(REGION) else name


class StoreAway(Exception):
    """The store cannot be asked now, or did not answer in time, or refused."""


class Keys:
    """The names that one region's things have in the store."""

    __slots__ = ("cache", "entries", "generations", "leases")

    def __init__(self, prefix: str, cache: str) -> None:
        self.cache = cache
        quoted = cache.replace("%", "%25").replace(":", "%3A")
        self.entries = f"{prefix}:e:{quoted}:"
        self.leases = f"{prefix}:l:{quoted}:"
        self.generations = f"{prefix}:g:{quoted}:"


class Stored(NamedTuple):
    """An entry as it goes into the store."""

    names: tuple[str, ...]
    """REGION, the key, the tags."""
    shape: str
    payload: bytes
    fresh_s: float
    life_s: float
    """From now, staleness included."""


class Hit(NamedTuple):
    """An entry as it comes out of the store."""

    names: tuple[str, ...]
    shape: str
    payload: bytes | memoryview
    fresh_s: float
    life_s: float
    age_s: float
    """Since its loading began."""
    followed: bool
    """Whether the store will tell when one of the names is invalidated."""


class Right(NamedTuple):
    """What is shown to store what is loaded now: see Fill."""

    keys: Keys
    key: str
    token: str
    opened: int
    generations: tuple[str, ...]
    """Of the names known when the load began, in their order."""
    leased: bool
    strict: bool
    asked_at: float = 0.0
    """Wall-clock time, for stores without a clock of their own."""


class Load(NamedTuple):
    """Nothing usable is there: load it."""

    right: Right
    replaces: bool


class Wait(NamedTuple):
    """Another process loads it, and has so many seconds left until it counts as dead."""

    left_s: float


class Busy:
    """A transaction is about to change it: read the source, and store nothing."""


class Nothing:
    """Nothing is there, and nobody wanted to load."""


BUSY, NOTHING = Busy(), Nothing()
Answer = Hit | Load | Wait | Busy | Nothing


class Store(ABC):
    """What is outside of the process. Everything raises StoreAway when the store cannot be asked, at the latest
    after ``cache.timeout_s``. ``names`` are :data:`REGION`, the key, and tags, in this order."""

    errors = 0
    """Answers that showed something to be wrong with what is stored, or with the store."""
    poll_s: float
    """How often to ask whether another process has finished loading, if nobody tells."""

    @abstractmethod
    async def start(self, backend: TieredBackend) -> None: ...

    @abstractmethod
    async def stop(self) -> None: ...

    @abstractmethod
    async def begin(
        self, keys: Keys, names: tuple[str, ...], purpose: Purpose | None, token: str, *, waited: bool
    ) -> Answer:
        """Look up ``names[1]``; without a usable entry take the lease to load it. No purpose: only look. Who has
        ``waited`` for a load that stored nothing is not made to wait again."""

    @abstractmethod
    async def finish(self, right: Right, stored: Stored | None) -> bool:
        """Store what was loaded unless one of its names was invalidated since; give the lease back."""

    @abstractmethod
    async def put(self, keys: Keys, stored: Stored) -> bool:
        """Invalidate the key, and store this under it."""

    @abstractmethod
    async def bump(self, generations: list[str]) -> None:
        """Give each a new generation: invalidate."""

    @abstractmethod
    async def mark(self, generations: list[str], token: str) -> None:
        """Make each busy until :meth:`settle` with this token, ``cache.busy_s`` at most."""

    @abstractmethod
    async def settle(self, generations: list[str], token: str) -> None:
        """Take the mark away and give each a new generation."""

    @abstractmethod
    async def renew(self, rights: list[Right]) -> None:
        """Prolong leases."""

    def vouched_at(self) -> float:
        """Every change that was made before this moment (monotonic seconds) has been told to this process."""
        return NEVER

    def numbers(self) -> Mapping[str, int | float]:
        return {}
