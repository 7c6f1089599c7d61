"""Processes that relay and take in, killed by SIGKILL: an event is handled once if its transaction committed, else never,
and those of a key in order."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from support.carried import Carried, inversions
from support.carrier import Carrier
from support.trials import Trials, soak
from tenfold._core.failpoints import KNOWN

pytestmark = pytest.mark.anyio

POINTS = [point for point in KNOWN if point.startswith("events.")]
KILLS = ["events.published@2", "events.taken@2"]
PATIENCE_S = 90.0
"""For a process to start and to come to its failpoint, however busy the machine is; nothing is claimed about it."""
STUCK_S = 3.0
"""After so long without an end, a broken build is held to be stuck."""
BROKERS = {
    "redis": "redis_url",
    "rabbitmq": "rabbitmq_url",
    "kafka": "kafka_url",
    "nats": "nats_url",
    "sqs": "sqs_url",
}
"""The fixture that gives the URL of each broker."""


class Scene:
    """An app that publishes, and the processes that carry its events, one after another."""

    fails = 0
    """Every such event fails in its first run."""

    def __init__(self, folder: Path, database: str, broker: str, prefix: str, mode: str) -> None:
        self._about = (folder, database, broker, prefix, mode)
        self.dice = random.Random(6)
        self.committed: set[int] = set()
        self.deaths = self.inverted = 0

    async def play(self, kills: list[str], n: int, latest_s: float, within_s: float) -> Counter[int]:
        """Part of ``n`` transactions before each kill, by failpoint or (``""``) at any moment; how often each event was
        handled."""
        folder, database, broker, prefix, _ = self._about
        it = Carried()
        settings: dict[str, Any] = {"events__prefix": prefix}
        async with it.running(folder, database, broker, worker=False, **settings):
            await self._declared(it)
            part = -(-n // (len(kills) + 1))
            for i, point in enumerate(kills):
                await self._until_death(it, point, range(i * part, (i + 1) * part), latest_s)
            counts = await self._the_rest(it, range(len(kills) * part, n), latest_s, within_s)
            self.inverted = inversions(await it.handled())
            return counts

    async def _declared(self, it: Carried) -> None:
        """A new subscription begins with what is published from then on."""
        broker = it.events.broker
        assert broker is not None
        await broker.declare(it.events.topics, it.events.feeds)

    async def _until_death(self, it: Carried, point: str, numbers: range, latest_s: float) -> None:
        carrier = Carrier(*self._about, point, fails=self.fails)
        try:
            await self._publish(it, numbers, latest_s)
            async with asyncio.timeout(PATIENCE_S):
                if point:
                    while not carrier.ended:  # noqa: ASYNC110 - another process
                        await asyncio.sleep(0.02)
                else:
                    await it.quiet(self.dice.randrange(len(self.committed)), 10.0)
            self.deaths += 1
        finally:
            carrier.kill()

    async def _the_rest(self, it: Carried, numbers: range, latest_s: float, within_s: float) -> Counter[int]:
        carrier = Carrier(*self._about, fails=self.fails)
        try:
            await self._publish(it, numbers, latest_s)
            await self._agree(it)
            await it.quiet(min(len(self.committed), 1), 30.0)  # it has begun
            return await it.quiet(len(self.committed), within_s)
        finally:
            carrier.kill()

    async def _agree(self, it: Carried) -> None:
        """What we hold to be committed is."""
        assert self.committed == set(await it.db.read().all(sa.select(it.orders.c.n), int))

    async def _publish(self, it: Carried, numbers: range, latest_s: float) -> None:
        line = asyncio.Semaphore(8)

        async def one(n: int) -> None:
            async with line:
                if await it.publish_or_not(n, self.dice, latest_s):
                    self.committed.add(n)

        await asyncio.gather(*map(one, numbers))


def many_kills(dice: random.Random) -> list[str]:
    """By failpoint or at any moment."""
    return [dice.choice([f"{dice.choice(POINTS)}@{dice.randint(1, 5)}", ""]) for _ in range(soak(60))]


async def exactly_those_committed(
    scene: Scene, kills: list[str], n: int, latest_s: float, more_s: float = 0.0
) -> None:
    counts = await scene.play(kills, n, latest_s, 30.0 + n / 50 + more_s)
    assert counts == dict.fromkeys(scene.committed, 1)
    assert scene.deaths == len(kills)


@pytest.mark.parametrize(
    "broker", ["redis", *(pytest.param(name, marks=pytest.mark.soak) for name in BROKERS if name != "redis")]
)
async def test_g6_with_processes_killed_what_committed_is_handled_once(
    tmp_path: Path,
    broker: str,
    prefix: str,
    postgres_url: str,
    request: pytest.FixtureRequest,
    trials: Trials,
) -> None:
    """Killed between the broker and the outbox's mark, and between the queue and the broker's acknowledgement."""
    assert {kill.partition("@")[0] for kill in KILLS} == set(POINTS)
    scene = Scene(tmp_path, postgres_url, request.getfixturevalue(BROKERS[broker]), prefix, "right")
    await exactly_those_committed(scene, KILLS, 240, 0.1)
    trials("G6", 240, f"postgresql+{broker}")


@pytest.mark.soak
@pytest.mark.parametrize("broker", BROKERS)
async def test_g6_with_processes_killed_many_times_what_committed_is_handled_once(
    tmp_path: Path, broker: str, prefix: str, database: str, request: pytest.FixtureRequest, trials: Trials
) -> None:
    n = max(soak(40_000), 400)
    scene = Scene(tmp_path, database, request.getfixturevalue(BROKERS[broker]), prefix, "right")
    await exactly_those_committed(scene, many_kills(random.Random(66)), n, 2.0)
    trials("G6", n, f"{database.partition(':')[0]}+{broker}")


@pytest.mark.parametrize(
    ("mode", "point"), [("mark-first", "events.published@3"), ("acknowledge-first", "events.taken@1")]
)
async def test_g6_a_build_that_says_it_is_done_before_it_is_loses_events(
    tmp_path: Path, mode: str, point: str, prefix: str, durable_redis_url: str
) -> None:
    scene = Scene(tmp_path, "sqlite:///app.db", durable_redis_url, prefix, mode)
    counts = await scene.play([point], 90, 0.0, STUCK_S)
    assert scene.committed - counts.keys()


# ── G7: order per key ──


TAKEOVER_S = {"kafka": 60.0}
"""So much longer a broker may take until it gives what dead consumers held to others: Kafka waits for the end of their
sessions, of one after another."""
ORDERED = [broker for broker in BROKERS if broker != "sqs"]
"""SQS itself keeps the order of a group, whatever a dead consumer held; moto gives the last of it away first."""


class KeyedScene(Scene):
    """Events of eight keys, twenty in a transaction, one transaction after another."""

    fails = 11

    async def _publish(self, it: Carried, numbers: range, latest_s: float) -> None:
        for first in range(numbers.start, numbers.stop, 20):
            count = min(20, numbers.stop - first)
            await it.publish(first, count, keys=8)
            self.committed.update(range(first, first + count))

    async def _agree(self, it: Carried) -> None:
        return


async def in_order(scene: KeyedScene, kills: list[str], n: int, broker: str) -> None:
    await exactly_those_committed(scene, kills, n, 0.0, TAKEOVER_S.get(broker, 0.0))
    assert scene.inverted == 0


@pytest.mark.parametrize(
    "broker", ["redis", *(pytest.param(name, marks=pytest.mark.soak) for name in ORDERED if name != "redis")]
)
async def test_g7_with_processes_killed_the_events_of_a_key_are_handled_in_order(
    tmp_path: Path,
    broker: str,
    prefix: str,
    postgres_url: str,
    request: pytest.FixtureRequest,
    trials: Trials,
) -> None:
    """Another process takes over the relay's lease, the consumer's place (of Kafka: its partitions) and the queue's leases."""
    scene = KeyedScene(tmp_path, postgres_url, request.getfixturevalue(BROKERS[broker]), prefix, "right")
    await in_order(scene, KILLS, 240, broker)
    trials("G7", 240, f"postgresql+{broker}")


@pytest.mark.soak
@pytest.mark.parametrize("broker", ORDERED)
async def test_g7_with_processes_killed_many_times_the_events_of_a_key_are_handled_in_order(
    tmp_path: Path, broker: str, prefix: str, database: str, request: pytest.FixtureRequest, trials: Trials
) -> None:
    n = max(soak(20_000), 400)
    scene = KeyedScene(tmp_path, database, request.getfixturevalue(BROKERS[broker]), prefix, "right")
    await in_order(scene, many_kills(random.Random(77)), n, broker)
    trials("G7", n, f"{database.partition(':')[0]}+{broker}")


async def test_g7_a_build_in_which_the_events_of_a_key_run_beside_each_other_is_guilty(
    tmp_path: Path, prefix: str, durable_redis_url: str
) -> None:
    scene = KeyedScene(tmp_path, "sqlite:///app.db", durable_redis_url, prefix, "no-lines")
    await scene.play([KILLS[0]], 240, 0.0, 30.0)
    assert scene.inverted
