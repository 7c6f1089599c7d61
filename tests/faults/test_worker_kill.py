"""Workers that are killed or stopped in mid-job: every effect exactly once, nothing stuck, nothing late.

The same checker judges builds that are broken on purpose, and has to find them guilty.
"""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest

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
from support.queue_worker import jobs
from support.queues import Rig, rig
from tenfold._core.clock import SystemClock

pytestmark = pytest.mark.anyio

JOBS = 200
KILLS = 3


async def under_fire(
    folder: Path, database: str, mode: str, *, jobs: int = JOBS, kills: int = KILLS
) -> dict[str, list[str]]:
    """Two worker processes; one at a time is killed while a job of its stays where the kill does most."""
    async with scene(folder, database, mode) as (r, declared, fleet):
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
    tmp_path: Path, database: str
) -> None:
    assert await under_fire(tmp_path, database, "right") == NOTHING


@pytest.mark.soak
async def test_with_many_workers_killed_in_mid_job_every_effect_happens_exactly_once(
    tmp_path: Path, database: str
) -> None:
    assert await under_fire(tmp_path, database, "right", jobs=100_000, kills=500) == NOTHING


async def test_the_checker_finds_a_build_that_acknowledges_before_the_effect(
    tmp_path: Path, database: str
) -> None:
    assert (await under_fire(tmp_path, database, "ack-first", jobs=60, kills=1))["missing"]


async def test_the_checker_finds_a_build_that_acknowledges_outside_of_the_effects_transaction(
    tmp_path: Path, database: str
) -> None:
    assert (await under_fire(tmp_path, database, "ack-later", jobs=60, kills=1))["doubled"]


async def stopped_past_its_lease(folder: Path, database: str, mode: str) -> tuple[list[str], dict[str, Any]]:
    """One worker is stopped in mid-job until another has done the job, then goes on; effects, its counters."""
    declared = jobs(mode)
    async with rig(folder, *declared.values(), clock=SystemClock(), database=database) as r:
        handle = await declared["gated"].enqueue(r.db, n=1)
        late, quick = Process(folder, database, mode, LEASE_S, "silent"), None
        try:
            assert await until((folder / "started-1").exists)
            late.signal(signal.SIGSTOP)
            quick = Process(folder, database, mode)

            async def done() -> bool:
                return (await handle.status()).state == "done"

            assert await until(done)
            (folder / "go").touch()
            late.signal(signal.SIGCONT)
            # the counters tell when the late run is over: it is neither running nor waiting at the end
            await asyncio.sleep(0.3)
            stats = late.end()
        finally:
            late.kill()
            if quick is not None:
                quick.kill()
        return await r.did(), stats


async def test_a_worker_stopped_past_its_lease_cannot_commit(tmp_path: Path, database: str) -> None:
    did, stats = await stopped_past_its_lease(tmp_path, database, "right")
    assert did == ["1 by attempt 2"]
    assert stats["done"] == 0
    assert stats["lost"] == 1


async def test_without_the_fence_it_can(tmp_path: Path, database: str) -> None:
    did, _ = await stopped_past_its_lease(tmp_path, database, "unfenced")
    assert did == ["1 by attempt 2", "1 by attempt 1"]


async def test_a_message_that_kills_its_worker_is_quarantined_and_the_others_get_done(
    tmp_path: Path, database: str
) -> None:
    declared = jobs("right")
    async with rig(tmp_path, *declared.values(), clock=SystemClock(), database=database) as r:
        poison = await declared["crash"].enqueue(r.db, n=0)
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
