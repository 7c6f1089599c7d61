"""The relay to each broker beside FastStream, which publishes directly: without an outbox, what a crash between commit
and publish takes away is lost. The quotient is the price of not losing it.

A round takes every broker, and there every contender, once; publishers on CPU 1, servers where they like.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import environment
from servers import LOAD_CPU, Failed

TITLE = "Events to brokers"
ABOUT = """RabbitMQ (quorum queues), Kafka (12 partitions) and NATS (JetStream on disk), each a single server; PostgreSQL with fsync
off holds the outbox. Relayed: 40,000 events of about 100 bytes with 1,000 keys, written beforehand, by one process on
CPU 1: read, published, confirmed by the broker, marked; nobody consumes meanwhile. FastStream publishes the same events directly from one process,
confirmed too, without an outbox: what a crash takes away between the commit and the publish is lost. "outbox : direct"
is the relay's rate over FastStream's with 500 publishes under way; it is the price of not losing it. Publish to handled:
500 events a second, each in a transaction of its own, from the moment it was to begin until the subscriber runs.
Publisher, relay, intake and worker are one process. In brackets the smallest and the largest of the rounds.
"""

sys.path.append(str(environment.ROOT / "tests"))

HERE = Path(__file__).parent / "relay"
PEERS = environment.ROOT / ".venv-bench-relay"
EVENTS, DIRECT_ONE = 40_000, 2_000
RATE, LATENCY_S = 500, 6
MEASURES = {"relay": "relayed /s", "cpu_us": "CPU µs per event", "one": "FastStream one by one /s",
            "many": "FastStream 500 at once /s", "price": "outbox : direct",
            "handled_us": "publish to handled, CPU µs",
            "p50": "publish to handled, p50 ms", "p99": "p99 ms"}  # fmt: skip
RELAYED = 10_000.0
"""Events a second: the target."""


def measure(only: list[str], rounds: int, progress: Any) -> list[dict[str, Any]]:
    """One row per round and broker. What fails is named and left out of that round."""
    brokers = [
        name for name in ("rabbitmq", "kafka", "nats") if not only or any(part in name for part in only)
    ]
    peers = environment.peers(PEERS, HERE / "requirements.txt")
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack:
        field = Field(stack)
        for number in range(rounds):
            for at, broker in enumerate(brokers):
                progress(number * len(brokers) + at, rounds * len(brokers), broker)
                try:
                    rows.append({"round": number, "broker": broker, **_round(field, broker, peers)})
                except Failed as error:
                    print(error, file=sys.stderr)
    return rows


def table(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Head and lines: medians over rounds, smallest and largest in brackets where there are several."""
    brokers = list(dict.fromkeys(row["broker"] for row in rows))
    head = ["", *MEASURES.values(), f"relayed ≥ {RELAYED:,.0f} /s"]
    return head, [
        [broker, *(_cell(rows, broker, name) for name in MEASURES), _mark(rows, broker)] for broker in brokers
    ]


def _mark(rows: list[dict[str, Any]], broker: str) -> str:
    """?, where rounds lie on both sides."""
    reached = {row["relay"] >= RELAYED for row in rows if row["broker"] == broker}
    return "?" if len(reached) > 1 else "✓" if reached.pop() else "✗"


def _cell(rows: list[dict[str, Any]], broker: str, name: str) -> str:
    found = [row[name] for row in rows if row["broker"] == broker and name in row]
    if not found:
        return "–"
    digits = (
        ",.2f" if name == "price" else ",.1f" if name in ("p50", "p99", "cpu_us", "handled_us") else ",.0f"
    )
    text = format(median(found), digits)
    return text if len(found) == 1 else f"{text} [{format(min(found), digits)}–{format(max(found), digits)}]"


class Field:
    """The servers that all contenders share, each started once."""

    def __init__(self, stack: ExitStack) -> None:
        from support.brokers import DurableRedis, Kafka, Nats, RabbitMQ
        from support.servers import Postgres, running

        self._types = {"rabbitmq": RabbitMQ, "kafka": Kafka, "nats": Nats, "redis": DurableRedis}
        self._stack, self._running = stack, running
        self._servers: dict[str, Any] = {}
        self.postgres = stack.enter_context(running(Postgres()))
        self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tenfold-relay-")))

    def url(self, broker: str) -> str:
        if broker not in self._servers:
            self._servers[broker] = self._stack.enter_context(self._running(self._types[broker]()))
        server = self._servers[broker]
        if broker == "rabbitmq":
            return str(server.vhost())
        return str(server.url() if broker == "redis" else server.url)

    @contextmanager
    def app(self, broker_url: str) -> Iterator[dict[str, str]]:
        """The environment of an app of ours with an empty database."""
        with self.postgres.database() as database:
            yield {
                **os.environ,
                "TENFOLD_DATABASE_URL": database,
                "TENFOLD_EVENTS_URL": broker_url,
                "TENFOLD_EVENTS_PREFIX": f"b{os.urandom(4).hex()}",
                "TENFOLD_APP_DATA_DIR": str(self.folder),
                "TENFOLD_LOG_LEVEL": "warning",
                "TENFOLD_DATABASE_MIGRATE": "auto",
            }


def _round(field: Field, broker: str, peers: Path) -> dict[str, float]:
    url = field.url(broker)
    if broker == "kafka":
        asyncio.run(_kafka_topic(url))
    with field.app(url) as env:
        run([sys.executable, "ours.py", "fill", str(EVENTS)], env)
        relay = run([sys.executable, "ours.py", "drain"], env)
    with field.app(url) as env:
        late = run([sys.executable, "ours.py", "late", str(RATE), str(LATENCY_S)], env)
    direct = [str(peers), "faststream_direct.py", url]
    one = run([*direct, "one", str(DIRECT_ONE)], dict(os.environ))
    many = run([*direct, "many", str(EVENTS)], dict(os.environ))
    speed = {"relay": relay["n"] / relay["seconds"], "many": many["n"] / many["seconds"]}
    return {
        **speed,
        "cpu_us": relay["cpu_us"],
        "one": one["n"] / one["seconds"],
        "price": speed["relay"] / speed["many"],
        "handled_us": late["cpu_us"],
        "p50": late["p50"],
        "p99": late["p99"],
    }


def run(command: list[str], env: dict[str, str]) -> dict[str, Any]:
    """What a program measured. Raises Failed, also after five minutes."""
    try:
        done = subprocess.run(
            ["taskset", "-c", LOAD_CPU, *command], cwd=HERE, env=env, capture_output=True, text=True,
            check=False, timeout=300,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise Failed(f"{' '.join(command[1:])}: no end after 300 s") from None
    if done.returncode:
        raise Failed(f"{' '.join(command[1:])}: {done.stderr.strip()[-600:]}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


async def _kafka_topic(url: str) -> None:
    """As many partitions as ours; FastStream leaves that to the server."""
    from aiokafka.admin import AIOKafkaAdminClient, NewTopic

    admin = AIOKafkaAdminClient(bootstrap_servers=url.removeprefix("kafka://"))
    await admin.start()
    try:
        await admin.create_topics([NewTopic("bench-direct", 12, 1)])
    finally:
        await admin.close()
