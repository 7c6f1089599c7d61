"""The suite of brokers on every broker."""

from __future__ import annotations

import asyncio

import pytest

from support.brokers import BrokerServer, DurableRedis, RabbitMQ
from tenfold.conformance._broken_brokers import BROKER, CRASHING
from tenfold.conformance._broker_case import ServerSwitch
from tenfold.conformance.broker import BrokerConformance
from tenfold.conformance.convicting import ConvictingBroker
from tenfold.events.backends.memory import Backend as Memory


class MemorySwitch(ServerSwitch):
    """A crash is a wipe: nothing is on a disk."""

    def __init__(self, url: str) -> None:
        self.broker = Memory.from_url(url, settings=None, clock=None)  # type: ignore[arg-type]

    async def stop(self) -> None:
        self.broker.server.stop()

    async def start(self) -> None:
        self.broker.server.wipe()

    async def wipe(self) -> None:
        self.broker.server.wipe()


class Switch(ServerSwitch):
    """A real server, killed and started again in a thread."""

    def __init__(self, server: BrokerServer) -> None:
        self.server = server

    async def stop(self) -> None:
        await asyncio.to_thread(self.server.kill)

    async def start(self) -> None:
        await asyncio.to_thread(self.server.start)

    async def wipe(self) -> None:
        await asyncio.to_thread(self.server.wipe)


class RabbitSwitch(Switch):
    """RabbitMQ knows a queue for good about two seconds after it was declared, and that is not what is tested."""

    def __init__(self, server: RabbitMQ) -> None:
        super().__init__(server)
        self.rabbitmq = server

    async def stop(self) -> None:
        await asyncio.to_thread(
            self.rabbitmq.evaluate, "mnesia:sync_log(), [dets:sync(T) || T <- dets:all()]"
        )
        await super().stop()


class TestMemory(BrokerConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def url(cls) -> str:
        return "memory:conformance"

    @pytest.fixture(scope="class")
    @classmethod
    def switch(cls, url: str) -> ServerSwitch:
        return MemorySwitch(url)


class TestRabbitMQ(BrokerConformance):
    patience_s = 30.0

    @pytest.fixture(scope="class")
    @classmethod
    def url(cls, rabbitmq: RabbitMQ) -> str:
        # The default virtual host outlives a wipe; the switch sees to it that queues are on the disk before a crash.
        return f"{rabbitmq.url()}?settle_s=0"

    @pytest.fixture(scope="class")
    @classmethod
    def switch(cls, rabbitmq: RabbitMQ) -> ServerSwitch:
        return RabbitSwitch(rabbitmq)


class TestRedis(BrokerConformance):
    patience_s = 20.0

    @pytest.fixture(scope="class")
    @classmethod
    def url(cls, durable_redis: DurableRedis) -> str:
        return durable_redis.url()

    @pytest.fixture(scope="class")
    @classmethod
    def switch(cls, durable_redis: DurableRedis) -> ServerSwitch:
        return Switch(durable_redis)


class TestBrokenMemory(ConvictingBroker, TestMemory): ...


class TestSoundMemory(ConvictingBroker, TestMemory):
    sound = True


class TestBrokenRedis(ConvictingBroker, TestRedis):
    patience_s = 3.0
    variants = (*BROKER, *CRASHING)
