"""What becomes of a batch after the publisher gave it up."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from tenfold._core.sections import EventsSettings
from tenfold.errors import BrokerUnavailable
from tenfold.events.backends._kafka_client import Cluster
from tenfold.events.backends._kafka_publisher import KafkaPublisher
from tenfold.events.contract import Outgoing

pytestmark = pytest.mark.anyio


class Batch:
    def append(self, **_: Any) -> object:
        return object()


class Producer:
    """Takes a batch, and never says what became of it."""

    def __init__(self) -> None:
        self.taken: list[asyncio.Future[Any]] = []

    async def partitions_for(self, _topic: str) -> set[int]:
        return {0}

    def create_batch(self) -> Batch:
        return Batch()

    async def send_batch(self, *_: Any, **__: Any) -> asyncio.Future[Any]:
        self.taken.append(asyncio.get_running_loop().create_future())
        return self.taken[-1]


async def test_an_error_that_comes_too_late_is_nobodys(monkeypatch: pytest.MonkeyPatch) -> None:
    """asyncio would log it as an error that was forgotten."""
    forgotten: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: forgotten.append(context))
    settings = EventsSettings(url="kafka://127.0.0.1:1", timeout_s=0.05)
    publisher, producer = KafkaPublisher(Cluster.from_url("kafka://127.0.0.1:1", settings)), Producer()

    async def opened() -> Producer:
        return producer

    monkeypatch.setattr(publisher, "_open", opened)
    with pytest.raises(BrokerUnavailable):
        await publisher.publish([Outgoing("s.t", "k", "1", b"{}")])
    producer.taken.pop().set_exception(OSError("no leader"))
    await asyncio.sleep(0)
    gc.collect()
    assert not forgotten
