"""Caches on a shared store, as several processes have them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from tenfold._core.clock import SystemClock
from tenfold._core.resolve import backend_class
from tenfold._core.sections import CacheSettings
from tenfold.cache.backends._tiers import TieredBackend
from tenfold.cache.cache import Cache


class Process:
    """A backend with one cache on it: what a process of the app has."""

    def __init__(self, backend: TieredBackend, cache: Cache) -> None:
        self.backend, self.cache = backend, cache

    @property
    def is_up(self) -> bool:
        """Whether the store answers."""
        return bool(self.backend.numbers()["up"])


@asynccontextmanager
async def process(
    url: str, *, cache: dict[str, Any] | None = None, **settings: Any
) -> AsyncGenerator[Process]:
    """One process's backend and cache "shop", started."""
    chosen = CacheSettings(url=url, **settings)
    clock = SystemClock()
    backend: TieredBackend = backend_class("cache", url, where="url").from_url(url, chosen, clock)
    await backend.start()
    made = Cache("shop", **{"jitter": 0.0, **(cache or {})})
    made.bind(backend, clock)
    try:
        yield Process(backend, made)
    finally:
        await made.unbind()
        await backend.stop()


@asynccontextmanager
async def processes(url: str, count: int, **options: Any) -> AsyncGenerator[list[Process]]:
    """Several of them."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(process(url, **options)) for _ in range(count)]
