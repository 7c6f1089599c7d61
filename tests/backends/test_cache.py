"""The cache suite on every backend, with and without copies in the process."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from support.servers import Memcached, Redis
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


class TestMemcachedWithoutCopies(TestMemcached):
    settings: ClassVar[dict[str, Any]] = {"near_entries": 0, "prefix": "far"}


class TestBrokenRedis(ConvictingCache, TestRedis): ...


@pytest.mark.soak
class TestBrokenMemcached(ConvictingCache, TestMemcached): ...
