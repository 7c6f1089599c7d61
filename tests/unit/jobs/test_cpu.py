"""CPU-bound jobs: in other processes, without pickle, ended when cancelled."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from support.cpu_jobs import all_jobs
from support.queues import Rig, rig
from tenfold.db import Tx
from tenfold.errors import DeclarationError
from tenfold.jobs import Job
from tenfold.jobs.cpu import CpuPool
from tenfold.queue.testing import run_pending
from tenfold.queue.worker import Worker

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def cpu(folder: Path) -> AsyncGenerator[tuple[Rig, Worker], None]:
    pool = CpuPool(1)
    async with rig(folder, *all_jobs.values()) as r:
        try:
            yield r, r.worker(executor=pool)
        finally:
            await pool.stop()


async def test_a_job_runs_in_another_process_which_is_kept_for_the_next(tmp_path: Path) -> None:
    async with cpu(tmp_path) as (r, worker):
        handles = [await all_jobs["where"].enqueue(r.db, n) for n in (3, 4)]
        await run_pending(worker)
        first, second = [await h.result() for h in handles]
        assert (first["square"], second["square"], first["attempt"]) == (9, 16, 1)
        assert first["pid"] == second["pid"] != os.getpid()


async def test_its_progress_and_result_come_back(tmp_path: Path) -> None:
    async with cpu(tmp_path) as (r, worker):
        handle = await all_jobs["steps"].enqueue(r.db, 3)
        await run_pending(worker)
        assert await handle.result() == "finished"
        progress = (await handle.status()).progress
        assert progress is not None
        assert (progress.done, progress.total) == (3, 3)


@pytest.mark.parametrize(("how", "says"), [("error", "ValueError: failed by error"), ("later", "not now")])
async def test_its_errors_are_the_functions(tmp_path: Path, how: str, says: str) -> None:
    async with cpu(tmp_path) as (r, worker):
        handle = await all_jobs["fails"].enqueue(r.db, how)
        await run_pending(worker)
        status = await handle.status()
        assert status.state == "delayed"
        assert says in (status.error or "")
        assert status.attempts == (0 if how == "later" else 1)


async def test_a_process_that_dies_counts_as_a_crash_and_others_go_on(tmp_path: Path) -> None:
    async with cpu(tmp_path) as (r, worker):
        poison = await all_jobs["fails"].enqueue(r.db, "die")
        good = await all_jobs["where"].enqueue(r.db, 5)
        await run_pending(worker)
        assert (await good.result())["square"] == 25
        info = await r.admin.show(poison.id)
        assert (info.state, info.crashes, info.failures) == ("dead", 3, 0)


async def test_a_cancelled_job_is_ended_with_its_process(tmp_path: Path) -> None:
    async with cpu(tmp_path) as (r, worker):
        handle = await all_jobs["sleeps"].enqueue(r.db)
        await worker.turn()
        await asyncio.sleep(0.05)
        await handle.cancel()
        await worker.keeper.beat()
        async with asyncio.timeout(10):
            await run_pending(worker)
        assert (await handle.status()).state == "cancelled"
        after = await all_jobs["where"].enqueue(r.db, 2)
        await run_pending(worker)
        assert (await after.result())["square"] == 4


async def with_tx(tx: Tx) -> None: ...


async def test_a_job_that_wants_something_injected_is_refused_at_start(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match="'tx' cannot be injected"):
        async with rig(tmp_path, Job[Any, None]("cpu", with_tx, cpu=True)):
            pass


async def test_a_worker_without_an_executor_refuses_cpu_jobs(tmp_path: Path) -> None:
    async with rig(tmp_path, all_jobs["where"]) as r:
        with pytest.raises(DeclarationError, match="executor"):
            r.worker()
