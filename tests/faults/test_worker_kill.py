"""Workers that are killed or stopped in mid-job: every effect exactly once, nothing stuck, nothing late.

The same checker judges builds that are broken on purpose, and has to find them guilty.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from support.queue_worker import jobs
from support.queues import Rig, rig
from tenfold._core.clock import SystemClock

pytestmark = pytest.mark.anyio

JOBS = 400
KILLS = 6
LEASE_S = 1.0
TESTS = Path(__file__).parents[1]


class Process:
    """One worker process."""

    def __init__(self, folder: Path, mode: str = "right", lease_s: float = LEASE_S, *flags: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "support.queue_worker", str(folder), mode, str(lease_s), *flags],
            cwd=TESTS,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])},
        )

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self) -> dict[str, Any]:
        """Stop it in order; its counters."""
        self.process.terminate()
        out, _ = self.process.communicate(timeout=20)
        stats: dict[str, Any] = json.loads(out)
        return stats


async def until(condition: Callable[[], Any], seconds: float = 25.0) -> bool:
    """Wait for a coroutine function or function to be true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if await value if asyncio.iscoroutine(value) else value:
            return True
        await asyncio.sleep(0.02)
    return False


async def finished(r: Rig) -> bool:
    return not [count for count in await r.admin.counts() if count.state != "dead"]


async def verdict(r: Rig, expected: set[str]) -> dict[str, list[str]]:
    """What is wrong: effects that are missing, doubled, or of nobody; messages that are stuck."""
    did = Counter(await r.did())
    return {
        "missing": sorted(expected - did.keys()),
        "doubled": sorted(what for what, times in did.items() if times > 1),
        "phantom": sorted(did.keys() - expected),
        "stuck": [f"{count.messages} {count.state}" for count in await r.admin.counts()],
    }


async def under_fire(folder: Path, mode: str, kills: int = KILLS) -> dict[str, list[str]]:
    """Two worker processes on one file, one of them killed at a time, at random moments of their work."""
    rng = random.Random(7)
    declared = jobs(mode)
    async with rig(folder, *declared.values(), clock=SystemClock()) as r:
        await declared["record"].enqueue_many(r.db, [{"n": n} for n in range(JOBS)])
        workers = [Process(folder, mode), Process(folder, mode)]
        try:
            for _ in range(kills):
                busy: list[int] = []

                async def some_are_busy(found: list[int] = busy) -> bool:
                    pids = await at_work(r)
                    found[:] = [i for i, worker in enumerate(workers) if worker.process.pid in pids]
                    return bool(found) or await finished(r)

                await until(some_are_busy)
                if not busy:
                    break
                victim = rng.choice(busy)
                workers[victim].kill()
                workers[victim] = Process(folder, mode)
            await until(lambda: finished(r))
        finally:
            for worker in workers:
                worker.kill()
        hit = [info.id for info in await r.admin.list(limit=500) if info.crashes]
        assert hit or mode == "ack-first", "no kill has hit a message in the middle of its run"
        return await verdict(r, {str(n) for n in range(JOBS)})


async def at_work(r: Rig) -> set[int]:
    """Process ids of the workers that hold messages."""
    names = sa.text("SELECT DISTINCT worker FROM tenfold_message WHERE state = 'running'")
    return {int(name.split(":")[1]) for name in await r.db.read().all(names, str)}


async def test_with_workers_killed_in_mid_job_every_effect_happens_exactly_once(tmp_path: Path) -> None:
    assert await under_fire(tmp_path, "right") == {"missing": [], "doubled": [], "phantom": [], "stuck": []}


async def test_the_checker_finds_a_build_that_acknowledges_before_the_effect(tmp_path: Path) -> None:
    assert (await under_fire(tmp_path, "ack-first", kills=3))["missing"]


async def test_the_checker_finds_a_build_that_acknowledges_outside_of_the_effects_transaction(
    tmp_path: Path,
) -> None:
    assert (await under_fire(tmp_path, "ack-later", kills=3))["doubled"]


async def stopped_past_its_lease(folder: Path, mode: str) -> tuple[list[str], dict[str, Any]]:
    """One worker is stopped in mid-job until another has done the job, then goes on; effects, its counters."""
    declared = jobs(mode)
    async with rig(folder, *declared.values(), clock=SystemClock()) as r:
        handle = await declared["gated"].enqueue(r.db, n=1)
        late, quick = Process(folder, mode), None
        try:
            assert await until((folder / "started-1").exists)
            late.signal(signal.SIGSTOP)
            quick = Process(folder, mode)

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


async def test_a_worker_stopped_past_its_lease_cannot_commit(tmp_path: Path) -> None:
    did, stats = await stopped_past_its_lease(tmp_path, "right")
    assert did == ["1 by attempt 2"]
    assert stats["done"] == 0
    assert stats["lost"] == 1


async def test_without_the_fence_it_can(tmp_path: Path) -> None:
    did, _ = await stopped_past_its_lease(tmp_path, "unfenced")
    assert did == ["1 by attempt 2", "1 by attempt 1"]


async def test_a_message_that_kills_its_worker_is_quarantined_and_the_others_get_done(tmp_path: Path) -> None:
    declared = jobs("right")
    async with rig(tmp_path, *declared.values(), clock=SystemClock()) as r:
        poison = await declared["crash"].enqueue(r.db, n=0)
        await declared["innocent"].enqueue_many(r.db, [{"n": n} for n in range(100)])
        worker = Process(tmp_path, "right", LEASE_S, "quarantine")
        deaths = 0
        try:
            while not await finished(r):
                if worker.process.poll() is not None:  # what a supervisor does
                    deaths += 1
                    assert deaths <= 3
                    worker = Process(tmp_path, "right", LEASE_S, "quarantine")
                await asyncio.sleep(0.05)
        finally:
            worker.kill()
        status = await poison.status()
        assert (status.state, deaths) == ("dead", 3)
        assert "its worker died 3 times" in (status.error or "")
        assert sorted(map(int, await r.did())) == list(range(100))
