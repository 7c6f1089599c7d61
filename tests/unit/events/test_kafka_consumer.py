"""What a Kafka consumer asks of the server: commits for many acknowledgements, and fetches when there is room."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import pytest
from aiokafka.errors import CommitFailedError  # type: ignore[import-untyped]
from aiokafka.structs import TopicPartition  # type: ignore[import-untyped]

from tenfold._core.clock import ManualClock
from tenfold._core.sections import EventsSettings
from tenfold.errors import BrokerUnavailable
from tenfold.events.backends._kafka_client import Cluster
from tenfold.events.backends._kafka_commits import COMMIT_EVERY_S
from tenfold.events.backends._kafka_consumer import KafkaConsumer
from tenfold.events.backends._kafka_positions import KafkaPositions
from tenfold.events.contract import Feed

pytestmark = pytest.mark.anyio

TOPIC = "t.s.placed"
FIRST, SECOND = TopicPartition(TOPIC, 0), TopicPartition(TOPIC, 1)


class Record(NamedTuple):
    topic: str
    partition: int
    offset: int
    key: bytes | None = None
    value: bytes = b"{}"
    headers: tuple[tuple[str, bytes], ...] = ()


class Client:
    """In place of the library's: hands out what it is given, and keeps what it is told."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.commits: list[dict[TopicPartition, int]] = []
        self.held: set[TopicPartition] = set()
        self.asked_while: list[set[TopicPartition]] = []
        self.errors: list[Exception] = []
        self.answer = asyncio.Event()
        self.answer.set()
        self.steps: list[str] = []

    def assignment(self) -> set[TopicPartition]:
        return {FIRST, SECOND}

    def paused(self) -> set[TopicPartition]:
        return set(self.held)

    def pause(self, *partitions: TopicPartition) -> None:
        self.held |= set(partitions)

    def resume(self, *partitions: TopicPartition) -> None:
        self.held -= set(partitions)

    async def getmany(self, *, timeout_ms: int, max_records: int) -> dict[TopicPartition, list[Record]]:
        self.asked_while.append(set(self.held))
        out, self.records = self.records[:max_records], self.records[max_records:]
        found: dict[TopicPartition, list[Record]] = {}
        for one in out:
            found.setdefault(TopicPartition(one.topic, one.partition), []).append(one)
        return found

    async def commit(self, positions: dict[TopicPartition, int]) -> None:
        await self.answer.wait()
        if self.errors:
            raise self.errors.pop()
        self.commits.append(dict(positions))
        self.steps.append("commit")

    async def stop(self) -> None:
        self.steps.append("stop")


class Seat(NamedTuple):
    consumer: KafkaConsumer
    client: Client
    clock: ManualClock

    async def take(self, *offsets: int, partition: int = 0) -> None:
        """Fetch records that stand there, and acknowledge them."""
        self.client.records = [Record(TOPIC, partition, offset) for offset in offsets]
        await self.consumer.acknowledge(await self.consumer.fetch(100, 0.0))

    async def pass_on(self) -> None:
        """The partitions are given out anew."""
        await self.consumer._terms.on_partitions_revoked({FIRST, SECOND})


@pytest.fixture
def seat(monkeypatch: pytest.MonkeyPatch) -> Seat:
    client, clock = Client(), ManualClock()
    monkeypatch.setattr("tenfold.events.backends._kafka_consumer.AIOKafkaConsumer", lambda **_: client)
    settings = EventsSettings(url="kafka://127.0.0.1:1", prefix="t", timeout_s=1.0)
    cluster = Cluster.from_url(settings.url, settings)
    return Seat(
        KafkaConsumer(cluster, KafkaPositions(cluster), Feed("s.on", "s.placed"), clock), client, clock
    )


async def test_many_batches_cost_one_commit(seat: Seat) -> None:
    """Each is acknowledged without a round trip, and none is left out."""
    for offset in range(50):
        await seat.take(offset)
        await seat.take(offset, partition=1)
    assert seat.client.commits == []
    await seat.clock.advance(COMMIT_EVERY_S)
    assert seat.client.commits == [{FIRST: 50, SECOND: 50}]
    await seat.clock.advance(10.0)
    assert len(seat.client.commits) == 1  # and nothing to commit costs nothing


async def test_commits_do_not_overtake_each_other(seat: Seat) -> None:
    """What is acknowledged during a commit is in the next one, so that no position moves back."""
    seat.client.answer.clear()
    await seat.take(0)
    await seat.clock.advance(COMMIT_EVERY_S)
    await seat.take(1)
    await seat.clock.advance(COMMIT_EVERY_S)
    closing = asyncio.create_task(seat.consumer.close())
    await asyncio.sleep(0)
    assert seat.client.commits == []
    seat.client.answer.set()
    await closing
    assert seat.client.commits == [{FIRST: 1}, {FIRST: 2}]


async def test_the_end_commits_what_was_acknowledged(seat: Seat) -> None:
    """Before the group is left, and once: after a clean stop nothing comes again."""
    await seat.take(0, 1, 2)
    await seat.consumer.close()
    assert seat.client.commits == [{FIRST: 3}]
    assert seat.client.steps == ["commit", "stop"]
    await seat.clock.advance(10.0)
    assert len(seat.client.commits) == 1


async def test_partitions_are_passed_on_with_what_was_acknowledged(seat: Seat) -> None:
    """Committed before others get them; what is acknowledged afterwards is theirs to do again."""
    await seat.take(0, 1)
    seat.client.records = [Record(TOPIC, 0, 2)]
    late = await seat.consumer.fetch(100, 0.0)
    await seat.pass_on()
    assert seat.client.commits == [{FIRST: 2}]
    await seat.consumer.acknowledge(late)
    await seat.clock.advance(10.0)
    assert len(seat.client.commits) == 1


async def test_a_commit_that_fails_is_told_by_the_next_call(seat: Seat) -> None:
    """So the caller begins anew, and what may be lost of it is delivered again."""
    seat.client.errors = [OSError("connection reset"), OSError("connection reset")]
    await seat.take(0)
    await seat.clock.advance(COMMIT_EVERY_S)
    with pytest.raises(BrokerUnavailable, match=r"events\.url"):
        await seat.consumer.fetch(100, 0.0)
    await seat.take(1)
    await seat.clock.advance(COMMIT_EVERY_S)
    with pytest.raises(BrokerUnavailable, match=r"events\.url"):
        await seat.take(2)


async def test_a_position_that_was_taken_away_is_nobodys_error(seat: Seat) -> None:
    """Another one has the partition now, and gets the event again."""
    seat.client.errors = [CommitFailedError("the group has rebalanced")]
    await seat.take(0)
    await seat.clock.advance(COMMIT_EVERY_S)
    await seat.take(1)
    await seat.clock.advance(COMMIT_EVERY_S)
    assert seat.client.commits == [{FIRST: 2}]


async def test_less_than_a_batch_is_not_fetched_ahead(seat: Seat) -> None:
    """One record that was fetched too early holds up what comes after it until the next turn; with more waiting than a
    batch takes, the next is fetched meanwhile."""
    seat.client.records = [Record(TOPIC, 0, offset) for offset in range(5)]
    assert len(await seat.consumer.fetch(4, 0.0)) == 4
    assert seat.client.held == set()
    assert len(await seat.consumer.fetch(4, 0.0)) == 1
    assert seat.client.held == {FIRST, SECOND}
    await seat.consumer.fetch(4, 0.0)
    assert seat.client.asked_while == [set(), set(), set()]
