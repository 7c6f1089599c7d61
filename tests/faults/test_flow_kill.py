"""Workers killed between the effect of a step, its record, and the end of a run: every effect once, nothing stuck."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from support.flow_worker import children, expected, flows
from support.forked import Forked
from support.queue_fire import finished, until
from support.queues import Rig, rig
from support.trials import Trials, soak
from tenfold._core.clock import SystemClock
from tenfold._core.failpoints import KNOWN

pytestmark = pytest.mark.anyio

LEASE_S = 0.6
FLOWS = 12
POINTS = [point for point in KNOWN if point.startswith("flow.")]
KILLS = [f"{point}@5" for point in POINTS]  # three new flows each visit any of them six times


class Worker:
    """One worker process, killed where ``point`` says."""

    def __init__(self, folder: Path, database: str, mode: str, point: str = "") -> None:
        name, _, visit = point.partition("@")
        self.process = Forked(
            "support.flow_worker", str(folder), database, mode, str(LEASE_S),
            failpoints=f"{name}=kill@{visit}" if point else "",
        )  # fmt: skip

    def ended(self) -> bool:
        return self.process.poll() is not None

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


async def under_fire(folder: Path, database: str, mode: str, kills: list[str], n: int = FLOWS) -> Verdict:
    """``n`` flows, and workers that are killed one after another, each at its point; then one that is not."""
    async with rig(folder, flows, children, clock=SystemClock(), database=database) as r:
        handles: list[Any] = []
        waiting: list[int] = []
        deaths = 0
        for nth, point in enumerate([*kills, ""], 1):
            # new ones for each worker that dies: there is work left then that comes to where it does
            new = range(len(handles), n * nth // len(kills) if point else n)
            handles += [await flows.enqueue(r.db, n=i) for i in new]
            await confirm(r, handles, [*waiting, *(i for i in new if i % 2 == 0)])
            waiting = [i for i in new if i % 2]  # told when they wait already, or just begin to
            worker = Worker(folder, database, mode, point)
            try:
                if point:
                    assert await until(worker.ended, 60), point
                else:
                    assert await until(lambda: finished(r), 60), await r.admin.counts()
                deaths += worker.ended()
            finally:
                worker.end()
        return await verdict(r, folder, handles, deaths)


async def confirm(r: Rig, handles: list[Any], flows: list[int]) -> None:
    for i in flows:
        async with r.db.tx() as tx:
            await handles[i].signal(tx, "confirmed", f"{i} confirmed")


Verdict = dict[str, Any]


async def verdict(r: Rig, folder: Path, handles: list[Any], deaths: int) -> Verdict:
    did = Counter(await r.did())
    wanted = set().union(*(expected(n) for n in range(len(handles))))
    outside: dict[str, set[str]] = {}
    for line in (folder / "outside").read_text().splitlines():
        what, key = line.split("\t")
        outside.setdefault(what, set()).add(key)
    results = [await handle.result(5) for handle in handles]
    return {
        "deaths": deaths,
        "missing": sorted(wanted - did.keys()),
        "doubled": sorted(what for what, times in did.items() if times > 1),
        "phantom": sorted(did.keys() - wanted),
        "keys": {what: keys for what, keys in outside.items() if len(keys) > 1},
        "outside": len(outside),
        "wrong": [result for n, result in enumerate(results) if f"{n} confirmed" not in result],
    }


def innocent(kills: int, n: int = FLOWS) -> Verdict:
    nothing: Verdict = {"missing": [], "doubled": [], "phantom": [], "keys": {}, "wrong": []}
    return {"deaths": kills, "outside": 2 * n, **nothing}


async def test_flows_killed_at_every_point_have_each_effect_once(
    tmp_path: Path, typical_database: str, trials: Trials
) -> None:
    assert await under_fire(tmp_path, typical_database, "right", KILLS) == innocent(len(KILLS))
    trials("G1", FLOWS * len(expected(0)), typical_database)
    trials("G4", FLOWS * len(expected(0)), typical_database)


@pytest.mark.soak
async def test_many_flows_killed_at_random_points_have_each_effect_once(
    tmp_path: Path, database: str, trials: Trials
) -> None:
    rng, n = random.Random(4), soak(2_000)
    count = soak(60)
    surely = 2 * (n // count)  # so often new flows come to any point
    kills = [f"{rng.choice(POINTS)}@{rng.randint(1, min(60, surely))}" for _ in range(count)]
    assert await under_fire(tmp_path, database, "right", kills, n) == innocent(count, n)
    trials("G1", n * len(expected(0)), database)
    trials("G4", n * len(expected(0)), database)


async def test_the_checker_finds_a_build_that_records_a_step_after_its_effect(
    tmp_path: Path, broken_on: str
) -> None:
    found = await under_fire(tmp_path, broken_on, "record-later", ["flow.effect@5", "flow.effect@9"])
    assert found["doubled"]
