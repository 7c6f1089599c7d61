"""The worker: leases, fences, crashes, unknown handlers, draining, housekeeping."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from support.queues import Rig, add_effect, rig
from tenfold._core.clock import SystemClock
from tenfold.conformance._altered import alter
from tenfold.db import Tx
from tenfold.errors import LeaseLost
from tenfold.jobs import Job, Retry, current_job
from tenfold.queue.contract import Look
from tenfold.queue.message import Claim
from tenfold.queue.tables import message
from tenfold.queue.testing import run_pending
from tenfold.queue.worker import Worker
from tenfold.schedules import Schedule

pytestmark = pytest.mark.anyio

LEASE_S = 15.0


async def write(what: str, tx: Tx) -> None:
    await tx.execute(add_effect, what=what)


async def noop() -> None: ...


async def held(worker: Worker) -> None:
    """Claim, let the runs begin, and leave them hanging."""
    await worker.poll()
    await worker.turn()
    for _ in range(20):
        await asyncio.sleep(0)


class Gate:
    """A job that waits, then writes; ``starts`` counts its runs."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.starts = 0
        self.outcomes: list[str] = []

    async def fn(self, tx: Tx) -> None:
        self.starts += 1
        await self.open.wait()
        await tx.execute(add_effect, what=f"run {current_job().attempt}")


async def test_a_message_whose_worker_is_silent_runs_again_when_its_lease_has_run_out(tmp_path: Path) -> None:
    async def silent() -> None:
        if current_job().attempt == 1:
            await asyncio.Event().wait()

    job = Job[Any, None]("s", silent)
    async with rig(tmp_path, job) as r:
        dead, alive = r.worker(), r.worker()
        handle = await job.enqueue(r.db)
        await held(dead)
        await r.clock.advance(LEASE_S - 1)
        assert await run_pending(alive) == 0
        await r.clock.advance(2)
        assert await run_pending(alive) == 1
        assert (await handle.status()).state == "done"
        assert alive.stats()["crash"] == 1


SERVER_AT = 1_000_000_000.0
"""What the database's clock says."""
leases = (
    sa.select(message.c.lease_until, message.c.crashes)
    .where(message.c.state == "running")
    .order_by(message.c.id)
)


class Ahead(SystemClock):
    """A machine whose clock is five minutes ahead of the database's."""

    def __init__(self) -> None:
        super().__init__()
        self.now = lambda: SERVER_AT + 300.0
        self.monotonic = lambda: 0.0


async def test_the_first_claim_of_a_process_counts_by_the_time_of_the_database(tmp_path: Path) -> None:
    """Its look is made in the transaction that claims. It leases nothing for minutes, takes nothing back from workers
    that live, and lets no schedule tick ahead of time."""

    async def look(it: Any, *args: Any) -> Look:
        return (await it.inner.look(*args))._replace(server_at=SERVER_AT)

    job, schedule = Job[Any, None]("s", noop), Schedule("s", noop, 60.0, name="tick")
    async with rig(tmp_path, job, schedule, clock=Ahead()) as r:
        for _ in range(2):
            await job.enqueue(r.db)
        async with r.db.tx() as tx:
            await r.queue.backend.claim(tx, Claim("default", "", 1), "alive", SERVER_AT, SERVER_AT + 5.0)
            await r.ticker.feed(tx, SERVER_AT)
        r.ticker.next_at = 0.0
        r.queue.backend = alter(r.queue.backend, look=look)
        assert await r.worker().turn() == 1
        assert await r.db.read().all(leases, tuple) == [(SERVER_AT + 5.0, 0), (SERVER_AT + LEASE_S, 0)]


async def test_a_lease_begins_when_the_writer_is_free(tmp_path: Path) -> None:
    """And not when the claim began to wait for it: on a busy file that is up to ten seconds before."""
    job = Job[Any, None]("s", noop)
    async with rig(tmp_path, job) as r:
        begun = r.clock.now()

        async def look(it: Any, *args: Any) -> Look:
            await r.clock.advance(begun + 10.0 - r.clock.now())  # the first statement of a transaction waits
            found: Look = await it.inner.look(*args)
            return found

        await job.enqueue(r.db)
        r.queue.backend = alter(r.queue.backend, look=look)
        assert await r.worker().turn() == 1
        assert await r.db.read().all(leases, tuple) == [(begun + 10.0 + LEASE_S, 0)]


async def test_a_heartbeat_prolongs_the_lease(tmp_path: Path) -> None:
    gate = asyncio.Event()

    async def waits() -> None:
        await gate.wait()

    job = Job[Any, None]("s", waits)
    async with rig(tmp_path, job) as r:
        busy, other = r.worker(), r.worker()
        await job.enqueue(r.db)
        await held(busy)
        for _ in range(10):
            await r.clock.advance(LEASE_S / 3)
            await busy.keeper.beat()
            assert await run_pending(other) == 0
        gate.set()
        await run_pending(busy)
        assert busy.stats()["done"] == 1


async def test_who_lost_the_lease_cannot_commit_its_effect(tmp_path: Path) -> None:
    """The late worker runs on to its commit; its transaction, effect included, is refused."""
    gate = asyncio.Event()

    async def effect(tx: Tx) -> None:
        attempt = current_job().attempt
        if attempt == 1:
            await gate.wait()
        await tx.execute(add_effect, what=f"attempt {attempt}")

    job = Job[Any, None]("s", effect)
    async with rig(tmp_path, job) as r:
        late, quick = r.worker(), r.worker()
        await job.enqueue(r.db)
        await held(late)
        await r.clock.advance(LEASE_S + 1)
        assert await run_pending(quick) == 1
        gate.set()
        await run_pending(late)
        assert await r.did() == ["attempt 2"]
        assert late.stats()["lost"] == 1
        assert late.stats()["done"] == 0


async def test_a_late_acknowledgement_without_effect_changes_nothing(tmp_path: Path) -> None:
    gates = {1: asyncio.Event(), 2: asyncio.Event()}

    async def waits() -> None:
        await gates[current_job().attempt].wait()

    job = Job[Any, None]("s", waits)
    async with rig(tmp_path, job) as r:
        late, quick = r.worker(), r.worker()
        handle = await job.enqueue(r.db)
        await held(late)
        await r.clock.advance(LEASE_S + 1)
        await held(quick)
        gates[1].set()
        await run_pending(late)
        assert (await handle.status()).state == "running"
        assert late.stats()["lost"] == 1
        gates[2].set()
        await run_pending(quick)
        assert (await handle.status()).state == "done"


async def test_the_heartbeat_cancels_a_run_whose_lease_is_lost(tmp_path: Path) -> None:
    ended: list[str] = []

    async def waits() -> None:
        if current_job().attempt > 1:
            return
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    job = Job[Any, None]("s", waits)
    async with rig(tmp_path, job) as r:
        late, quick = r.worker(), r.worker()
        await job.enqueue(r.db)
        await held(late)
        await r.clock.advance(LEASE_S + 1)
        await run_pending(quick)
        await late.keeper.beat()
        await run_pending(late)
        assert ended == ["cancelled"]


async def test_a_worker_that_outlived_its_own_lease_stops_the_older_run(tmp_path: Path) -> None:
    attempts: list[int] = []

    async def waits() -> None:
        attempts.append(current_job().attempt)
        if current_job().attempt == 1:
            await asyncio.Event().wait()

    job = Job[Any, None]("s", waits)
    async with rig(tmp_path, job) as r:
        worker = r.worker()
        handle = await job.enqueue(r.db)
        await held(worker)
        await r.clock.advance(LEASE_S + 1)
        await run_pending(worker)
        assert attempts == [1, 2]
        assert (await handle.status()).state == "done"
        assert worker.runs.running == 0


async def test_a_job_can_fence_its_own_transactions(tmp_path: Path) -> None:
    results: list[str] = []

    async def careful() -> None:
        if current_job().attempt == 1:
            await r.clock.advance(LEASE_S + 1)
            await run_pending(r.worker())
        try:
            async with r.db.tx() as tx:
                await tx.execute(add_effect, what=f"attempt {current_job().attempt}")
                await current_job().fence(tx)
        except LeaseLost:
            results.append("refused")

    job = Job[Any, None]("s", careful)
    async with rig(tmp_path, job) as r:
        await job.enqueue(r.db)
        await run_pending(r.worker())
        assert await r.did() == ["attempt 2"]
        assert results == ["refused"]


async def crash(r: Rig, worker: Worker | None = None) -> None:
    """A worker claims and is never heard of again."""
    await held(worker or r.worker())
    await r.clock.advance(LEASE_S + 1)


async def test_a_message_whose_worker_died_three_times_is_quarantined(tmp_path: Path) -> None:
    async def hangs() -> None:
        await asyncio.Event().wait()

    job = Job[Any, None]("s", hangs, retry=Retry(attempts=99))
    async with rig(tmp_path, job) as r:
        handle = await job.enqueue(r.db)
        for _ in range(3):
            await crash(r)
        await run_pending(r.worker())
        status = await handle.status()
        assert status.state == "dead"
        assert "its worker died 3 times" in (status.error or "")


async def test_messages_that_crashed_twice_run_one_at_a_time(tmp_path: Path) -> None:
    running, most = 0, 0

    async def innocent(n: int) -> None:
        nonlocal running, most
        if current_job().attempt < 3:
            await asyncio.Event().wait()
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1

    job = Job[Any, None]("s", innocent)
    async with rig(tmp_path, job) as r:
        await job.enqueue_many(r.db, [{"n": n} for n in range(10)])
        for _ in range(2):
            await crash(r)
        await run_pending(r.worker())
        assert most == 1
        assert set((await r.states()).values()) == {"done"}


async def test_stop_waits_for_what_runs_and_gives_back_what_does_not_end(tmp_path: Path) -> None:
    started = asyncio.Event()

    async def quick(tx: Tx) -> None:
        await asyncio.sleep(0.05)
        await tx.execute(add_effect, what="ended in time")

    async def endless() -> None:
        started.set()
        await asyncio.Event().wait()

    jobs = Job[Any, None]("s", endless), Job[Any, None]("s", quick)
    async with rig(tmp_path, *jobs, clock=SystemClock()) as r:
        worker = r.worker(drain_s=0.3)
        handles = [await job.enqueue(r.db) for job in jobs]
        await worker.start()
        async with asyncio.timeout(5):
            await started.wait()
        await worker.stop()
        first, second = [await r.admin.show(h.id) for h in handles]
        assert (first.state, first.attempts, first.worker) == ("ready", 0, None)
        assert second.state == "done"
        assert await r.did() == ["ended in time"]


async def test_a_started_worker_is_woken_by_the_commit(tmp_path: Path) -> None:
    ran = asyncio.Event()

    async def fn() -> None:
        ran.set()

    job = Job[Any, None]("s", fn)
    async with rig(tmp_path, job, clock=SystemClock()) as r:
        worker = r.worker(settings={"poll_s": 60.0})
        await worker.start()
        await asyncio.sleep(0.05)
        worker._idle_polls = 99  # the next poll is a minute away
        async with asyncio.timeout(2):
            await job.enqueue(r.db)
            await ran.wait()
        await worker.stop()


async def test_a_started_worker_finds_what_others_enqueued_by_polling(tmp_path: Path) -> None:
    ran = asyncio.Event()

    async def fn() -> None:
        ran.set()

    job = Job[Any, None]("s", fn)
    async with rig(tmp_path, job, clock=SystemClock()) as r:
        worker = r.worker(settings={"poll_s": 0.05})
        await worker.start()
        r.queue._wakes._listeners.clear()  # as if the commit had been another process's
        async with asyncio.timeout(2):
            await job.enqueue(r.db)
            await ran.wait()
        r.queue.on_wake(worker._wake)
        await worker.stop()


async def test_a_refused_turn_is_tried_again_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job[Any, None]("s", noop)
    async with rig(tmp_path, job) as r:
        worker = r.worker()
        handle = await job.enqueue(r.db)
        await held(worker)
        real = r.queue.backend.settle

        async def broken(*args: Any) -> Any:
            raise OSError("disk")

        monkeypatch.setattr(r.queue.backend, "settle", broken)
        with pytest.raises(OSError, match="disk"):
            await worker.turn()
        monkeypatch.setattr(r.queue.backend, "settle", real)
        await worker.turn()
        assert (await handle.status()).state == "done"


async def test_finished_messages_are_removed_after_their_time_in_small_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tenfold.queue.keeper.PRUNE_BATCH", 4)

    async def sometimes(n: int) -> None:
        if n == 0:
            raise ValueError

    job = Job[Any, None]("s", sometimes, retry=Retry(attempts=1))
    async with rig(tmp_path, job) as r:
        worker = r.worker(settings={"retention_s": 100.0})
        await job.enqueue_many(r.db, [{"n": n} for n in range(10)])
        await run_pending(worker)
        assert await worker.keeper.prune() == 0
        await r.clock.advance(101)
        assert [await worker.keeper.prune() for _ in range(4)] == [4, 4, 1, 0]
        assert list((await r.states()).values()) == ["dead"]
        await r.clock.advance(91 * 86_400)
        assert await worker.keeper.prune() == 1


async def test_under_pressure_a_worker_claims_less_and_catches_up_after(tmp_path: Path) -> None:
    gate = Gate()
    job = Job[Any, None]("s", gate.fn)
    pressure = 1.0
    async with rig(tmp_path, job) as r:
        worker = r.worker(pressure=lambda: pressure)
        for _ in range(10):
            await job.enqueue(r.db)
        await held(worker)
        assert gate.starts == 1
        pressure = 0.0
        await held(worker)
        assert gate.starts == 10
        gate.open.set()
        await run_pending(worker)
