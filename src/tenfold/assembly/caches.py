"""The caches of an app as one part."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from tenfold._core.clock import Clock
from tenfold._core.fairness import WeightOf
from tenfold._core.resolve import backend_class
from tenfold._core.sections import Settings
from tenfold._core.tasks import end_tasks
from tenfold.cache.cache import Cache
from tenfold.cache.commits import follow
from tenfold.cache.flight import LoadGate
from tenfold.cache.hot import FADE_S
from tenfold.telemetry import names
from tenfold.telemetry.hub import Hub

if TYPE_CHECKING:
    from tenfold.db.database import Database


class CachesPart:
    """One backend for every cache; a commit's invalidations reach them all."""

    def __init__(
        self,
        caches: list[Cache],
        databases: list[Database],
        settings: Settings,
        clock: Clock,
        telemetry: Hub,
        weight_of: WeightOf,
    ) -> None:
        self._caches, self._databases = caches, databases
        self._settings, self._clock, self._telemetry = settings, clock, telemetry
        self._weight_of = weight_of
        self._backend: Any = None
        self._listening: list[Callable[[], None]] = []
        self._sampler: asyncio.Task[None] | None = None

    async def start(self) -> None:
        settings = self._settings.cache
        self._backend = backend_class("cache", settings.url, where="cache.url").from_url(
            settings.url, settings, self._clock
        )
        self._backend.weight_of = self._weight_of
        await self._backend.start()
        gate = LoadGate(settings.loads_max)
        for cache in self._caches:
            cache.bind(self._backend, self._clock, ttl_max_s=settings.ttl_max_s, gate=gate)
        self._listening = [follow(database, self._backend, self._caches) for database in self._databases]
        sources = [({"cache": cache.name}, cache.stats.numbers) for cache in self._caches]
        self._telemetry.numbers(names.CACHE_NUMBERS, "The caches of this process.", *sources)
        self._telemetry.numbers(
            names.CACHE_STORE, "The store that caches share.", ({}, lambda: self._store(gate))
        )
        self._sampler = asyncio.create_task(self._keep_sampling(), name="tenfold-hot-keys")

    async def _keep_sampling(self) -> None:
        """Once a second, look at a few reads of each cache: which keys are hot."""
        fades_at = self._clock.monotonic() + FADE_S
        while True:
            await self._clock.sleep(1.0)
            fades = self._clock.monotonic() >= fades_at
            fades_at += FADE_S if fades else 0.0
            for cache in self._caches:
                cache.sample()
                if fades:
                    cache.hot.fade()

    def _store(self, gate: LoadGate) -> Mapping[str, int | float]:
        return {"loads_waiting": gate.waiting, **self._backend.numbers()}

    async def stop(self) -> None:
        await end_tasks(self._sampler)
        self._sampler = None
        while self._listening:
            self._listening.pop()()
        for cache in self._caches:
            await cache.unbind()
        await self._backend.stop()
