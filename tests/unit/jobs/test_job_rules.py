"""When jobs run: delays, priorities, unique jobs, limits, keys, cancellation."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from support.queues import add_effect, rig
from tenfold.db import Tx
from tenfold.errors import (
    DeclarationError,
    JobCancelled,
)
from tenfold.jobs import Job, Retry, current_job
from tenfold.queue.testing import run_pending

pytestmark = pytest.mark.anyio


async def write(what: str, tx: Tx) -> None:
    await tx.execute(add_effect, what=what)


async def noop(n: int = 0) -> None: ...


async def test_delays_and_times_are_kept(tmp_path: Path) -> None:
    job = Job[Any, None]("s", write)
    async with rig(tmp_path, job) as r:
        worker = r.worker()
        at = datetime.fromtimestamp(r.clock.now() + 30, UTC)
        await job.options(at=at).enqueue(r.db, "third")
        await job.options(delay=timedelta(seconds=20)).enqueue(r.db, "second")
        await job.options(delay=10).enqueue(r.db, "first")
        for expected in ([], ["first"], ["first", "second"], ["first", "second", "third"]):
            await run_pending(worker)
            assert await r.did() == expected
            await r.clock.advance(10)


async def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(DeclarationError, match="no time zone"):
        Job[Any, None]("s", noop).options(at=datetime(2026, 1, 1))


async def test_urgent_jobs_run_before_others_of_their_queue(tmp_path: Path) -> None:
    job = Job[Any, None]("s", write)
    async with rig(tmp_path, job) as r:
        for what, priority in (("late", 5), ("normal", 0), ("first", -5), ("normal too", 0)):
            await job.options(priority=priority).enqueue(r.db, what)
        await run_pending(r.worker(settings={"concurrency": 1}))
        assert await r.did() == ["first", "normal", "normal too", "late"]


async def test_a_unique_job_is_enqueued_once_while_it_is_pending(tmp_path: Path) -> None:
    job = Job[Any, None]("s", write, unique=True)
    async with rig(tmp_path, job) as r:
        async with r.db.tx() as tx:
            first = await job.enqueue(tx, "a")
            again = await job.enqueue(tx, "a")
            other = await job.enqueue(tx, "b")
        later = await job.enqueue(r.db, what="a")
        assert (first.existed, again.existed, other.existed, later.existed) == (False, True, False, True)
        assert first.id == again.id == later.id != other.id
        await run_pending(r.worker())
        fresh = await job.enqueue(r.db, "a")
        assert not fresh.existed
        await run_pending(r.worker())
        assert await r.did() == ["a", "b", "a"]


async def test_the_unique_key_may_be_made_from_some_arguments(tmp_path: Path) -> None:
    async def total(customer: int, reason: str) -> None: ...

    job = Job[Any, None]("s", total, unique=lambda customer, **_: f"c{customer}")
    async with rig(tmp_path, job) as r:
        first = await job.enqueue(r.db, 1, "paid")
        assert (await job.enqueue(r.db, 1, "sent")).id == first.id
        assert (await job.enqueue(r.db, 2, "sent")).id != first.id


async def test_what_is_enqueued_while_a_unique_job_runs_is_run_after_it(tmp_path: Path) -> None:
    runs: list[int] = []

    async def again() -> None:
        runs.append(current_job().id)
        if len(runs) == 1:
            assert not (await job.enqueue(rigged.db)).existed

    job = Job[Any, None]("s", again, unique=True)
    async with rig(tmp_path, job) as rigged:
        await job.enqueue(rigged.db)
        await run_pending(rigged.worker())
        assert runs == [1, 2]


async def test_a_failed_unique_job_makes_room_for_its_successor(tmp_path: Path) -> None:
    async def fails() -> None:
        if current_job().id == 1:
            await job.enqueue(rigged.db)
            raise ValueError

    job = Job[Any, None]("s", fails, unique=True)
    async with rig(tmp_path, job) as rigged:
        first = await job.enqueue(rigged.db)
        await run_pending(rigged.worker())
        status = await first.status()
        assert status.state == "cancelled"
        assert "superseded" in (status.error or "")
        assert (await rigged.states())[2] == "done"


async def test_a_concurrency_limit_holds_across_workers_and_blocks_nobody_else(tmp_path: Path) -> None:
    gate, running, most = asyncio.Event(), 0, 0

    async def limited() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await gate.wait()
        running -= 1

    slow = Job[Any, None]("s", limited, concurrency=2)
    other = Job[Any, None]("s", write)
    async with rig(tmp_path, slow, other) as r:
        await slow.enqueue_many(r.db, [{} for _ in range(20)])
        await other.enqueue(r.db, "not held up")
        workers = [r.worker(), r.worker()]
        for worker in workers:
            await worker.turn()
        await asyncio.sleep(0.05)
        assert running == 2
        assert await r.did() == ["not held up"]
        gate.set()
        await asyncio.gather(*(run_pending(worker) for worker in workers))
        assert most == 2
        assert set((await r.states()).values()) == {"done"}


async def test_jobs_of_one_key_run_in_order_and_a_stuck_one_blocks_only_its_key(tmp_path: Path) -> None:
    stuck = True

    async def step(what: str, tx: Tx) -> None:
        if what == "a1" and stuck:
            raise ValueError("not yet")
        await tx.execute(add_effect, what=what)

    job = Job[Any, None]("s", step, retry=Retry(base_s=60, jitter=False))
    async with rig(tmp_path, job) as r:
        async with r.db.tx() as tx:
            for what in ("a1", "a2", "b1"):
                await job.options(key=what[0]).enqueue(tx, what)
        await job.options(key="a", priority=-9).enqueue(r.db, "a3")
        await job.options(key="b").enqueue(r.db, "b2")
        await run_pending(r.worker())
        assert await r.did() == ["b1", "b2"]
        stuck = False
        await r.clock.advance(60)
        await run_pending(r.worker())
        assert await r.did() == ["b1", "b2", "a1", "a2", "a3"]


async def test_a_dead_job_lets_its_key_go_on(tmp_path: Path) -> None:
    async def step(what: str, tx: Tx) -> None:
        if what == "bad":
            raise ValueError
        await tx.execute(add_effect, what=what)

    job = Job[Any, None]("s", step, retry=Retry(attempts=1))
    async with rig(tmp_path, job) as r:
        for what in ("bad", "good"):
            await job.options(key="k").enqueue(r.db, what)
        await run_pending(r.worker())
        assert await r.did() == ["good"]


async def test_a_cancelled_pending_job_never_runs(tmp_path: Path) -> None:
    job = Job[Any, None]("s", write)
    async with rig(tmp_path, job) as r:
        handles = [
            await job.options(delay=d, key=k).enqueue(r.db, "x") for d, k in ((0, None), (99, None), (0, "k"))
        ]
        behind = await job.options(key="k").enqueue(r.db, "after k")
        assert [await h.cancel() for h in handles] == [True, True, True]
        await r.clock.advance(100)
        await run_pending(r.worker())
        assert await r.did() == ["after k"]
        assert not await behind.cancel()


async def test_who_waits_for_the_result_of_a_cancelled_job_is_told(tmp_path: Path) -> None:
    job = Job[Any, None]("s", noop, result_ttl=60)
    async with rig(tmp_path, job) as r:
        handle = await job.enqueue(r.db)
        await handle.cancel()
        with pytest.raises(JobCancelled):
            await handle.result()


async def test_a_running_job_learns_of_its_cancellation_at_the_next_heartbeat(tmp_path: Path) -> None:
    seen: list[bool] = []

    async def long() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            seen.append(current_job().cancelled)

    job = Job[Any, None]("s", long)
    async with rig(tmp_path, job) as r:
        worker = r.worker()
        handle = await job.enqueue(r.db)
        await worker.turn()
        await asyncio.sleep(0)
        assert await handle.cancel()
        assert (await handle.status()).cancel_requested
        assert seen == []
        await worker.keeper.beat()
        await run_pending(worker)
        assert seen == [True]
        assert (await handle.status()).state == "cancelled"
