"""Two tiers: copies in this process before a store that all processes share.

What a store has to do is small (:class:`Store`); everything that is the same for all of them is here: copies with
a bound on their age, one load per key across processes, changes that could not be told, announced transactions.

**Copies.** A copy may be served until ``near_ttl_s`` after the moment for which it is known to be current. That
moment is when it was read; a store that tells of changes vouches for later ones (:meth:`Store.vouched_at`), so
what does not change is not read again. Times are compared when a copy is served, so the bound holds whatever a
process was busy with or stopped by.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Iterable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from tenfold._core.clock import Clock
from tenfold._core.settings import CacheSettings
from tenfold.cache.backends.memory import MemoryRegion
from tenfold.cache.codec import Codec, Undecodable, decode
from tenfold.cache.contract import CacheBackend, CacheRegion, CacheStats, Ended
from tenfold.cache.policy import NEVER, Entry, Fill, Purpose
from tenfold.errors import Unavailable

log = logging.getLogger("tenfold.cache")

OWED_MAX = 10_000
"""Names whose invalidation could not be told, kept for when the store is back; beyond it whole regions are."""
_NOTHING: dict[str, Entry] = {}
REGION = "\0"
"""The name that every entry of a region has: its new generation clears the region. Names that begin like it are
escaped by one more."""


def _outside(name: str) -> str:
    return REGION + name if name.startswith(REGION) else name


def _inside(name: str) -> str:
    return name[1:] if name.startswith(REGION) else name


class StoreAway(Exception):
    """The store cannot be asked now, or did not answer in time, or refused."""


# ── what a store does ─────────────────────────────────────────────────────────────────────────────


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


# ── near entries ──────────────────────────────────────────────────────────────────────────────────


class Copy(Entry):
    """An entry of the store, in this process, with its own times and those until which it may be served here."""

    __slots__ = ("life_until", "true_fresh_until")

    def __init__(self, of: Entry) -> None:
        super().__init__(
            of.value, fresh_until=of.fresh_until, stale_until=of.stale_until, tags=of.tags, error=of.error
        )
        self.true_fresh_until = of.fresh_until
        self.life_until = of.stale_until

    def serve_until(self, until: float) -> None:
        """Not later than ``until``, nor than the entry's own end."""
        self.fresh_until = min(self.true_fresh_until, until)
        self.stale_until = min(self.life_until, until)


class TieredRegion(CacheRegion):
    """One cache's copies in this process, and its part of the store."""

    def __init__(self, backend: TieredBackend, cache: str, stats: CacheStats) -> None:
        settings = backend.settings
        self.keys = Keys(settings.prefix, cache)
        self.near = MemoryRegion(settings.near_entries or 1, stats)
        self.peek = self.near.peek if settings.near_entries else _NOTHING.get
        self._keeps = settings.near_entries > 0
        self._near_ttl_s = settings.near_ttl_s
        self._backend, self._store, self._stats = backend, backend.store, stats
        self._monotonic = backend.clock.monotonic
        self._arrivals: dict[str, list[asyncio.Future[None]]] = {}

    # ── reading ──

    @property
    def epoch(self) -> int:
        return self.near.fences.epoch

    def look(self, key: str, now: float) -> Entry | None:
        entry = self.peek(key)
        if isinstance(entry, Copy) and now >= max(entry.fresh_until, entry.stale_until):
            entry.serve_until(self._store.vouched_at() + self._near_ttl_s)
        return entry

    async def get(self, key: str) -> Entry | None:
        fill = self.near.fences.open()
        try:
            await self._ask(key, self._names(key, ()), None, fill, waited=False)
            return fill.found
        finally:
            self.near.fences.close()

    async def open_fill(self, key: str, tags: tuple[str, ...] = (), purpose: Purpose = Purpose.READ) -> Fill:
        fill = self.near.fences.open()
        names = self._names(key, tags)
        try:
            waited = False
            while (left_s := await self._ask(key, names, purpose, fill, waited=waited)) is not None:
                self._stats.shared_loads += not waited
                waited = True
                await self._arrival(key, left_s)
        except BaseException:
            self.near.fences.close()
            raise
        return fill

    async def _ask(
        self, key: str, names: tuple[str, ...], purpose: Purpose | None, fill: Fill, *, waited: bool
    ) -> float | None:
        """Ask the store and write into the fill what it answered; or the time to wait for another's load."""
        fill.epoch = self.near.fences.epoch
        now = fill.asked_at = self._monotonic()
        try:
            answer = await self._store.begin(self.keys, names, purpose, self._backend.token(), waited=waited)
        except StoreAway as away:
            self._backend.note(away, self._stats)
            return None
        if isinstance(answer, Wait):
            return answer.left_s
        if isinstance(answer, Load):
            fill.right, fill.replaces = answer.right, answer.replaces or purpose is Purpose.RELOAD
            if answer.right.leased:
                self._backend.leased.add(answer.right)
        elif isinstance(answer, Busy):
            fill.right = BUSY
        elif isinstance(answer, Hit):
            return await self._found(key, names, purpose, fill, answer, now)
        return None

    async def _found(
        self, key: str, names: tuple[str, ...], purpose: Purpose | None, fill: Fill, hit: Hit, now: float
    ) -> float | None:
        try:
            value = decode(hit.shape, hit.payload, now - hit.age_s)
        except Undecodable as reason:
            self._backend.complain(f"{self.keys.entries}{key}", reason, self._stats)
            if purpose is None:
                return None
            return await self._ask(key, names, Purpose.RELOAD, fill, waited=False)
        self._stats.far_hits += 1
        is_absence = isinstance(value, BaseException)
        entry = Entry(
            None if is_absence else value,
            fresh_until=NEVER if is_absence else now + hit.fresh_s,
            stale_until=now + hit.life_s,
            tags=tuple(_inside(name) for name in hit.names[2:]),
            error=value if is_absence else None,
        )
        fill.found = entry
        if purpose is not Purpose.STRICT:
            kept = self._keep(key, entry, fill, now, prolonged=hit.followed)
            fill.found = kept or entry
        return None

    def _keep(
        self, key: str, entry: Entry, fill: Fill, current_at: float, *, prolonged: bool
    ) -> Entry | None:
        """Keep a copy of what was current at the given time."""
        fences = self.near.fences
        held = self.near.peek(key)
        overtaken = held is not None and held.version > fill.serial
        if not self._keeps or overtaken or fences.touched(fill, (key, *entry.tags)):
            return None
        copy = Copy(entry)
        copy.serve_until(current_at + self._near_ttl_s)
        if not prolonged:
            copy.true_fresh_until, copy.life_until = copy.fresh_until, copy.stale_until
        self.near.keep(key, copy, fill.serial)
        return copy

    async def _arrival(self, key: str, left_s: float) -> None:
        """Returns when another's load of the key may have ended."""
        arrived: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._arrivals.setdefault(key, [])
        waiting.append(arrived)
        with suppress(TimeoutError):
            try:
                async with asyncio.timeout(min(self._store.poll_s, left_s + 0.001)):
                    await arrived
            finally:
                waiting.remove(arrived)
                if not waiting and self._arrivals.get(key) is waiting:
                    del self._arrivals[key]

    # ── storing ──

    def touched(self, fill: Fill, names: Iterable[str]) -> bool:
        return self.near.fences.touched(fill, names)

    async def close_fill(self, key: str, fill: Fill, entry: Entry | None) -> bool:
        try:
            if fill.found is not None:
                return False
            kept = await self._close(key, fill, entry)
            self._stats.fenced += entry is not None and not kept
            return kept
        finally:
            self.near.fences.close()

    async def _close(self, key: str, fill: Fill, entry: Entry | None) -> bool:
        """Into the store first: what it does not take is kept here only where it cannot know better."""
        right, now = fill.right, self._monotonic()
        if right is BUSY:
            return False
        if entry is not None and self.near.fences.touched(fill, (key, *entry.tags)):
            entry = None
        stored = self._encoded(key, entry, now) if entry is not None and right is not None else None
        if right is not None:
            self._backend.leased.discard(right)
            try:
                taken = await self._store.finish(right, stored)
            except StoreAway as away:
                self._backend.note(away, self._stats)
                taken = stored = None
            self.wake(key)
            if stored is not None and not taken:
                return False
        if entry is None:
            return False
        if stored is None:  # nobody tells when this changes, so it counts from before it was read
            return self._keep(key, entry, fill, fill.asked_at, prolonged=False) is not None
        if not right.strict:
            self._keep(key, entry, fill, now, prolonged=True)
        return True

    def _encoded(self, key: str, entry: Entry, now: float) -> Stored | None:
        encoded = self._backend.codec.encode(entry, key)
        life_s = max(entry.fresh_until, entry.stale_until) - now
        largest = self._backend.capabilities.value_max_bytes
        if encoded is None or life_s <= 0 or (largest is not None and len(encoded[1]) > largest):
            return None
        fresh_s = life_s if entry.error is not None else max(entry.fresh_until - now, 0.0)
        return Stored(self._names(key, entry.tags), *encoded, fresh_s, life_s)

    @staticmethod
    def _names(key: str, tags: tuple[str, ...]) -> tuple[str, ...]:
        return (REGION, _outside(key), *dict.fromkeys(_outside(tag) for tag in tags if tag != key))

    def generations(self, names: Iterable[str]) -> list[str]:
        """Where the store keeps the generations of names."""
        return [self.keys.generations + _outside(name) for name in names]

    async def put(self, key: str, entry: Entry) -> None:
        self.near.fences.invalidate((key,))
        self.near.drop(key)
        fill = self.near.fences.open()
        try:
            now = self._monotonic()
            stored = self._encoded(key, entry, now)
            if stored is None:
                stored = Stored(self._names(key, ()), "", b"", 0.0, 0.001)
            taken = await self._store.put(self.keys, stored)
            if taken or not stored.shape:
                self._keep(key, entry, fill, now, prolonged=taken)
        except StoreAway as away:
            self._undelivered(self.generations((key,)), away)
            self._keep(key, entry, fill, self._monotonic(), prolonged=False)
        finally:
            self.near.fences.close()
            self.wake(key)

    # ── changing ──

    async def delete(self, key: str) -> None:
        await self.invalidate((key,))

    async def invalidate(self, names: Iterable[str]) -> None:
        names = tuple(names)
        self.forget(names)
        try:
            await self._store.bump(self.generations(names))
        except StoreAway as away:
            self._undelivered(self.generations(names), away)

    def forget(self, names: Iterable[str]) -> None:
        self.near.forget(names)

    async def clear(self) -> None:
        self.near.forget_all()
        try:
            await self._store.bump([self.keys.generations + REGION])
        except StoreAway as away:
            self._undelivered([self.keys.generations + REGION], away)

    def __len__(self) -> int:
        return len(self.near)

    def _undelivered(self, generations: list[str], away: StoreAway) -> None:
        self._backend.owe(generations)
        self._backend.note(away, self._stats)
        if self.strict:
            raise Unavailable(
                f"The cache {self.keys.cache!r} is strict, and its store could not be told of a change: {away}."
            ) from None

    # ── what the store tells ──

    def waited_for(self) -> tuple[str, ...]:
        """Keys whose load in another process is waited for."""
        return tuple(self._arrivals)

    def wake(self, key: str) -> None:
        """Something happened here to a key that may be waited for."""
        for arrived in self._arrivals.pop(key, ()):
            if not arrived.done():
                arrived.set_result(None)

    def told(self, name: str) -> None:
        """A name was invalidated by another process."""
        if name == REGION:
            self.near.forget_all()
        else:
            self.near.forget((_inside(name),))

    def told_of(self, key: str) -> None:
        """Another process stored a key, or gave its lease back."""
        self.wake(_inside(key))


# ── the backend ───────────────────────────────────────────────────────────────────────────────────


class TieredBackend(CacheBackend):
    """The regions on one store, what they owe it, and the transactions announced to it."""

    def __init__(self, settings: CacheSettings, clock: Clock, store: Store) -> None:
        self.settings, self.clock, self.store = settings, clock, store
        self.codec = Codec()
        self.leased: set[Right] = set()
        self._regions: dict[str, TieredRegion] = {}
        self._owed: set[str] = set()
        self._identity = f"{clock.random.getrandbits(64):016x}"
        self._tokens = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._complained: set[str] = set()
        self.errors = 0

    async def start(self) -> None:
        await self.store.start(self)
        self.spawn(self._renewing())

    async def stop(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.store.stop()

    def region(self, cache: str, stats: CacheStats) -> TieredRegion:
        made = self._regions[cache] = TieredRegion(self, cache, stats)
        return made

    def regions(self) -> Iterable[TieredRegion]:
        return self._regions.values()

    def token(self) -> str:
        """A text that no other process and no other call has."""
        self._tokens += 1
        return f"{self._identity}{self._tokens:x}"

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run beside everything else, until it ends or the backend stops."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def numbers(self) -> Mapping[str, int | float]:
        return {"owed_invalidations": len(self._owed), "errors_total": self.errors, **self.store.numbers()}

    # ── announced transactions ──

    async def announce(self, names: Iterable[str]) -> Ended | None:
        names = tuple(names)
        regions = tuple(self._regions.values())
        generations = [generation for region in regions for generation in region.generations(names)]
        strict = any(region.strict for region in regions)
        token = self.token()
        expires = self.clock.monotonic() + self.settings.busy_s
        marked = True
        try:
            await self.store.mark(generations, token)
        except StoreAway as away:
            self.note(away, None)
            marked = False
            if strict:
                self.spawn(self._settle(generations, token))
                raise Unavailable(
                    "The transaction was rolled back: a strict cache could not be told of what it changes, "
                    f"because its store is away ({away}).",
                    headers={"Retry-After": "1"},
                ) from None

        def ended(committed: bool) -> asyncio.Future[None] | None:
            if not (committed or marked):
                return None
            settling = self.spawn(self._settle(generations, token))
            late = not marked or self.clock.monotonic() >= expires
            return asyncio.shield(settling) if committed and (strict or late) else None

        return ended

    async def _settle(self, generations: list[str], token: str) -> None:
        try:
            await self.store.settle(generations, token)
        except StoreAway as away:
            self.note(away, None)
            self.owe(generations)

    # ── what could not be told ──

    def owe(self, generations: Iterable[str]) -> None:
        """Invalidate these when the store is back."""
        self._owed.update(generations)
        if len(self._owed) > OWED_MAX:
            self._owed = {region.keys.generations + REGION for region in self._regions.values()}

    def is_back(self) -> None:
        """The store can be asked again. Called before anybody else asks it."""
        for region in self._regions.values():
            region.near.forget_all()
        if self._owed:
            owed, self._owed = sorted(self._owed), set()
            self.spawn(self._pay(owed))

    async def _pay(self, owed: list[str]) -> None:
        try:
            for start in range(0, len(owed), 1000):
                await self.store.bump(owed[start : start + 1000])
        except StoreAway as away:
            self.note(away, None)
            self.owe(owed)

    # ── trouble ──

    def note(self, away: StoreAway, stats: CacheStats | None) -> None:
        """Count what the store did not do."""
        self.errors += 1
        if stats is not None:
            stats.store_errors += 1

    def complain(self, key: str, reason: object, stats: CacheStats | None = None) -> None:
        """Something under one of our keys is none of ours, or of another version: a miss, said once for each
        kind of reason."""
        self.errors += 1
        if stats is not None:
            stats.store_errors += 1
        kind = str(reason)
        if kind not in self._complained and len(self._complained) < 100:
            self._complained.add(kind)
            log.warning(
                "what the cache's store has under %r cannot be used, and counts as a miss: %s", key, kind
            )

    async def _renewing(self) -> None:
        """Keep the leases of loads that take their time."""
        while True:
            await self.clock.sleep(self.settings.lease_s / 4)
            if self.leased:
                with suppress(StoreAway):
                    await self.store.renew(list(self.leased))
