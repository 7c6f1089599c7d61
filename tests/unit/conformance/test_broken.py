"""Every suite notices each of its broken variants, and says nothing against a wrapper that breaks nothing."""

from __future__ import annotations

import pytest

from tenfold.conformance.cache import CacheConformance
from tenfold.conformance.convicting import (
    ConvictingCache,
    ConvictingDatabase,
    ConvictingIdempotency,
    ConvictingLeases,
    ConvictingLimits,
    ConvictingQueue,
    ConvictingSessions,
)
from tenfold.conformance.database import DatabaseConformance
from tenfold.conformance.idempotency import IdempotencyConformance
from tenfold.conformance.leases import LeasesConformance
from tenfold.conformance.limits import LimitsConformance
from tenfold.conformance.queue import QueueConformance
from tenfold.conformance.sessions import SessionsConformance


class OnSqlite:
    @pytest.fixture(scope="class")
    @classmethod
    def url(cls) -> str:
        return "sqlite:///app.db"


class InMemory:
    @pytest.fixture(scope="class")
    @classmethod
    def url(cls) -> str:
        return "memory:"


class TestDatabase(ConvictingDatabase, OnSqlite, DatabaseConformance): ...


class TestSoundDatabase(TestDatabase):
    sound = True


class TestQueue(ConvictingQueue, OnSqlite, QueueConformance): ...


class TestSoundQueue(TestQueue):
    sound = True
    examples = 10


class TestCache(ConvictingCache, InMemory, CacheConformance): ...


class TestSoundCache(TestCache):
    sound = True


class TestLimits(ConvictingLimits, InMemory, LimitsConformance): ...


class TestSoundLimits(TestLimits):
    sound = True


class TestLeases(ConvictingLeases, InMemory, LeasesConformance): ...


class TestSoundLeases(TestLeases):
    sound = True


class TestIdempotency(ConvictingIdempotency, InMemory, IdempotencyConformance): ...


class TestSoundIdempotency(TestIdempotency):
    sound = True


class TestSessions(ConvictingSessions, InMemory, SessionsConformance): ...


class TestSoundSessions(TestSessions):
    sound = True
