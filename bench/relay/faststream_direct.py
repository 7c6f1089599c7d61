"""FastStream publishing to a broker directly, without an outbox: python faststream_direct.py URL one|many COUNT

``one``: each publish is awaited, confirmed by the broker, before the next. ``many``: 500 under way at once. Settings are
those of ours where the client has them: publisher confirms, acks=all, JetStream.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop

AT_ONCE = 500
KEYS = 1_000
Publish = Callable[[int], Awaitable[Any]]


def event(number: int) -> dict[str, Any]:
    """What ours publishes, too."""
    return {"number": number, "at": 0.0, "customer": f"customer-{number % KEYS}", "note": "x" * 40}


def headers() -> dict[str, str]:
    """The part of the envelope that every event needs."""
    return {
        "ce_id": uuid.uuid4().hex,
        "ce_type": "bench.placed.v1",
        "ce_source": "/bench",
        "ce_specversion": "1.0",
    }


async def rabbit(url: str) -> tuple[Any, Publish]:
    from faststream.rabbit import ExchangeType, QueueType, RabbitBroker, RabbitExchange, RabbitQueue

    broker = RabbitBroker(url.replace("rabbitmq://", "amqp://").partition("?")[0])
    await broker.start()
    exchange = RabbitExchange("bench-direct", type=ExchangeType.TOPIC, durable=True)
    await broker.declare_exchange(exchange)
    queue = RabbitQueue("bench-direct", queue_type=QueueType.QUORUM, durable=True)
    bound = await broker.declare_queue(queue)
    await bound.bind("bench-direct", "placed")

    async def publish(n: int) -> None:
        await broker.publish(
            event(n), exchange=exchange, routing_key="placed", persist=True, mandatory=True, headers=headers()
        )

    return broker, publish


async def kafka(url: str) -> tuple[Any, Publish]:
    from faststream.kafka import KafkaBroker

    broker = KafkaBroker(url.removeprefix("kafka://").partition("?")[0], acks="all", enable_idempotence=True)
    await broker.start()

    async def publish(n: int) -> None:
        await broker.publish(event(n), "bench-direct", key=f"k{n % KEYS}".encode(), headers=headers())

    return broker, publish


async def nats(url: str) -> tuple[Any, Publish]:
    from faststream.nats import NatsBroker

    broker = NatsBroker(url)
    await broker.start()
    await broker.connection.jetstream().add_stream(name="bench-direct", subjects=["bench-direct.>"])

    async def publish(n: int) -> None:
        await broker.publish(event(n), "bench-direct.placed", stream="bench-direct", headers=headers())

    return broker, publish


async def measure(url: str, how: str, count: int) -> dict[str, Any]:
    """Publish ``count`` events."""
    made = {"rabbitmq": rabbit, "kafka": kafka, "nats": nats}[url.partition(":")[0]]
    broker, publish = await made(url)
    await publish(0)
    begun, cpu = time.perf_counter(), time.process_time()
    if how == "one":
        for n in range(count):
            await publish(n)
    else:
        for start in range(0, count, AT_ONCE):
            await asyncio.gather(*(publish(n) for n in range(start, min(start + AT_ONCE, count))))
    seconds = time.perf_counter() - begun
    cpu_s = time.process_time() - cpu
    await (broker.stop() if hasattr(broker, "stop") else broker.close())
    return {"n": count, "seconds": seconds, "cpu_us": cpu_s / count * 1e6}


if __name__ == "__main__":
    print(json.dumps(uvloop.run(measure(sys.argv[1], sys.argv[2], int(sys.argv[3])))))
