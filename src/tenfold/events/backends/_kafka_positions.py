"""Topics and consumer groups: what exists, and where a new subscription begins."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer  # type: ignore[import-untyped]
from aiokafka.admin import AIOKafkaAdminClient, NewTopic  # type: ignore[import-untyped]
from aiokafka.errors import (  # type: ignore[import-untyped]
    CommitFailedError,
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    IllegalGenerationError,
    NotCoordinatorError,
    RebalanceInProgressError,
    TopicAlreadyExistsError,
    UnknownMemberIdError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.structs import TopicPartition  # type: ignore[import-untyped]

from tenfold.events.backends._kafka_client import Cluster, quietly
from tenfold.events.contract import Feed

CLOSE_S = 2.0
PAUSE_S = 0.05
NO_COORDINATOR = (CoordinatorLoadInProgressError, CoordinatorNotAvailableError, NotCoordinatorError)


class KafkaPositions:
    """Asks and changes what the cluster keeps besides events."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._admin: AIOKafkaAdminClient | None = None
        self._starting = asyncio.Lock()

    async def close(self) -> None:
        """Let go of the connections."""
        admin, self._admin = self._admin, None
        if admin is not None:
            await quietly(admin.close(), within_s=CLOSE_S)

    async def partitions(self, topics: Sequence[str]) -> dict[str, list[int]]:
        """Of the topics that exist."""
        described = await (await self.admin()).describe_topics(list(topics))
        return {
            one["topic"]: sorted(part["partition"] for part in one["partitions"])
            for one in described
            if not one["error_code"]
        }

    async def make(self, topics: Sequence[str]) -> set[str]:
        """Create the topics that are missing; answers which were."""
        missing = [topic for topic in topics if topic not in await self.partitions(topics)]
        if not missing:
            return set()
        cluster = self._cluster
        configs = {"retention.ms": str(cluster.keep_s * 1000)}
        new = [NewTopic(topic, cluster.partitions, 1, topic_configs=configs) for topic in missing]
        for one in new:
            one.replication_factor = (
                cluster.replication
            )  # -1 is what the class refuses, and servers understand
        answer = await (await self.admin()).create_topics(new)
        for topic, code, *message in answer.topic_errors:
            if code and for_code(code) is not TopicAlreadyExistsError:
                text = next((part for part in message if part), "")
                raise for_code(code)(f"topic {topic} could not be made: {text}")
        # The controller has told us; each server learns of it a moment later.
        while len(await self.partitions(missing)) < len(missing):  # noqa: ASYNC110 - the server has no bell for us
            await asyncio.sleep(PAUSE_S)
        return set(missing)

    async def begin(self, feeds: Iterable[Feed], made: set[str]) -> None:
        """Give the groups that have no position one, so that what is published from now on is theirs, also before
        their first consumer comes. Groups without any begin at the oldest event there is."""
        feeds = list(feeds)
        known = await asyncio.gather(*(self.committed(feed) for feed in feeds))
        for feed, positions in zip(feeds, known, strict=True):
            if not positions:
                await self._begin(feed, from_start=self._cluster.topic(feed.topic) in made)

    async def committed(self, feed: Feed) -> Mapping[TopicPartition, int]:
        """Where a group stands, by partition. Waits for the server that keeps groups, which a new cluster chooses when
        it is first asked; the caller sets an end to that."""
        while True:
            try:
                found = await (await self.admin()).list_consumer_group_offsets(self._cluster.group(feed))
                break
            except NO_COORDINATOR:
                await asyncio.sleep(PAUSE_S)
        return {place: known.offset for place, known in found.items() if known.offset >= 0}

    async def ends(self, topic: str) -> Mapping[TopicPartition, int]:
        """The offsets of what is published next."""
        consumer = await self._consumer(None)
        try:
            ends: Mapping[TopicPartition, int] = await consumer.end_offsets(await self._places(topic))
            return ends
        finally:
            await quietly(consumer.stop(), within_s=CLOSE_S)

    async def _begin(self, feed: Feed, *, from_start: bool) -> None:
        topic = self._cluster.topic(feed.topic)
        places = await self._places(topic)
        consumer = await self._consumer(self._cluster.group(feed))
        try:
            consumer.assign(places)
            # First where the topic ends, then whether somebody else was faster: the other way round, what was
            # published between their commit and our look would be left out.
            ends = dict.fromkeys(places, 0) if from_start else await consumer.end_offsets(places)
            if not any([await consumer.committed(place) is not None for place in places]):
                await consumer.commit(ends)
        except (CommitFailedError, UnknownMemberIdError, IllegalGenerationError, RebalanceInProgressError):
            return  # the group is alive, so it has begun
        finally:
            await quietly(consumer.stop(), within_s=CLOSE_S)

    async def _places(self, topic: str) -> list[TopicPartition]:
        found = (await self.partitions([topic])).get(topic)
        if not found:
            raise UnknownTopicOrPartitionError(f"there is no topic {topic}")
        return [TopicPartition(topic, n) for n in found]

    async def _consumer(self, group: str | None) -> AIOKafkaConsumer:
        consumer = AIOKafkaConsumer(
            **self._cluster.options(), group_id=group, enable_auto_commit=False, auto_offset_reset="earliest"
        )
        try:
            await consumer.start()
        except BaseException:
            await quietly(consumer.stop(), within_s=CLOSE_S)
            raise
        return consumer

    async def admin(self) -> Any:
        """The client that asks; connects when there is none."""
        async with self._starting:
            if self._admin is None:
                admin = AIOKafkaAdminClient(**self._cluster.options())
                try:
                    await admin.start()
                except BaseException:
                    await quietly(admin.close(), within_s=CLOSE_S)
                    raise
                self._admin = admin
            return self._admin
