"""After a worker's death its messages run again, soon after their leases have ended."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from support.queue_fire import Process, finished, until
from support.queue_worker import CONCURRENCY, WIDE, jobs
from support.queues import rig
from support.trials import Trials, soak
from tenfold._core.clock import SystemClock

pytestmark = pytest.mark.anyio

LEASE_S, SHORT_LEASE_S = 15.0, 1.5
RESUMED = 20.0 / 15.0
"""Of the lease; at p99."""


async def resumed_s(
    folder: Path, database: str, lease_s: float, *flags: str, mode: str = "right", slack_s: float = 5.0
) -> list[float]:
    """One worker is killed in the middle of all that it holds; how long each message took until it ran again."""
    n = WIDE if "wide" in flags else CONCURRENCY
    declared = jobs(mode)
    async with rig(folder, *declared.values(), clock=SystemClock(), database=database) as r:
        await declared["gated"].enqueue_many(r.db, [{"n": i} for i in range(n)])
        victim, heir = Process(folder, database, mode, lease_s, *flags), None
        try:
            assert await until(lambda: started(folder, 1) == n)
            heir = Process(folder, database, mode, lease_s, *flags)
            assert await until(lambda: heir.works)
            victim.kill()
            killed_at = time.time()
            assert await until(lambda: started(folder, 2) == n, 2 * lease_s + slack_s)
            assert await until(lambda: finished(r))
            return [at - killed_at for at in times(folder, 2)]
        finally:
            victim.kill()
            if heir is not None:
                heir.kill()


def times(folder: Path, attempt: int) -> list[float]:
    """When each message began its so manieth attempt."""
    return [path.stat().st_mtime for path in folder.glob(f"started-*-{attempt}")]


def started(folder: Path, attempt: int) -> int:
    return len(times(folder, attempt))


def p99(values: list[float]) -> float:
    return sorted(values)[max(0, -(-len(values) * 99 // 100) - 1)]


async def test_what_a_dead_worker_held_runs_again(
    tmp_path: Path, typical_database: str, trials: Trials
) -> None:
    found = await resumed_s(tmp_path, typical_database, SHORT_LEASE_S)
    assert p99(found) <= RESUMED * SHORT_LEASE_S, found
    trials("G3", len(found), typical_database)


@pytest.mark.soak
async def test_what_many_dead_workers_held_runs_again_in_twenty_seconds(
    tmp_path: Path, database: str, trials: Trials
) -> None:
    found: list[float] = []
    for n in range(soak(10)):
        (folder := tmp_path / str(n)).mkdir()
        found += await resumed_s(folder, database, LEASE_S, "wide")
    assert p99(found) <= RESUMED * LEASE_S, p99(found)
    trials("G3", len(found), database)


async def test_the_checker_finds_workers_that_leave_what_the_dead_held(
    tmp_path: Path, broken_on: str
) -> None:
    with pytest.raises(AssertionError):
        async with asyncio.timeout(30):
            await resumed_s(tmp_path, broken_on, 0.5, mode="no-rescue", slack_s=1.0)
