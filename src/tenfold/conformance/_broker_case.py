"""The fixtures of the brokers' suite: two processes on one server, names nobody else uses, and the server's switch."""

from __future__ import annotations

import asyncio
import itertools
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence
from typing import Any, ClassVar, NamedTuple

import pytest

from tenfold._core.clock import SystemClock
from tenfold._core.resolve import backend_class
from tenfold._core.sections import EventsSettings
from tenfold.conformance.kit import PATIENCE_S, Conformance
from tenfold.errors import BrokerUnavailable, PublishFailed
from tenfold.events.contract import Broker, Capabilities, Consumer, Feed, Incoming, Outgoing
from tenfold.events.envelope import JSON

TIMEOUT_S = 5.0
WAIT_S = 0.05
"""One look for events; :meth:`Subscriber.take` looks again and again."""

_numbers = itertools.count(1)

ARRIVAL_S = 3 * PATIENCE_S
"""How long what has to come may take: a server that stands in for a service in the cloud is slow."""


class ServerSwitch(ABC):
    """What a suite may do to the server. A third party writes one for its own; each method returns when it is done."""

    @abstractmethod
    async def stop(self) -> None:
        """Kill it, without a warning: connections break and new ones are refused."""

    @abstractmethod
    async def start(self) -> None:
        """Start it again, with the data that it had."""

    @abstractmethod
    async def wipe(self) -> None:
        """Kill it and start it again without any data."""


class Pair(NamedTuple):
    """The broker as two processes have it."""

    first: Broker
    second: Broker


def event(topic: str, n: int, key: str | None = None, **changes: Any) -> Outgoing:
    """An event that tells its number."""
    id_ = f"{topic}-{n}"
    envelope = {
        "specversion": "1.0",
        "id": id_,
        "type": f"{topic}.v1",
        "source": "/conf",
        "datacontenttype": JSON,
    }
    fields: dict[str, Any] = {
        "topic": topic, "key": key, "event_id": id_, "body": b'{"n":%d}' % n, "attributes": envelope, **changes
    }  # fmt: skip
    return Outgoing(**fields)


def number(event: Incoming) -> int:
    """Of an event made by :func:`event`."""
    return int(event.event_id.rpartition("-")[2])


def numbers(events: Sequence[Incoming]) -> list[int]:
    """Of events made by :func:`event`."""
    return [number(one) for one in events]


class Subscriber:
    """A consumer that is opened when needed, and opened again when its connection breaks."""

    def __init__(self, broker: Broker, feed: Feed) -> None:
        self.broker, self.feed = broker, feed
        self._consumer: Consumer | None = None

    async def take(self, count: int, *, limit: int = 100, timeout_s: float = ARRIVAL_S) -> list[Incoming]:
        """Fetch until there are ``count`` events, without acknowledging. Fails the test after ``timeout_s``."""
        taken: list[Incoming] = []
        try:
            async with asyncio.timeout(timeout_s):
                while len(taken) < count:
                    taken += await self.look(limit=min(limit, count - len(taken)))
        except TimeoutError:
            pytest.fail(f"{count} events were expected on {self.feed.name}, {numbers(taken)} came")
        return taken

    async def take_new(self, count: int, *, timeout_s: float = ARRIVAL_S) -> list[Incoming]:
        """Fetch and acknowledge until ``count`` different events have come; the first delivery of each."""
        found: dict[str, Incoming] = {}
        try:
            async with asyncio.timeout(timeout_s):
                while len(found) < count:
                    events = await self.look()
                    for one in events:
                        found.setdefault(one.event_id, one)
                    await self.acknowledge(events)
        except TimeoutError:
            pytest.fail(
                f"{count} events were expected on {self.feed.name}, {numbers(list(found.values()))} came"
            )
        return list(found.values())

    async def take_until(self, n: int, *, timeout_s: float = ARRIVAL_S) -> list[Incoming]:
        """Fetch and acknowledge until the event with this number has come."""
        taken: list[Incoming] = []
        try:
            async with asyncio.timeout(timeout_s):
                while n not in numbers(taken):
                    events = await self.look()
                    await self.acknowledge(events)
                    taken += events
        except TimeoutError:
            pytest.fail(f"event {n} was expected on {self.feed.name}, {numbers(taken)} came")
        return taken

    async def settled(self) -> None:
        """Returns when the server has surely taken notice of every acknowledgement: it answers what was asked after
        them."""
        await self.look(wait_s=WAIT_S)

    async def look(self, *, limit: int = 100, wait_s: float = WAIT_S) -> list[Incoming]:
        """What one fetch gives; nothing when the server is away."""
        try:
            return await (await self.open()).fetch(limit, wait_s)
        except BrokerUnavailable:
            await self.close()
            await asyncio.sleep(WAIT_S)
            return []

    async def acknowledge(self, events: Sequence[Incoming]) -> None:
        """Of the consumer that fetched them."""
        if events:
            await (await self.open()).acknowledge(events)

    async def open(self) -> Consumer:
        if self._consumer is None:
            await self.broker.declare([self.feed.topic], [self.feed])
            self._consumer = await self.broker.consume(self.feed)
        return self._consumer

    async def close(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await consumer.close()


async def publish_until(
    broker: Broker, events: Sequence[Outgoing], feeds: Sequence[Feed], timeout_s: float = ARRIVAL_S
) -> None:
    """Declare and publish again and again, as the relay does, until it works. Fails the test after ``timeout_s``."""
    why = "nothing was tried"
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                try:
                    await broker.declare(sorted({one.topic for one in events}), feeds)
                    await broker.publish(events)
                except (BrokerUnavailable, PublishFailed) as error:
                    why = str(error)
                    await asyncio.sleep(WAIT_S)
                else:
                    return
    except TimeoutError:
        pytest.fail(f"nothing could be published for {timeout_s:g} s: {why}")


class BrokerCase(Conformance):
    """A third party overrides ``url``, and ``switch`` when the suite may stop its server."""

    broker_type: ClassVar[type[Broker] | None] = None
    """The class of the backend; None: the one that is registered for the URL's scheme."""
    settings: ClassVar[dict[str, Any]] = {}
    """Settings of ``[events]`` that it cannot work without."""
    patience_s: ClassVar[float] = ARRIVAL_S
    """How long the server may take for what it has to do by itself after a crash."""
    timeout_s: ClassVar[float] = TIMEOUT_S
    """``events.timeout_s`` of the suite."""

    @pytest.fixture(scope="class")
    @classmethod
    def url(cls) -> str:
        """The URL of a server that the suite may fill."""
        raise NotImplementedError(f"{cls.__name__} needs a fixture `url` of scope class.")

    @pytest.fixture(scope="class")
    @classmethod
    def switch(cls, url: str) -> ServerSwitch | None:
        """Stops, starts and wipes the server; None where the suite may not: then its promises about that are not
        tested, and the test says so by checking only that it works."""
        return None

    @pytest.fixture(scope="class")
    @classmethod
    async def pair(cls, url: str, anyio_backend: str) -> AsyncGenerator[Pair]:
        """The broker as two processes have it."""
        made = cls.broker_type or backend_class("events", url, where="events.url")
        fields: dict[str, Any] = {"url": url, "timeout_s": cls.timeout_s, "redeliver_s": 1.0, **cls.settings}
        settings = EventsSettings(**fields)
        pair = Pair(*(made.from_url(url, settings=settings, clock=SystemClock()) for _ in "ab"))
        for broker in pair:
            await broker.start()
        yield pair
        for broker in pair:
            await broker.stop()

    @pytest.fixture
    def broker(self, pair: Pair) -> Broker:
        """As one process has it."""
        return pair.first

    @pytest.fixture
    def other(self, pair: Pair) -> Broker:
        """As another process has it."""
        return pair.second

    @pytest.fixture(scope="class")
    @classmethod
    def declared(cls, pair: Pair) -> Capabilities:
        """What the backend says of itself."""
        return pair.first.capabilities

    @pytest.fixture
    def topic(self) -> str:
        """A topic that nobody has used."""
        return f"conf.t{next(_numbers)}"

    @pytest.fixture
    async def feed(self, broker: Broker, topic: str) -> Feed:
        """A declared subscription to ``topic``."""
        feed = Feed(f"conf.{topic.rpartition('.')[2]}-s", topic)
        await broker.declare([topic], [feed])
        return feed

    @pytest.fixture
    async def subscriber(self, broker: Broker, feed: Feed) -> AsyncGenerator[Subscriber]:
        """Of that subscription, in the first process."""
        one = Subscriber(broker, feed)
        yield one
        await one.close()
