"""What Kafka itself takes, as lag_rounds.py calls it: events of the same size at the same rate, sent one by one by the library
that ours stands on and handed out by it again, without a database on either side.

python echo.py URL RATE SECONDS
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

TOPIC, PARTITIONS, KEYS = "bench-echo", 12, 1_000
PATIENCE_S = 5.0


async def echo(server: str, rate: float, seconds: float) -> dict[str, Any]:
    """How long after the moment it was meant to be sent each event came out again."""
    admin = AIOKafkaAdminClient(bootstrap_servers=server)
    await admin.start()
    await admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1)])  # which may be there: that is in the answer
    await admin.close()
    producer = AIOKafkaProducer(bootstrap_servers=server, enable_idempotence=True, acks="all")
    consumer = AIOKafkaConsumer(TOPIC, bootstrap_servers=server, auto_offset_reset="latest")
    await producer.start()
    await consumer.start()
    await asyncio.sleep(1)
    count, begun, came = int(rate * seconds), time.time() + 0.2, dict[int, float]()

    async def take() -> None:
        while len(came) < count:
            for records in (await consumer.getmany(timeout_ms=1000)).values():
                for record in records:
                    number = int(record.value[:8])
                    came[number] = time.time() - (begun + number / rate)

    taking, sending = asyncio.create_task(take()), list[Any]()
    cpu = time.process_time()
    while len(sending) < count:
        due = min(count, int((time.time() - begun) * rate) + 1)
        for n in range(len(sending), due):
            body = b"%08d" % n + b"x" * 92
            sending.append(asyncio.create_task(producer.send_and_wait(TOPIC, body, b"k%d" % (n % KEYS))))
        await asyncio.sleep(max(0.0, begun + len(sending) / rate - time.time()))
    await asyncio.wait(sending)
    await asyncio.wait([taking], timeout=PATIENCE_S)
    cpu_s = time.process_time() - cpu
    taking.cancel()
    await asyncio.gather(consumer.stop(), producer.stop(), taking, return_exceptions=True)
    late = sorted(came.get(n, PATIENCE_S) for n in range(count // 5, count))
    return {
        "n": count,
        "handled": len(came),
        "cpu_us": cpu_s / count * 1e6,
        "p50": late[len(late) // 2] * 1e3,
        "p99": late[int(len(late) * 0.99)] * 1e3,
    }


if __name__ == "__main__":
    url, rate, seconds = sys.argv[1:]
    print(json.dumps(uvloop.run(echo(url.removeprefix("kafka://"), float(rate), float(seconds)))))
