"""Limits and turns in a fleet: a queue's rate is never exceeded, and one tenant's load is not another's."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from support.queue_worker import Skewed
from support.queues import Rig, rig
from support.trials import Trials, soak
from tenfold._core.clock import SystemClock
from tenfold._core.context import Context, use
from tenfold.guard.rates import parse
from tenfold.jobs import Job
from tenfold.queue.gates import Gates
from tenfold.queue.options import QueueOptions

pytestmark = pytest.mark.anyio

RATE = "100/second burst 20"
SKEWS = (0, 300, -300, 120, -120, 60, -60, 1)


async def started_within(folder: Path, url: str, seconds: float, instances: int) -> tuple[int, int, float]:
    """How many messages the instances started, how many the rate allows meanwhile, and how many it is sure to."""
    job = Job[Any, None]("s", noop, queue="limited")
    window = parse(RATE)[0]
    async with AsyncExitStack() as stack:
        rigs: list[Rig] = []
        for i in range(instances):
            clock = Skewed(SKEWS[i])
            rigs.append(
                await stack.enter_async_context(rig(folder, job, clock=clock, database=url, make=i == 0))
            )
            rigs[-1].queue.options = {"limited": QueueOptions("limited", rate=RATE)}
        enough = int(window.burst + seconds * window.count / window.period_s) + 200
        await job.enqueue_many(rigs[0].db, [{}] * enough)
        workers = [r.worker(settings={"poll_s": 0.2}) for r in rigs]
        begun = time.monotonic()
        for worker in workers:
            await worker.start()
        first = time.monotonic()
        await asyncio.sleep(seconds)
        last = time.monotonic()
        started = sum(int(worker.stats()["claimed"]) for worker in workers)
        allowed = window.burst + (time.monotonic() - begun) * 1e6 / window.interval_us
        for worker in workers:
            await worker.stop()
        return started, int(allowed) + 1, (last - first) * window.count / window.period_s


async def noop() -> None: ...


async def test_a_fleet_never_starts_more_than_a_queues_rate(
    tmp_path: Path, quick_server: str, trials: Trials
) -> None:
    started, allowed, _ = await started_within(tmp_path, quick_server, 1.5, instances=4)
    assert 20 < started <= allowed
    trials("G13", started, quick_server)


@pytest.mark.soak
async def test_a_fleet_starts_a_hundredth_less_at_most(
    tmp_path: Path, server_database: str, trials: Trials
) -> None:
    started, allowed, sure = await started_within(tmp_path, server_database, soak(120), instances=8)
    assert 0.99 * sure <= started <= allowed
    trials("G13", started, server_database)


async def test_the_checker_finds_a_fleet_that_does_not_count(
    tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def spend(*_: Any) -> None: ...

    monkeypatch.setattr(Gates, "spend", spend)
    started, allowed, _ = await started_within(tmp_path, postgres_url, 1.5, instances=4)
    assert started > allowed


# ── G34: a tenant does not feel another's load ──


async def quiet_p99(folder: Path, url: str, loud: int, n: int, fair: bool = True) -> tuple[float, int]:
    """How long the jobs of a quiet tenant take to start, while another has ``loud`` times as many: in seconds, and in
    jobs of the other that start in between."""
    lags: list[float] = []
    overtaken: list[int] = []
    at: dict[int, tuple[float, int]] = {}
    begun_loud = 0

    async def work(number: int, quiet: bool) -> None:
        nonlocal begun_loud
        if quiet:
            started, before = at[number]
            lags.append(time.monotonic() - started)
            overtaken.append(begun_loud - before)
        else:
            begun_loud += 1
        await asyncio.sleep(0.004)

    job = Job[Any, None]("s", work)
    async with rig(folder, job, clock=SystemClock(), database=url) as r:
        r.queue.options = {"default": QueueOptions("default", fair=fair)}
        with use(Context(tenant="loud")):
            await job.enqueue_many(r.db, [{"number": -1, "quiet": False}] * (loud * n))
        worker = r.worker(settings={"concurrency": 4})
        await worker.start()
        for number in range(n):
            await asyncio.sleep(0.02)
            at[number] = time.monotonic(), begun_loud
            with use(Context(tenant="quiet")):
                await job.enqueue(r.db, number=number, quiet=True)
        while len(lags) < n:  # noqa: ASYNC110 - the end of the jobs is what is waited for
            await asyncio.sleep(0.02)
        await worker.stop()
        async with r.db.tx() as tx:
            for table in ("tenfold_message", "tenfold_message_archive"):
                await tx.execute(sa.text(f"DELETE FROM {table}"))
    return sorted(lags)[n * 99 // 100], sorted(overtaken)[n * 99 // 100]


@pytest.mark.soak
async def test_a_quiet_tenant_starts_as_soon_beside_one_with_a_hundred_times_its_load(
    tmp_path: Path, server_database: str, trials: Trials
) -> None:
    n = soak(2_000)
    alike, _ = await quiet_p99(tmp_path, server_database, 1, n)
    beside, _ = await quiet_p99(tmp_path, server_database, 100, n)
    assert beside <= 1.5 * alike, (alike, beside)
    trials("G34", n, server_database)


async def test_without_turns_a_quiet_tenant_waits_for_the_loud_one(tmp_path: Path, postgres_url: str) -> None:
    _, in_turn = await quiet_p99(tmp_path, postgres_url, 60, 20)
    _, by_age = await quiet_p99(tmp_path, postgres_url, 60, 20, fair=False)
    assert by_age > 5 * in_turn, (by_age, in_turn)
