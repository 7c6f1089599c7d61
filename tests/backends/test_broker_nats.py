"""The suite of brokers on NATS JetStream."""

from __future__ import annotations

import uuid
from typing import Any, ClassVar

import pytest

from support.brokers import BrokerSwitch, Nats
from tenfold.conformance.broker import BrokerConformance


class TestNats(BrokerConformance):
    settings: ClassVar[dict[str, Any]] = {"prefix": f"t{uuid.uuid4().hex[:10]}"}

    @pytest.fixture(scope="class")
    @classmethod
    def url(cls, nats: Nats) -> str:
        return nats.url

    @pytest.fixture(scope="class")
    @classmethod
    def switch(cls, nats: Nats) -> BrokerSwitch:
        return BrokerSwitch(nats)
