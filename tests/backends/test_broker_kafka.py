"""The suite of brokers on Kafka."""

from __future__ import annotations

import uuid
from typing import Any, ClassVar

import pytest

from support.brokers import BrokerSwitch, Kafka
from tenfold.conformance.broker import BrokerConformance


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
