"""A cache on a clock that stands still."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tenfold._core.clock import ManualClock
from tenfold.cache.backends.memory import Backend
from tenfold.cache.cache import Cache


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


MakeCache = Callable[..., Cache]


@pytest.fixture
def make_cache(clock: ManualClock) -> MakeCache:
    """A bound cache with options of its own: 60 s without jitter, so that times in tests are exact."""

    def make(*, entries_max: int = 1000, ttl_max_s: float = 86_400.0, **options: Any) -> Cache:
        cache = Cache("shop", **{"ttl_s": 60.0, "jitter": 0.0, **options})
        cache.bind(Backend(entries_max, clock), clock, ttl_max_s=ttl_max_s)
        return cache

    return make


@pytest.fixture
def cache(make_cache: MakeCache) -> Cache:
    return make_cache()
