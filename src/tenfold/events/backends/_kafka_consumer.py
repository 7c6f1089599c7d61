"""Consuming from Kafka: one member of a subscription's group."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from aiokafka import AIOKafkaConsumer  # type: ignore[import-untyped]
from aiokafka.abc import ConsumerRebalanceListener  # type: ignore[import-untyped]
from aiokafka.structs import TopicPartition  # type: ignore[import-untyped]

from tenfold.events.backends._kafka_client import quietly
from tenfold.events.backends._kafka_commits import KafkaCommits, Positions
from tenfold.events.bindings import KAFKA
from tenfold.events.contract import Consumer, Feed, Incoming

if TYPE_CHECKING:
    from tenfold._core.clock import Clock
    from tenfold.events.backends._kafka_client import Cluster
    from tenfold.events.backends._kafka_positions import KafkaPositions

SESSION_MIN_S, SESSION_MAX_S = 6.0, 45.0
"""Servers refuse less than the first, as they come; more than the second only delays who takes over."""
LOOK_EVERY_S = 1.0
"""While nothing comes, so often is looked whether the server and the topic are still there."""
CLOSE_S = 3.0


class Place(NamedTuple):
    """Where a record stands, and in which of the consumer's terms it was fetched."""

    partition: TopicPartition
    offset: int
    term: int


class _Terms(ConsumerRebalanceListener):  # type: ignore[misc]  # of a library without types
    """Counts how often partitions were given out anew. What was acknowledged until then is committed before others get
    it. What was fetched in an earlier term belongs to whoever has the partition now: it is not acknowledged, and comes
    again."""

    def __init__(self, commits: KafkaCommits) -> None:
        self.number = 0
        self._commits = commits

    # The library awaits it where it can be awaited, which its annotation does not say.
    async def on_partitions_revoked(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, revoked: Iterable[TopicPartition]
    ) -> None:
        await quietly(self._commits.flush(), within_s=CLOSE_S)
        self._commits.forget()
        self.number += 1

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        pass


class KafkaConsumer(Consumer):
    """See :class:`Consumer`. The library reconnects and joins again by itself, in silence; what it does not tell is
    found out by looking at the topic."""

    def __init__(self, cluster: Cluster, positions: KafkaPositions, feed: Feed, clock: Clock) -> None:
        self._cluster, self._positions, self._feed, self._clock = cluster, positions, feed, clock
        self._topic = cluster.topic(feed.topic)
        self._commits = KafkaCommits(self._commit, clock)
        self._terms = _Terms(self._commits)
        self._looked_at = clock.monotonic()
        session_ms = int(max(SESSION_MIN_S, min(SESSION_MAX_S, cluster.redeliver_s)) * 1000)
        self._client = AIOKafkaConsumer(
            **cluster.options(),
            group_id=cluster.group(feed),
            enable_auto_commit=False,
            # A group without a position in a partition: the partition is new, or the server was wiped.
            auto_offset_reset="earliest",
            session_timeout_ms=session_ms,
            heartbeat_interval_ms=session_ms // 6,
            fetch_max_wait_ms=500,
        )

    async def open(self) -> None:
        """Join the group. Who is alone in it is given all partitions at once."""
        self._client.subscribe([self._topic], listener=self._terms)
        try:
            with self._cluster.translated():
                async with asyncio.timeout(self._cluster.timeout_s):
                    await self._client.start()
        except BaseException:
            await self.close()
            raise

    async def fetch(self, limit: int, wait_s: float) -> list[Incoming]:
        with self._cluster.translated():
            self._commits.check()
            self._client.resume(*self._client.paused())
            term = self._terms.number
            found = await self._client.getmany(timeout_ms=int(wait_s * 1000), max_records=limit)
            if term != self._terms.number:
                await self._rewind(found)
                return []
            if found:
                self._looked_at = self._clock.monotonic()
            else:
                await self._look()
        events = [self._incoming(record, term) for records in found.values() for record in records]
        if 0 < len(events) < limit:
            self._pause()
        return events

    async def acknowledge(self, events: Sequence[Incoming]) -> None:
        """They are committed a moment later, or by :meth:`close`. A crash before that delivers them again."""
        places: list[Place] = [event.token for event in events]
        ours = self._client.assignment()
        positions = {
            place.partition: place.offset + 1
            for place in places
            if place.term == self._terms.number and place.partition in ours
        }
        with self._cluster.translated():
            self._commits.note(positions)

    async def close(self) -> None:
        await quietly(self._commits.close(), self._client.stop(), within_s=CLOSE_S)

    async def _commit(self, positions: Positions) -> None:
        async with asyncio.timeout(self._cluster.timeout_s):
            await self._client.commit(positions)

    def _pause(self) -> None:
        """Until the next fetch. The library fetches ahead, and what it has of a partition, one record perhaps, keeps
        what comes after it waiting until that was handed out: a whole turn. With less than a batch to hand out there is
        nothing to gain by that."""
        self._client.pause(*self._client.assignment())

    async def _rewind(self, found: dict[TopicPartition, list[Any]]) -> None:
        """What was fetched across a change of terms is read again, where the partition is still ours."""
        ours = self._client.assignment()
        for partition, records in found.items():
            if partition in ours and records:
                self._client.seek(partition, records[0].offset)

    async def _look(self) -> None:
        if self._clock.monotonic() - self._looked_at < LOOK_EVERY_S:
            return
        async with asyncio.timeout(self._cluster.timeout_s):
            known = await self._positions.partitions([self._topic])
        if self._topic not in known:
            raise self._cluster.unavailable(f"has no topic {self._topic} any more; it is made anew")
        if set(known[self._topic]) != self._client.partitions_for_topic(self._topic):
            raise self._cluster.unavailable(f"has changed the partitions of {self._topic}; joining anew")
        self._looked_at = self._clock.monotonic()

    def _incoming(self, record: Any, term: int) -> Incoming:
        attributes = KAFKA.attributes(dict(record.headers))
        place = Place(TopicPartition(record.topic, record.partition), record.offset, term)
        return Incoming(
            topic=self._feed.topic,
            key=None if record.key is None else record.key.decode("utf-8", "backslashreplace"),
            event_id=attributes.get("id") or f"{record.topic}-{record.partition}-{record.offset}",
            body=record.value or b"",
            attributes=attributes,
            token=place,
        )
