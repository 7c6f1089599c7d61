"""The suite of brokers on Kafka."""

from __future__ import annotations

import uuid
from typing import Any, ClassVar

import pytest

from support.brokers import BrokerSwitch, Kafka
from tenfold.conformance._broker_case import Subscriber, event, numbers
from tenfold.conformance.broker import BrokerConformance
from tenfold.events.contract import Broker, Feed


class TestKafka(BrokerConformance):
    settings: ClassVar[dict[str, Any]] = {"prefix": f"t{uuid.uuid4().hex[:10]}", "redeliver_s": 6.0}
    patience_s = 30.0

    @pytest.fixture(scope="class")
    @classmethod
    def url(cls, kafka: Kafka) -> str:
        return f"{kafka.url}?partitions=3"

    @pytest.fixture(scope="class")
    @classmethod
    def switch(cls, kafka: Kafka) -> BrokerSwitch:
        return BrokerSwitch(kafka)

    async def test_what_is_acknowledged_right_before_the_end_does_not_come_again(
        self, broker: Broker, other: Broker, topic: str, feed: Feed, subscriber: Subscriber
    ) -> None:
        """Commits are put off; the end is not before them."""
        await broker.publish([event(topic, n) for n in range(3)])
        await subscriber.acknowledge(await subscriber.take(3))
        await subscriber.close()
        await broker.publish([event(topic, 9)])
        second = Subscriber(other, feed)
        assert numbers(await second.take(1, timeout_s=self.patience_s)) == [9]
        await second.close()
