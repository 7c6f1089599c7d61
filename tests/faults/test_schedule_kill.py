"""Instances with wrong clocks that are killed: each tick of a schedule fires once, and in time."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from support.queue_fire import LEASE_S, Process, until
from support.queue_worker import jobs
from support.queues import Rig, rig
from support.trials import Trials, soak
from tenfold._core.clock import SystemClock

pytestmark = pytest.mark.anyio

SKEWS = (0, 300, -300, 150, -150, 60, -60, 0)


async def ticked(
    folder: Path, database: str, mode: str, ticks: int, instances: int, kills: int
) -> tuple[list[int], list[float]]:
    """The ticks that had an effect, and by how much each was late."""
    rng = random.Random(9)
    async with rig(folder, *jobs(mode).values(), clock=SystemClock(), database=database) as r:

        def instance(i: int) -> Process:
            return Process(folder, database, mode, LEASE_S, f"skew={SKEWS[i]}")

        fleet = [instance(i) for i in range(instances)]
        try:
            assert await until(lambda: all(one.works for one in fleet))
            for k in range(kills):
                assert await until(lambda k=k: done(r, ticks * (k + 1) // (kills + 1)), 60.0 + 2 * ticks)
                i = rng.randrange(instances)
                fleet[i].kill()
                fleet[i] = instance(i)
            assert await until(lambda: done(r, ticks), 60.0 + 2 * ticks)
            await asyncio.sleep(2 * LEASE_S)  # what a dead one held runs again
        finally:
            for one in fleet:
                one.kill()
        pairs = [what.split() for what in await r.did()]
        return [int(at) for at, _ in pairs], [float(late_s) for _, late_s in pairs]


async def done(r: Rig, ticks: int) -> bool:
    return len(await r.did()) >= ticks


def wrong(ticks: list[int]) -> dict[str, int]:
    """Ticks that fired twice, and those between the first and the last but a few that did not."""
    settled = range(min(ticks), max(ticks) - 3)
    return {"doubled": len(ticks) - len(set(ticks)), "missing": len(set(settled) - set(ticks))}


async def test_with_wrong_clocks_and_kills_each_tick_fires_once(
    tmp_path: Path, typical_database: str, trials: Trials
) -> None:
    ticks, _ = await ticked(tmp_path, typical_database, "ticks", 6, instances=2, kills=1)
    assert wrong(ticks) == {"doubled": 0, "missing": 0}
    trials("G9", len(ticks), typical_database)


@pytest.mark.soak
async def test_with_wrong_clocks_and_many_kills_each_tick_fires_once_and_in_time(
    tmp_path: Path, server_database: str, trials: Trials
) -> None:
    ticks, late_s = await ticked(tmp_path, server_database, "ticks", soak(1_200), instances=8, kills=soak(20))
    assert wrong(ticks) == {"doubled": 0, "missing": 0}
    held = soak(20) * 3  # those that a killed instance had begun wait for its lease
    assert sorted(late_s)[max(0, len(late_s) - held - len(late_s) // 100 - 1)] <= 1.0
    trials("G9", len(ticks), server_database)


async def test_the_checker_finds_instances_that_do_not_look_at_the_row(
    tmp_path: Path, postgres_url: str
) -> None:
    ticks, _ = await ticked(tmp_path, postgres_url, "every-ticks", 5, instances=2, kills=0)
    assert wrong(ticks)["doubled"] > 0
