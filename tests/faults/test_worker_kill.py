"""Workers that are killed or stopped in mid-job: every effect exactly once, nothing stuck, nothing late.

The same checker judges builds that are broken on purpose, and has to find them guilty.
"""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from support.queue_fire import (
    LEASE_S,
    NOTHING,
    Fleet,
    Process,
    deaths_by_message,
    finished,
    scene,
    until,
    verdict,
)
from support.queue_worker import CONCURRENCY, WIDE, jobs
from support.queues import Rig, effects, rig
from support.trials import Trials, soak
from tenfold._core.clock import SystemClock
from tenfold.queue.admin import Filter

pytestmark = pytest.mark.anyio

JOBS = 200
KILLS = 3


async def under_fire(
    folder: Path, database: str, mode: str, *flags: str, jobs: int = JOBS, kills: int = KILLS
) -> dict[str, list[str]]:
    """Two worker processes; one at a time is killed while a job of its stays where the kill does most."""
    async with scene(folder, database, mode, *flags) as (r, declared, fleet):
        await declared["record"].enqueue_many(r.db, [{"n": n} for n in range(jobs)])
        for _ in range(kills):
            assert await fleet.kill_one_that_lingers(lambda: finished(r)), "no worker was in mid-job"
        await the_rest(r, fleet)
        assert mode == "ack-first" or sum((await deaths_by_message(r)).values()) >= kills
        return await verdict(r, {str(n) for n in range(jobs)})


async def the_rest(r: Rig, fleet: Fleet) -> None:
    """Those that linger still are killed too, until everything has an end."""
    while await fleet.kill_one_that_lingers(lambda: finished(r)):
        pass


async def test_with_workers_killed_in_mid_job_every_effect_happens_exactly_once(
    tmp_path: Path, database: str, trials: Trials
) -> None:
    assert await under_fire(tmp_path, database, "right") == NOTHING
    trials("G1", JOBS, database)
    trials("G4", JOBS, database)


@pytest.mark.soak
async def test_with_many_workers_killed_in_mid_job_every_effect_happens_exactly_once(
    tmp_path: Path, database: str, trials: Trials
) -> None:
    n, kills = soak(100_000), soak(400)
    # a kill for each job that lingers, and not one in fifty: each costs the start of a process
    linger = f"linger={n // (kills + 10)}"
    assert await under_fire(tmp_path, database, "right", linger, jobs=n, kills=kills) == NOTHING
    trials("G1", n, database)
    trials("G4", n, database)


async def test_the_checker_finds_a_build_that_acknowledges_before_the_effect(
    tmp_path: Path, broken_on: str
) -> None:
    assert (await under_fire(tmp_path, broken_on, "ack-first", jobs=60, kills=1))["missing"]


async def test_the_checker_finds_a_build_that_acknowledges_outside_of_the_effects_transaction(
    tmp_path: Path, broken_on: str
) -> None:
    assert (await under_fire(tmp_path, broken_on, "ack-later", jobs=60, kills=1))["doubled"]


async def stopped_past_its_lease(
    folder: Path, database: str, mode: str, numbers: range = range(CONCURRENCY), *flags: str
) -> tuple[list[str], dict[str, Any]]:
    """One worker is stopped in the middle of all that it runs at a time, until another has done that, and then goes
    on; effects, its counters."""
    n = len(numbers)
    declared = jobs(mode)
    async with rig(folder, *declared.values(), clock=SystemClock(), database=database) as r:
        await declared["gated"].enqueue_many(r.db, [{"n": i} for i in numbers])
        late, quick = Process(folder, database, mode, LEASE_S, "silent", *flags), None
        try:
            assert await until(lambda: len(list(folder.glob("started-*-1"))) == n)
            late.signal(signal.SIGSTOP)
            quick = Process(folder, database, mode, LEASE_S, *flags)
            assert await until(lambda: finished(r))
            (folder / "go").touch()
            late.signal(signal.SIGCONT)
            assert await until(lambda: len(list(folder.glob("goes-on-*"))) == n)
            stats = late.end()  # what it runs comes to its end
        finally:
            late.kill()
            if quick is not None:
                quick.kill()
        return sorted(await r.did()), stats


async def none_commits(folder: Path, database: str, numbers: range, *flags: str) -> None:
    did, stats = await stopped_past_its_lease(folder, database, "right", numbers, *flags)
    assert {f"{i} by attempt 2" for i in numbers} <= set(did)
    assert not [what for what in did if what.endswith("attempt 1")]
    assert (stats["done"], stats["lost"]) == (0, len(numbers))


async def test_a_worker_stopped_past_its_lease_cannot_commit(
    tmp_path: Path, quick_database: str, trials: Trials
) -> None:
    await none_commits(tmp_path, quick_database, range(CONCURRENCY))
    trials("G8", CONCURRENCY, quick_database)


@pytest.mark.soak
async def test_ten_thousand_runs_stopped_past_their_leases_cannot_commit(
    tmp_path: Path, database: str, trials: Trials
) -> None:
    rounds = soak(10_000 // WIDE)
    for n in range(rounds):
        (folder := tmp_path / str(n)).mkdir()
        await none_commits(folder, database, range(n * WIDE, (n + 1) * WIDE), "wide")
    trials("G8", rounds * WIDE, database)


async def test_without_the_fence_it_can(tmp_path: Path, broken_on: str) -> None:
    did, _ = await stopped_past_its_lease(tmp_path, broken_on, "unfenced")
    assert did == sorted(f"{i} by attempt {a}" for i in range(CONCURRENCY) for a in (1, 2))


HOW = {"sqlite": "exit", "postgresql": "memory", "mysql": "segfault"}
"""A way to die on each database; the long setting has all of them on all."""


async def test_a_message_that_kills_its_worker_is_quarantined_and_the_others_get_done(
    tmp_path: Path, quick_database: str, trials: Trials
) -> None:
    declared, database = jobs("right"), quick_database
    async with rig(tmp_path, *declared.values(), clock=SystemClock(), database=database) as r:
        poison = await declared["crash"].enqueue(r.db, how=HOW[database.partition("://")[0]])
        await declared["innocent"].enqueue_many(r.db, [{"n": n} for n in range(100)])
        worker = Process(tmp_path, database, "right", LEASE_S, "quarantine")
        deaths = 0
        try:
            while not await finished(r):
                if worker.process.poll() is not None:  # what a supervisor does
                    deaths += 1
                    assert deaths <= 3
                    worker = Process(tmp_path, database, "right", LEASE_S, "quarantine")
                await asyncio.sleep(0.05)
        finally:
            worker.kill()
        status = await poison.status()
        assert (status.state, deaths) == ("dead", 3)
        assert "its worker died 3 times" in (status.error or "")
        assert sorted(map(int, await r.did())) == list(range(100))
        trials("G35", 1, database)


async def rate_of_the_others(folder: Path, database: str, n: int, poison: int) -> float:
    """Messages a second that two supervised workers handle while some others kill them."""
    declared = jobs("right")
    async with rig(folder, *declared.values(), clock=SystemClock(), database=database) as r:
        workers = [Process(folder, database, "right", LEASE_S, "quarantine") for _ in range(2)]
        try:
            assert await until(lambda: all(worker.works for worker in workers))
            begun = time.monotonic()
            for i in range(poison):
                await declared["crash"].enqueue(r.db, how=("exit", "memory", "segfault")[i % 3])
            await declared["innocent"].enqueue_many(r.db, [{"n": i} for i in range(n)])
            while not await finished(r):
                for i, worker in enumerate(workers):
                    if worker.process.poll() is not None:
                        workers[i] = Process(folder, database, "right", LEASE_S, "quarantine")
                await asyncio.sleep(0.2)
            took_s = time.monotonic() - begun
        finally:
            for worker in workers:
                worker.kill()
        counts = await r.admin.counts()
        assert [(count.state, count.messages) for count in counts] == ([("dead", poison)] if poison else [])
        assert len(await r.did()) == n
        await r.admin.discard_all(Filter())
        async with r.db.tx() as tx:
            await tx.execute(sa.delete(effects))
        return n / took_s


@pytest.mark.soak
async def test_beside_messages_that_kill_workers_the_others_keep_their_rate(
    tmp_path: Path, database: str, trials: Trials
) -> None:
    n = soak(60_000)
    alone = await rate_of_the_others(tmp_path, database, n, 0)
    (folder := tmp_path / "beside").mkdir()
    beside = await rate_of_the_others(folder, database, n, 3)
    assert beside >= 0.9 * alone, f"{beside:.0f} a second instead of {alone:.0f}"
    trials("G35", 3, database)
