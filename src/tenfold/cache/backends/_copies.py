"""One cache's part of a shared store, and its copies in this process.

A copy may be served until ``near_ttl_s`` after the moment for which it is known to be current. That moment is when
it was read; a store that tells of changes vouches for later ones (:meth:`Store.vouched_at`), so what does not
change is not read again. Times are compared when a copy is served, so the bound holds whatever a process was busy
with or stopped by.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from tenfold.cache.backends._store import (
    BUSY,
    REGION,
    Busy,
    Hit,
    Keys,
    Load,
    StoreAway,
    Stored,
    Wait,
    inside,
    outside,
)
from tenfold.cache.backends.memory import MemoryRegion
from tenfold.cache.codec import Undecodable, decode
from tenfold.cache.contract import CacheRegion, CacheStats
from tenfold.cache.policy import NEVER, Entry, Fill, Purpose
from tenfold.errors import Unavailable

if TYPE_CHECKING:
    from tenfold.cache.backends._tiers import TieredBackend

_NOTHING: dict[str, Entry] = {}


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
        self.near = MemoryRegion(settings.near_entries or 1, stats, backend.clock, backend.weight_of)
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
            while await self._ask_and_wait(key, names, purpose, fill, waited) is not None:
                self._stats.shared_loads += not waited
                waited = True
        except BaseException:
            self.near.fences.close()
            raise
        return fill

    async def _ask_and_wait(
        self, key: str, names: tuple[str, ...], purpose: Purpose, fill: Fill, waited: bool
    ) -> float | None:
        """Ask; when another process loads the key, return after that may have ended, with the time it had left."""
        # Listening begins before the store is asked: the news may come right behind the answer.
        arrived: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        listening = self._arrivals.setdefault(key, [])
        listening.append(arrived)
        try:
            left_s = await self._ask(key, names, purpose, fill, waited=waited)
            if left_s is not None:
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(self._store.poll_s, left_s + 0.001)):
                        await arrived
            return left_s
        finally:
            listening.remove(arrived)
            if not listening and self._arrivals.get(key) is listening:
                del self._arrivals[key]

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
            tags=tuple(inside(name) for name in hit.names[2:]),
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
                taken, stored = False, None
            self.wake(key)
            if stored is not None and not taken:
                return False
        if entry is None:
            return False
        if stored is None:  # nobody tells when this changes, so it counts from before it was read
            return self._keep(key, entry, fill, fill.asked_at, prolonged=False) is not None
        if right is not None and not right.strict:
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
        return (REGION, outside(key), *dict.fromkeys(outside(tag) for tag in tags if tag != key))

    def generations(self, names: Iterable[str]) -> list[str]:
        """Where the store keeps the generations of names."""
        return [self.keys.generations + outside(name) for name in names]

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
            self.near.forget((inside(name),))

    def told_of(self, key: str) -> None:
        """Another process stored a key, or gave its lease back."""
        self.wake(inside(key))
