"""What a cached value is worth at a given time, and which fills may still be stored. All of it pure.

Fencing (after the leases of Nishtala et al., "Scaling Memcache at Facebook", NSDI 2013): a fill that was
opened before an invalidation must not be stored after it, because the value may have been read before the
change that the invalidation announces.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from random import Random
from typing import Any, TypeVar

from tenfold.errors import ConfigError, NoRow, NotFound

E = TypeVar("E", bound=BaseException)

NEVER = float("-inf")
REFRESH_PAUSE_S = 1.0
"""Least time between two attempts to refresh one stale entry: a source that is down is not asked by every
reader of the value it once gave."""

NEGATIVE_ERRORS = (NotFound, NoRow)
"""What a loader raises to say that the thing does not exist."""


class Entry:
    """A stored value (or the error that says it does not exist) and the times that judge it.

    Times are monotonic seconds. ``fresh_until`` is the one comparison of the hit path: an entry that holds
    an error has it in the past, so that hits need not look for errors.
    """

    __slots__ = ("error", "fresh_until", "retry_at", "share", "stale_until", "tags", "value", "version")

    def __init__(
        self,
        value: Any,
        *,
        fresh_until: float,
        stale_until: float,
        tags: tuple[str, ...] = (),
        error: BaseException | None = None,
    ) -> None:
        self.value = value
        self.error = error
        self.fresh_until = fresh_until
        self.stale_until = stale_until
        self.tags = tags
        self.retry_at = NEVER
        """When a stale entry may next be refreshed."""
        self.version = 0
        """Given by the region when it stores the entry: a fill opened earlier cannot replace it."""
        self.share = ""
        """The tenant for whom the region in this process has stored it, or an empty string."""


class Purpose(enum.Enum):
    """Why a key is looked up in the store outside of this process, and perhaps loaded."""

    READ = enum.auto()
    STRICT = enum.auto()
    """What the store says now counts, not what this process remembers."""
    REFRESH = enum.auto()
    """A stale value is there: only one process is to load a new one, the others go on with the old."""
    RELOAD = enum.auto()
    """Load, whatever is stored."""


class Freshness(enum.Enum):
    FRESH = enum.auto()
    STALE = enum.auto()
    """Past its life, but may be served while a new value is loaded."""
    ABSENT = enum.auto()
    """Known not to exist: raise the entry's error again."""
    EXPIRED = enum.auto()


def judge(entry: Entry | None, now: float) -> Freshness:
    """What the entry is worth at ``now``; no entry is an expired one."""
    if entry is None or now >= max(entry.fresh_until, entry.stale_until):
        return Freshness.EXPIRED
    if now < entry.fresh_until:
        return Freshness.FRESH
    return Freshness.STALE if entry.error is None else Freshness.ABSENT


@dataclass(frozen=True, slots=True)
class Lifetime:
    """How long values of one kind live, in seconds."""

    ttl_s: float = 60.0
    stale_s: float = 0.0
    """After ``ttl_s``: how much longer the value may be served while a new one is loaded."""
    negative_ttl_s: float | None = None
    """Life of "there is none" (None, NotFound, NoRow); None keeps none of these."""
    jitter: float = 0.1
    """Lives are shortened by up to this share, so that what was loaded together does not expire together."""

    def checked(self, where: str) -> Lifetime:
        """Itself; raises ConfigError for times that make no sense."""
        wrong = [
            (self.ttl_s <= 0, f"ttl_s is {self.ttl_s:g}", "It must be above 0."),
            (self.stale_s < 0, f"stale_s is {self.stale_s:g}", "It must be 0 or more."),
            (
                self.negative_ttl_s is not None and self.negative_ttl_s <= 0,
                f"negative_ttl_s is {self.negative_ttl_s}",
                "It must be above 0, or None to keep no negative answers.",
            ),
            (not 0 <= self.jitter < 1, f"jitter is {self.jitter:g}", "It must be a share from 0 to below 1."),
        ]
        for is_wrong, what, remedy in wrong:
            if is_wrong:
                raise ConfigError(what + ".", where=where, remedy=remedy)
        return self


def entry_of(
    value: Any, life: Lifetime, tags: tuple[str, ...], loaded_at: float, ceiling_s: float, random: Random
) -> Entry | None:
    """The entry for a loaded value, or None when it is not to be kept.

    ``loaded_at`` is when the load began: the value cannot be newer, and so the declared life bounds how
    stale it gets however long the load took. ``ceiling_s`` bounds the whole life, staleness included.
    """
    if value is None:
        if life.negative_ttl_s is None:
            return None
        life_s, stale_s = life.negative_ttl_s, 0.0
    else:
        life_s, stale_s = life.ttl_s, life.stale_s
    fresh_s = jittered(min(life_s, ceiling_s), life.jitter, random)
    end_s = min(fresh_s + stale_s, ceiling_s)
    return Entry(value, fresh_until=loaded_at + fresh_s, stale_until=loaded_at + end_s, tags=tags)


def absence_of(
    error: BaseException,
    life: Lifetime,
    tags: tuple[str, ...],
    loaded_at: float,
    ceiling_s: float,
    random: Random,
) -> Entry | None:
    """The entry that says a thing does not exist, or None when that is not to be kept."""
    if life.negative_ttl_s is None or not isinstance(error, NEGATIVE_ERRORS):
        return None
    life_s = jittered(min(life.negative_ttl_s, ceiling_s), life.jitter, random)
    return Entry(None, fresh_until=NEVER, stale_until=loaded_at + life_s, tags=tags, error=again(error))


def jittered(life_s: float, jitter: float, random: Random) -> float:
    """``life_s`` shortened by a random share of at most ``jitter``: never longer than declared."""
    return life_s * (1.0 - jitter * random.random()) if jitter else life_s


def again(error: E) -> E:
    """A copy of the error without traceback or cause: one instance cannot be raised in several tasks cleanly,
    and a traceback kept in a cache keeps every frame's variables alive."""
    copy = type(error).__new__(type(error))
    copy.args = error.args
    copy.__dict__.update(error.__dict__)
    return copy


class Fill:
    """The right to store what a load returns. ``serial`` orders fills, ``epoch`` places it among invalidations."""

    __slots__ = ("asked_at", "epoch", "found", "replaces", "right", "serial")

    def __init__(self, serial: int, epoch: int) -> None:
        self.serial = serial
        self.epoch = epoch
        self.asked_at = NEVER
        """When that store was asked, monotonic."""
        self.found: Entry | None = None
        """What the store outside of this process has: then nothing needs to be loaded."""
        self.replaces = False
        """Whether that store may have a value already that this fill is to replace."""
        self.right: Any = None
        """What that store gave us, to be shown when the value is stored; None: it stays in this process."""


class Fences:
    """Which names (keys and tags) were invalidated since which fill was opened.

    Names are remembered only while fills are open. ``names_max`` bounds them: beyond it every open fill
    counts as touched, which costs those loads again and never stores a wrong value.
    """

    __slots__ = ("_floor", "_names", "_names_max", "_open", "_serial", "epoch")

    def __init__(self, names_max: int = 10_000) -> None:
        self.epoch = 0
        """Number of invalidations so far."""
        self._serial = 0
        self._floor = 0
        self._names: dict[str, int] = {}
        self._names_max = names_max
        self._open = 0

    def open(self) -> Fill:
        """Begin a fill; call before the loader reads anything, and :meth:`close` when it ended."""
        self._open += 1
        return Fill(self.serial(), self.epoch)

    def close(self) -> None:
        """One fill ended; forget the names when it was the last."""
        self._open -= 1
        if not self._open:
            self._names.clear()

    def serial(self) -> int:
        """The next version number."""
        self._serial += 1
        return self._serial

    def invalidate(self, names: Iterable[str]) -> None:
        """From now on no fill that is open may be stored under one of these names."""
        self.epoch += 1
        if not self._open:
            return
        for name in names:
            self._names[name] = self.epoch
        if len(self._names) > self._names_max:
            self.invalidate_all()

    def invalidate_all(self) -> None:
        """From now on no fill that is open may be stored."""
        self.epoch += 1
        self._floor = self.epoch
        self._names.clear()

    def touched(self, fill: Fill, names: Iterable[str]) -> bool:
        """Whether one of the names was invalidated after the fill was opened. Ask before :meth:`close`."""
        if fill.epoch == self.epoch:
            return False
        if fill.epoch < self._floor:
            return True
        seen = self._names.get
        return any(seen(name, 0) > fill.epoch for name in names)
