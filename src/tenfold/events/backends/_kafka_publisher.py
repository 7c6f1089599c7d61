"""Publishing to Kafka: one record batch per partition, in order, each confirmed by all replicas in sync."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer  # type: ignore[import-untyped]
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError  # type: ignore[import-untyped]
from aiokafka.partitioner import DefaultPartitioner  # type: ignore[import-untyped]

from tenfold.errors import PublishFailed
from tenfold.events.backends._kafka_client import Cluster, describe, quietly
from tenfold.events.bindings import KAFKA
from tenfold.events.contract import Outgoing
from tenfold.events.policy import behind, refuse_large

log = logging.getLogger("tenfold.events")

SIZE_MAX_BYTES = 1_000_000
"""Of a body. A record with its key and headers fits into what servers take as they come (1,048,588 bytes)."""
BATCH_MAX_BYTES = 1_000_000
CLOSE_S = 2.0


class Place(NamedTuple):
    """A partition, by the name of the topic at the server."""

    topic: str
    partition: int


class KafkaPublisher:
    """A producer that is thrown away at the first error.

    It is idempotent: the server refuses a batch when the one before it in its partition is missing, so that no event
    overtakes another one of its key. The price is that it never gives a batch up by itself, and is of no use after an
    error; a new one begins a new sequence.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()
        self._partition_of = DefaultPartitioner()
        self._turn = itertools.count()

    async def publish(self, events: Sequence[Outgoing]) -> None:
        """See :meth:`Broker.publish <tenfold.events.contract.Broker.publish>`."""
        failed = refuse_large(events, SIZE_MAX_BYTES)
        wanted = [n for n in range(len(events)) if n not in failed]
        if wanted:
            failed |= await self._send(events, wanted)
        if failed:
            raise PublishFailed(failed)

    async def close(self) -> None:
        """Let go of the connections."""
        self._drop()
        await asyncio.gather(*self._closing, return_exceptions=True)

    async def _send(self, events: Sequence[Outgoing], wanted: Sequence[int]) -> dict[int, str]:
        """Answers what was not confirmed. Raises BrokerUnavailable when nothing was."""
        sent: dict[asyncio.Future[Any], list[int]] = {}
        confirmed: set[int] = set()
        error: BaseException | None = None
        try:
            async with asyncio.timeout(self._cluster.timeout_s):
                producer = await self._open()
                places = await self._places(producer, events, wanted)
                await asyncio.gather(*(self._fill(producer, p, events, ns, sent) for p, ns in places.items()))
                await asyncio.wait(sent)
        except (TimeoutError, KafkaError, OSError) as caught:
            error = caught
        except BaseException:
            self._drop()
            raise
        for future, positions in sent.items():
            if future.done() and not future.cancelled() and future.exception() is None:
                confirmed.update(positions)
            elif future.done() and not future.cancelled():
                error = error or future.exception()
        return self._failed(events, [n for n in wanted if n not in confirmed], confirmed, error)

    def _failed(
        self,
        events: Sequence[Outgoing],
        left: Sequence[int],
        confirmed: set[int],
        error: BaseException | None,
    ) -> dict[int, str]:
        if not left:
            return {}
        self._drop()
        with self._cluster.translated():
            if not confirmed and error is not None and not isinstance(error, UnknownTopicOrPartitionError):
                raise error
        why = describe(error) if error is not None else "it was not confirmed in time"
        failed = {
            n: f"Kafka did not take event {events[n].event_id} of {events[n].topic}: {why}" for n in left
        }
        return failed | {n: text for n, text in behind(events, failed).items() if n not in confirmed}

    async def _open(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    **self._cluster.options(),
                    enable_idempotence=True,
                    acks="all",
                    max_batch_size=BATCH_MAX_BYTES,
                )
                self._producer = producer
                try:
                    await producer.start()
                except BaseException:
                    self._drop()
                    raise
            return self._producer

    async def _places(
        self, producer: AIOKafkaProducer, events: Sequence[Outgoing], wanted: Sequence[int]
    ) -> Mapping[Place, list[int]]:
        """Which events go to which partition. A key's is the one that Kafka's own clients choose; events without one
        go to one partition together, the next call's to the next."""
        turn = next(self._turn)
        partitions: dict[str, list[int]] = {}
        places: dict[Place, list[int]] = defaultdict(list)
        for n in wanted:
            event = events[n]
            topic = self._cluster.topic(event.topic)
            if topic not in partitions:
                partitions[topic] = sorted(await producer.partitions_for(topic))
            every = partitions[topic]
            key = None if event.key is None else event.key.encode()
            partition = every[turn % len(every)] if key is None else self._partition_of(key, every, every)
            places[Place(topic, partition)].append(n)
        return places

    async def _fill(
        self,
        producer: AIOKafkaProducer,
        place: Place,
        events: Sequence[Outgoing],
        positions: Sequence[int],
        sent: dict[asyncio.Future[Any], list[int]],
    ) -> None:
        """Hand the events of one partition over, as few batches as their size allows."""

        async def hand_over() -> None:
            future = await producer.send_batch(batch, place.topic, partition=place.partition)
            future.add_done_callback(_seen)
            sent[future] = inside

        batch, inside = producer.create_batch(), list[int]()
        for n in positions:
            event = events[n]
            record: dict[str, Any] = {
                "key": None if event.key is None else event.key.encode(),
                "value": event.body,
                "timestamp": None,
                "headers": [(k, v.encode()) for k, v in KAFKA.headers(event.attributes).items()],
            }
            if batch.append(**record) is None:
                await hand_over()
                batch, inside = producer.create_batch(), []
                batch.append(**record)
            inside.append(n)
        await hand_over()

    def _drop(self) -> None:
        """What it holds and was not confirmed, a new one sends again."""
        producer, self._producer = self._producer, None
        if producer is not None:
            task = asyncio.create_task(_end(producer), name="tenfold-kafka-close")
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)


def _seen(future: asyncio.Future[Any]) -> None:
    """What becomes of a batch after we gave it up concerns nobody; asyncio would log its error as forgotten."""
    if not future.cancelled():
        future.exception()


async def _end(producer: AIOKafkaProducer) -> None:
    # Asked to stop, it would go on sending until the server takes everything; without its task it cannot.
    task = producer._sender.sender_task
    if task is not None:
        task.cancel()
    await quietly(producer.client.close(), producer.stop(), within_s=CLOSE_S)
