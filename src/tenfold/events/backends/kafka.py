"""Events through Apache Kafka (3.0 or newer), or a service that speaks its protocol.

Needs ``pip install 'tenfold[kafka]'`` and a URL ``kafka://[user:password@]host:port[,host:port…]`` with options after a
``?``: ``partitions`` (12) and ``replication`` (as the server is set) of the topics that are made, ``keep_s`` (604800)
for how long they keep events, ``tls=true``, ``ssl_ca_certs=file``, ``sasl`` (SCRAM-SHA-512, SCRAM-SHA-256 or PLAIN).

A topic is a topic, ``<events.prefix>.<topic>``; an event's key is the record's, so its partition is the one that
Kafka's own clients choose; a subscription is a consumer group. The producer is idempotent and waits for all replicas in
sync (set ``min.insync.replicas`` to 2 where nothing may be lost with one machine). Offsets are committed by hand, at most
every 0.1 s, before partitions are given to others, and at the end.

Weakens: any number of processes consume a subscription at once, each some of the partitions, so with more processes
than partitions some have nothing to do. Changing the number of partitions moves keys: the order of a key is kept before
and after, not across. A process that falls silent is replaced after 6 s at the earliest. A group that nobody uses for
longer than the server's ``offsets.retention.minutes`` begins at the oldest event that is kept; the inbox absorbs what it
remembers of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tenfold.events.backends._kafka_client import Cluster
from tenfold.events.backends._kafka_consumer import KafkaConsumer
from tenfold.events.backends._kafka_positions import KafkaPositions
from tenfold.events.backends._kafka_publisher import SIZE_MAX_BYTES, KafkaPublisher
from tenfold.events.contract import Broker, Capabilities, Consumer, Counts, Feed, Outgoing

if TYPE_CHECKING:
    from tenfold._core.clock import Clock
    from tenfold._core.sections import EventsSettings


class Backend(Broker):
    """See :class:`Broker`."""

    capabilities = Capabilities(
        durable=True,
        ordered=True,
        keyed_consumers=True,
        deduplicates=False,
        replays=True,
        size_max_bytes=SIZE_MAX_BYTES,
    )

    def __init__(self, cluster: Cluster, clock: Clock) -> None:
        self._cluster, self._clock = cluster, clock
        self.keep_s = float(cluster.keep_s)
        self._positions = KafkaPositions(cluster)
        self._publisher = KafkaPublisher(cluster)
        self._consumers: list[KafkaConsumer] = []

    @classmethod
    def from_url(cls, url: str, *, settings: EventsSettings, clock: Clock) -> Backend:
        return cls(Cluster.from_url(url, settings), clock)

    async def start(self) -> None:
        await self.health()

    async def stop(self) -> None:
        consumers, self._consumers = self._consumers, []
        await asyncio.gather(*(consumer.close() for consumer in consumers))
        await self._publisher.close()
        await self._positions.close()

    async def health(self) -> None:
        with self._cluster.translated():
            async with asyncio.timeout(self._cluster.timeout_s):
                await self._positions.partitions([])

    async def declare(self, topics: Sequence[str], feeds: Sequence[Feed]) -> None:
        names = sorted({self._cluster.topic(topic) for topic in [*topics, *(feed.topic for feed in feeds)]})
        with self._cluster.translated():
            async with asyncio.timeout(self._cluster.timeout_s):
                made = await self._positions.make(names)
                await self._positions.begin(feeds, made)

    async def publish(self, events: Sequence[Outgoing]) -> None:
        await self._publisher.publish(events)

    async def consume(self, feed: Feed) -> Consumer:
        consumer = KafkaConsumer(self._cluster, self._positions, feed, self._clock)
        await consumer.open()
        self._consumers.append(consumer)
        return consumer

    async def counts(self, feed: Feed) -> Counts | None:
        with self._cluster.translated():
            async with asyncio.timeout(self._cluster.timeout_s):
                ends = await self._positions.ends(self._cluster.topic(feed.topic))
                done = await self._positions.committed(feed)
        lags = {place.partition: end - done.get(place, 0) for place, end in ends.items()}
        return Counts(sum(lags.values()), {"partitions": str(len(lags))})
