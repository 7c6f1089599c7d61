"""The suite of brokers on every broker."""

from __future__ import annotations

import pytest

from tenfold.conformance.broker import BrokerConformance


class TestMemory(BrokerConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def url(cls) -> str:
        return "memory:conformance"
