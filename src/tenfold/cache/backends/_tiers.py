"""Two tiers: copies in this process (:mod:`._copies`) before a store that all processes share (:mod:`._store`).

What a store has to do is small; everything that is the same for all of them is here: the regions on one store,
changes that could not be told to it, announced transactions, leases that have to be kept.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable, Mapping
from contextlib import suppress
from typing import Any

from tenfold._core.clock import Clock
from tenfold._core.sections import CacheSettings
from tenfold._core.tasks import end_tasks
from tenfold.cache.backends._copies import TieredRegion
from tenfold.cache.backends._store import REGION, Right, Store, StoreAway
from tenfold.cache.codec import Codec
from tenfold.cache.contract import CacheBackend, CacheStats, Ended
from tenfold.errors import Unavailable

log = logging.getLogger("tenfold.cache")

OWED_MAX = 10_000
"""Names whose invalidation could not be told, kept for when the store is back; beyond it whole regions are."""


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
        await end_tasks(*self._tasks)
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
