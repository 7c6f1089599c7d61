"""The cache suite on every backend, with and without copies in the process."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from support.servers import Memcached, Redis
from tenfold.cache.backends._memcached_link import MemcachedLink
from tenfold.cache.cache import Cache
from tenfold.conformance._cache_case import Source
from tenfold.conformance.cache import CacheConformance
from tenfold.conformance.convicting import ConvictingCache


class TestMemory(CacheConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def url(cls) -> str:
        return "memory:"


class TestRedis(CacheConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def url(cls, redis_server: Redis) -> str:
        return redis_server.url(1)


class TestRedisWithoutCopies(TestRedis):
    settings: ClassVar[dict[str, Any]] = {"near_entries": 0, "prefix": "far"}


class TestMemcached(CacheConformance):
    settings: ClassVar[dict[str, Any]] = {"near_ttl_s": 0.3}

    @pytest.fixture(scope="class")
    @classmethod
    def url(cls, memcached_server: Memcached) -> str:
        return memcached_server.url

    async def test_what_another_loads_between_look_and_lease_is_not_loaded_again(
        self, pair: tuple[Cache, Cache], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Looking and taking the lease are two requests here; who was overtaken between them serves what is there."""
        source = Source()
        first, second = pair
        link: MemcachedLink = first._region()._backend.store._link  # type: ignore[attr-defined]
        look = link.get_many

        async def overtaken(keys: list[str]) -> dict[str, bytes]:
            found = await look(keys)
            monkeypatch.undo()
            assert await second.get_or_load("k", source) == "v"
            return found

        monkeypatch.setattr(link, "get_many", overtaken)
        assert await first.get_or_load("k", source) == "v"
        assert source.calls == 1


class TestMemcachedWithoutCopies(TestMemcached):
    settings: ClassVar[dict[str, Any]] = {"near_entries": 0, "prefix": "far"}


class TestBrokenRedis(ConvictingCache, TestRedis): ...


@pytest.mark.soak
class TestBrokenMemcached(ConvictingCache, TestMemcached): ...
