"""What events promise on their way through a broker, while relays end in the middle of what they do.

Each check has a build that is broken on purpose, and has to find it guilty.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from support.carried import Carried, inversions
from support.trials import Trials, soak
from tenfold.events import outbox as outbox_module
from tenfold.events import relay as relay_module
from tenfold.events.outbox import Outbox, Row
from tenfold.events.policy import Holds

pytestmark = pytest.mark.anyio

ORDERED = {
    "redis": "durable_redis_url", "rabbitmq": "rabbitmq_url", "kafka": "kafka_url", "nats": "nats_url", "sqs": "sqs_url",
}  # fmt: skip
"""The fixture that gives the URL of each broker that keeps the order of a key."""
STUCK_S = 2.0
"""After so long without an end, a broken build is held to be stuck."""


# ── G6: an event exists if and only if its transaction committed ──


async def committed_and_handled(
    folder: Path, database: str, n: int, within_s: float, pause_s: float = 0.1
) -> tuple[set[int], Counter[int]]:
    """``n`` transactions while the relay is killed after at most ``pause_s`` each time: which committed, and what was
    handled."""
    dice = random.Random(6)
    async with Carried().running(folder, database, f"memory:{folder}", events__batch=20) as it:
        line = asyncio.Semaphore(8)

        async def one(number: int) -> bool:
            async with line:
                return await it.publish_or_not(number, dice, 0.2)

        publishing = asyncio.gather(*(one(number) for number in range(n)))
        while not publishing.done():
            await asyncio.sleep(dice.uniform(0.0, pause_s))
            await it.kill_relay()
        committed = {number for number, done in enumerate(await publishing) if done}
        counts = await it.quiet(len(committed), within_s)
        assert committed == set(await it.db.read().all(sa.select(it.orders.c.n), int))
        return committed, counts


@pytest.mark.parametrize("n", [150, pytest.param(soak(20_000), marks=pytest.mark.soak)])
async def test_g6_an_event_is_handled_if_and_only_if_its_transaction_committed(
    tmp_path: Path, database: str, n: int, trials: Trials
) -> None:
    committed, counts = await committed_and_handled(tmp_path, database, n, 20.0 + n / 50)
    assert counts == dict.fromkeys(committed, 1)
    trials("G6", n, database)


async def test_g6_a_relay_that_reads_behind_a_cursor_is_guilty(
    tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What commits late has a lower id than what was read before."""
    right = Outbox.unsent
    read: dict[str, int] = {"last": 0}

    async def behind_a_cursor(self: Outbox, limit: int, *around: Sequence[str]) -> list[Row]:
        rows = [row for row in await right(self, limit, *around) if row.id > read["last"]]
        read["last"] = max([read["last"], *(row.id for row in rows)])
        return rows

    monkeypatch.setattr(Outbox, "unsent", behind_a_cursor)
    # One that lives for a while reads often, while others are about to commit.
    committed, counts = await committed_and_handled(tmp_path, postgres_url, 150, STUCK_S, pause_s=5.0)
    assert committed - counts.keys()


async def test_g6_an_outbox_that_writes_outside_of_the_transaction_is_guilty(
    tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def flush(self: Outbox, tx: Any) -> None:
        rows = tx.state.pop("tenfold.outbox", [])
        async with asyncio.TaskGroup() as tasks:  # a task has transactions of its own
            tasks.create_task(apart(self, rows))

    async def apart(self: Outbox, rows: list[Any]) -> None:
        sql = outbox_module.statements(self.database)
        async with self.database.tx() as own:
            await own.execute(sql.insert, sql.rows(rows))

    monkeypatch.setattr(Outbox, "flush", flush)
    committed, counts = await committed_and_handled(tmp_path, postgres_url, 60, STUCK_S)
    assert counts.keys() - committed


# ── G7: order per key; a stuck key holds up only itself ──


async def through_the_broker(
    folder: Path, broker: str, n: int, within_s: float, prefix: str
) -> tuple[Counter[int], int]:
    """``n`` events of eight keys, some of which fail first, while the relay is killed; counts and inversions."""
    dice = random.Random(7)
    settings: dict[str, Any] = {"events__batch": 16, "events__prefix": prefix}
    async with Carried(fails=11).running(folder, "sqlite:///app.db", broker, **settings) as it:
        for first in range(0, n, 20):
            await it.publish(first, 20, keys=8)
            if dice.random() < 0.3:
                await it.kill_relay()
        counts = await it.quiet(n, within_s)
        return counts, inversions(await it.handled())


@pytest.mark.parametrize("broker", ORDERED)
@pytest.mark.parametrize("n", [120, pytest.param(soak(20_000), marks=pytest.mark.soak)])
async def test_g7_the_events_of_a_key_are_handled_in_order_through_a_broker(
    tmp_path: Path, broker: str, n: int, prefix: str, request: pytest.FixtureRequest, trials: Trials
) -> None:
    url = request.getfixturevalue(ORDERED[broker])
    counts, inverted = await through_the_broker(tmp_path, url, n, 20.0 + n / 50, prefix)
    assert (counts, inverted) == (dict.fromkeys(range(n), 1), 0)
    trials("G7", n, broker)


async def test_g7_a_relay_that_publishes_behind_what_failed_is_guilty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first event of each batch is taken out of it and published later; its key goes on without it."""
    right = Outbox.unsent

    async def without_the_first(self: Outbox, limit: int, *around: Sequence[str]) -> list[Row]:
        rows = await right(self, limit, *around)
        return rows[1:] if len(rows) > 8 else rows

    monkeypatch.setattr(Outbox, "unsent", without_the_first)
    _, inverted = await through_the_broker(tmp_path, f"memory:{tmp_path}", 200, 10.0, "guilty")
    assert inverted


async def test_g7_a_refused_event_holds_up_its_key_and_nothing_else(tmp_path: Path) -> None:
    """It is kept with what the broker said, and published once the broker takes it."""
    async with Carried().running(tmp_path, "sqlite:///app.db", f"memory:{tmp_path}") as it:
        broker = it.events.broker
        assert broker is not None
        right = broker.publish

        async def refuse(events: Sequence[Any]) -> None:
            bad = {
                n: "the broker does not like it" for n, event in enumerate(events) if b'"n":3,' in event.body
            }
            held = set(bad) | set(relay_module.behind(events, bad))
            await right([event for n, event in enumerate(events) if n not in held])
            if bad:
                raise relay_module.PublishFailed(bad)

        broker.publish = refuse  # type: ignore[method-assign]
        await it.publish(0, 12, keys=4)
        counts = await it.quiet(9, 10.0)
        assert set(counts) == set(range(12)) - {3, 7, 11}
        overview = await it.admin.overview(it.events.topics, it.events.feeds)
        assert "does not like it" in overview.topics[0].error
        broker.publish = right  # type: ignore[method-assign]
        assert set(await it.quiet(12, 10.0)) == set(range(12))
        assert inversions(await it.handled()) == 0


def test_holds_are_what_the_checks_above_rely_on() -> None:
    """A key that failed is left out until its time has come, and nothing else is."""
    holds = Holds(30.0, random.Random(1))
    row = Row(1, "t", "k", "e", "", None, 0.0)
    holds.failed([row], now=100.0)
    assert holds.around(100.0).lines == ["t/k"]
    assert holds.around(131.0).lines == []
