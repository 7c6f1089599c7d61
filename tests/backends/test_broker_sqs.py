"""The suite of brokers on SNS and SQS, which moto stands in for. It keeps everything in memory, so that a restart
loses what it confirmed: what is promised about crashes is AWS's word here, and not tried."""

from __future__ import annotations

import uuid
from typing import Any, ClassVar

import pytest

from support.brokers import Moto
from tenfold.conformance.broker import BrokerConformance


class TestSqsFifo(BrokerConformance):
    settings: ClassVar[dict[str, Any]] = {"prefix": f"t{uuid.uuid4().hex[:10]}"}

    @pytest.fixture(scope="class")
    @classmethod
    def url(cls, moto: Moto) -> str:
        return moto.url


class TestSqsStandard(BrokerConformance):
    settings: ClassVar[dict[str, Any]] = {"prefix": f"t{uuid.uuid4().hex[:10]}"}

    @pytest.fixture(scope="class")
    @classmethod
    def url(cls, moto: Moto) -> str:
        return f"{moto.url}&fifo=false"
