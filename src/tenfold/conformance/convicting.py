"""Suites on trial: each broken variant of :mod:`~tenfold.conformance.faulty` must be noticed, on your backend too.

A class names the trial before the class that runs the suite; of the latter only the fixtures are used::

    class TestMine(DatabaseConformance): ...

    class TestBrokenMine(ConvictingDatabase, TestMine): ...
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, ClassVar

import pytest

from tenfold._core.clock import ManualClock
from tenfold.cache.cache import Cache
from tenfold.cache.contract import CacheBackend
from tenfold.conformance import faulty
from tenfold.conformance._altered import Altered, Broken, alter
from tenfold.conformance._broker_case import Pair as BrokerPair
from tenfold.conformance._broker_case import ServerSwitch, Subscriber
from tenfold.conformance._cache_case import CacheCase
from tenfold.conformance._database_case import Instances, OpenDatabase
from tenfold.conformance._eventstore_case import Process
from tenfold.conformance._guard_case import Elapse, Pair
from tenfold.conformance._queue_case import QueueOf, Worker
from tenfold.conformance.kit import convict
from tenfold.db.contract import Capabilities
from tenfold.db.database import Database
from tenfold.errors import TenfoldError
from tenfold.events.contract import Feed

_TRIAL = "test_a_broken_variant_is_convicted"


class Convicting:
    """The base of the trials: a suite's own tests are not collected, its broken variants are tried instead."""

    variants: ClassVar[Sequence[Broken]] = ()
    sound: ClassVar[bool] = False
    """Try a wrapper that breaks nothing: then the tests have to pass. It judges the wrapper."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name in dir(cls):
            if name.startswith("test_") and name != _TRIAL:
                setattr(cls, name, None)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """One test per broken variant."""
        if "broken" in metafunc.fixturenames:
            metafunc.parametrize("broken", self.variants, ids=[variant.name for variant in self.variants])

    def spoil(self, broken: Broken, backend: Any) -> Any:
        """The variant of ``backend`` on trial."""
        return alter(backend) if self.sound else broken.break_(backend)

    async def judge(self, broken: Broken, **fixtures: Any) -> None:
        """Fail unless the test that ``broken`` names fails with these fixtures (or passes, on a sound one)."""
        test = _of_suite(type(self), broken.test).__get__(self)
        given = {**fixtures, **broken.arguments}
        if self.sound:
            await test(**{name: given[name] for name in inspect.signature(test).parameters})
        else:
            await convict(test, timeout_s=broken.timeout_s, **given)


def _of_suite(cls: type, name: str) -> Any:
    for base in cls.__mro__:
        found = base.__dict__.get(name)
        if inspect.isfunction(found):
            return found
    raise LookupError(f"{cls.__name__} has no test {name}.")


class ConvictingDatabase(Convicting):
    variants = faulty.DATABASE

    async def test_a_broken_variant_is_convicted(
        self,
        broken: Broken,
        db: Database,
        instances: Instances,
        declared: Capabilities,
        open_db: OpenDatabase,
    ) -> None:
        """The suite notices a database that does not keep its contract."""
        if broken.concerns(declared):
            first, second = (self._spoilt(broken, database) for database in instances)
            await self.judge(broken, db=first, other=second, declared=declared, open_db=open_db)

    def _spoilt(self, broken: Broken, database: Database) -> Database:
        spoilt = Database(database.name, database.metadata)
        spoilt.bind(self.spoil(broken, database.backend))
        return spoilt


class ConvictingQueue(Convicting):
    variants = faulty.QUEUE
    shrink: ClassVar[bool] = False
    examples: ClassVar[int] = 100  # it ends with the first one that goes wrong

    async def test_a_broken_variant_is_convicted(
        self, broken: Broken, one: Worker, two: Worker, queue: QueueOf, declared: Capabilities
    ) -> None:
        """The suite notices a queue that does not keep its contract."""
        spoilt = self.spoil(broken, queue)
        first, second = one._replace(queue=spoilt), two._replace(queue=spoilt)
        await self.judge(broken, one=first, two=second, declared=declared)


class ConvictingBroker(Convicting):
    variants = faulty.BROKER

    async def test_a_broken_variant_is_convicted(
        self, broken: Broken, pair: BrokerPair, topic: str, switch: ServerSwitch | None, declared: Any
    ) -> None:
        """The suite notices a broker that does not keep its contract."""
        if not broken.concerns(declared):
            return
        feed = Feed(f"{topic}-s", topic)
        await pair.first.declare([topic], [feed])
        first, second = self.spoil(broken, pair.first), self.spoil(broken, pair.second)
        subscriber = Subscriber(first, feed)
        await first.declare([topic], [feed])
        try:
            await self.judge(
                broken, broker=first, other=second, pair=BrokerPair(first, second), topic=topic, feed=feed,
                subscriber=subscriber, switch=switch, declared=declared,
            )  # fmt: skip
        finally:
            await subscriber.close()


class ConvictingEventStore(Convicting):
    variants = faulty.EVENTSTORE

    async def test_a_broken_variant_is_convicted(
        self, broken: Broken, one: Process, two: Process, declared: Capabilities
    ) -> None:
        """The suite notices an event store that does not keep its contract."""
        if broken.concerns(declared):
            spoilt = self.spoil(broken, one.store)
            first, second = one._replace(store=spoilt), two._replace(store=spoilt)
            await self.judge(broken, one=first, two=second, declared=declared)


class ConvictingCache(Convicting, CacheCase):
    variants = faulty.CACHE

    async def test_a_broken_variant_is_convicted(
        self, broken: Broken, backends: tuple[CacheBackend, CacheBackend], declared: Any
    ) -> None:
        """The suite notices a cache that does not keep its contract."""
        spoilt = (self.spoil(broken, backends[0]), self.spoil(broken, backends[1]))
        pair: tuple[Cache, Cache] = self.make_pair(spoilt, f"broken {broken.name}")
        try:
            await self.judge(
                broken, cache=pair[0], other=pair[1], pair=pair, backends=spoilt, declared=declared
            )
        finally:
            for cache in pair:
                await cache.unbind()


class ConvictingStore(Convicting):
    """For limits, leases, idempotency keys and sessions: their suites take a ``store`` and an ``other``."""

    async def test_a_broken_variant_is_convicted(
        self,
        broken: Broken,
        store: Any,
        other: Any,
        pair: Pair,
        elapse: Elapse,
        name: str,
        clock: ManualClock,
    ) -> None:
        """The suite notices a store that does not keep its contract."""
        await self.judge(
            broken, store=self.spoil(broken, store), other=self.spoil(broken, other), pair=pair, elapse=elapse,
            name=name, clock=clock, db=pair.first.db, now=pair.first.db.backend.clock.now(),
        )  # fmt: skip


class ConvictingLimits(ConvictingStore):
    variants = faulty.LIMITS


class ConvictingLeases(ConvictingStore):
    variants = faulty.LEASES


class ConvictingIdempotency(ConvictingStore):
    """A test that fails leaves its attempt open, which holds a transaction: it is released here."""

    variants = faulty.IDEMPOTENCY

    def spoil(self, broken: Broken, backend: Any) -> Any:
        """The variant of the store, with its attempts remembered."""
        spoilt = super().spoil(broken, backend)
        opened = self.__dict__.setdefault("opened", [])

        def attempt(it: Any, *args: Any, **kw: Any) -> Any:
            opened.append(it.inner.attempt(*args, **kw))
            return opened[-1]

        return alter(spoilt, attempt=attempt)

    async def judge(self, broken: Broken, **fixtures: Any) -> None:
        """See the base class."""
        try:
            await super().judge(broken, **fixtures)
        finally:
            for attempt in self.__dict__.get("opened", []):
                sound = attempt.inner if isinstance(attempt, Altered) else attempt
                with suppress(TenfoldError):
                    await sound.release()


class ConvictingSessions(ConvictingStore):
    variants = faulty.SESSIONS
