"""G21: a broker that is restarted or wiped loses nothing of what committed, and the backlog is soon drained."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from support.brokers import BrokerServer, DurableRedis, Kafka, Nats, RabbitMQ
from support.carried import Carried
from support.servers import Redis, running
from support.trials import Trials, soak
from tenfold.events.outbox import Outbox

pytestmark = pytest.mark.anyio

N, N_SOAK = 600, soak(200_000)
DRAINED_S = 30.0
"""From the broker's return until it has the whole backlog, half of N."""
PER_S = 3_000
"""So many are handled in a second."""
STUCK_S = 2.0
"""After so long without an end, a broken build is held to be stuck."""
SERVERS = {"redis": "durable_redis", "nats": "nats", "rabbitmq": "rabbitmq", "kafka": "kafka"}
"""The fixture of each server."""


def url_of(server: BrokerServer) -> str:
    """One that outlives a wipe."""
    if isinstance(server, Redis | RabbitMQ):
        return server.url()
    assert isinstance(server, Nats | Kafka)
    return server.url


class Found(NamedTuple):
    """What came of it."""

    counts: Counter[int]
    relayed_s: float
    """From the broker's return to the empty outbox."""
    handled_s: float


async def gone(
    folder: Path, server: BrokerServer, prefix: str, n: int, within_s: float, *, wiped: bool
) -> Found:
    """A quarter of ``n`` events is handled, a quarter only at the broker, when it dies; the others are published while
    it is away. It comes back as it was, or ``wiped``; then the time since the beginning is published again."""
    part, begun_at = n // 4, time.time()
    settings: dict[str, Any] = {"events__prefix": prefix, "events__lease_s": 0.5 if n <= N else 5.0}
    async with Carried().running(folder, "sqlite:///app.db", url_of(server), **settings) as it:
        await it.publish(0, part)
        assert len(await it.quiet(part, within_s)) == part
        await it.intakes("stop")
        await it.publish(part, part)
        await it.relayed(within_s)
        await asyncio.to_thread(server.kill)
        for first in range(2 * part, 4 * part, 500):
            await it.publish(first, min(500, 4 * part - first))
        await asyncio.to_thread(server.wipe if wiped else server.start)
        up_at = time.monotonic()
        await it.relayed(within_s)
        relayed_s = time.monotonic() - up_at
        await it.intakes("start")
        await it.quiet(3 * part if wiped else 4 * part, within_s)
        handled_s = time.monotonic() - up_at
        if wiped:
            async for _ in it.admin.replay(begun_at, time.time() + 1.0):
                pass
        return Found(await it.quiet(4 * part, within_s), relayed_s, handled_s)


async def nothing_is_lost(folder: Path, server: BrokerServer, prefix: str, n: int, *, wiped: bool) -> None:
    found = await gone(folder, server, prefix, n, 30.0 + n / 100, wiped=wiped)
    assert found.counts == dict.fromkeys(range(n // 4 * 4), 1)
    assert found.relayed_s < DRAINED_S
    assert found.handled_s < max(DRAINED_S, n / PER_S)


@pytest.mark.parametrize(
    ("broker", "n"),
    [
        ("redis", N),  # the suite of brokers wipes every one of them
        ("nats", N),
        *(pytest.param(name, N_SOAK, marks=pytest.mark.soak) for name in SERVERS),
    ],
)
async def test_g21_a_wiped_broker_is_filled_from_the_outbox(
    tmp_path: Path, broker: str, n: int, prefix: str, request: pytest.FixtureRequest, trials: Trials
) -> None:
    await nothing_is_lost(tmp_path, request.getfixturevalue(SERVERS[broker]), prefix, n, wiped=True)
    trials("G21", n, broker)


@pytest.mark.parametrize(
    ("broker", "n"),
    [
        ("redis", N),  # the suite of brokers restarts every one of them
        ("nats", N),
        *(pytest.param(name, N_SOAK, marks=pytest.mark.soak) for name in SERVERS),
    ],
)
async def test_g21_a_restarted_broker_has_what_it_confirmed(
    tmp_path: Path, broker: str, n: int, prefix: str, request: pytest.FixtureRequest, trials: Trials
) -> None:
    await nothing_is_lost(tmp_path, request.getfixturevalue(SERVERS[broker]), prefix, n, wiped=False)
    trials("G21", n, broker)


async def test_g21_an_outbox_that_forgets_what_was_sent_is_guilty(
    tmp_path: Path, durable_redis: DurableRedis, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Outbox.record

    async def record(self: Outbox, sent: Sequence[int], refused: Any, now: float) -> None:
        await right(self, sent, refused, now)
        await self.prune(now, 10_000)

    monkeypatch.setattr(Outbox, "record", record)
    found = await gone(tmp_path, durable_redis, prefix, 80, STUCK_S, wiped=True)
    assert set(found.counts) < set(range(80))


class Forgetful(Redis, BrokerServer):
    """What this framework's guide warns of: a broker that keeps nothing on its disk."""


async def test_g21_a_broker_that_confirms_what_it_does_not_keep_is_guilty(
    tmp_path: Path, prefix: str
) -> None:
    with running(Forgetful()) as server:
        found = await gone(tmp_path, server, prefix, 80, STUCK_S, wiped=False)
    assert set(found.counts) < set(range(80))
