"""The worker: leases, fences, crashes, unknown handlers, draining, housekeeping."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from support.queues import Rig, add_effect, effects, rig

from tenfold._core.clock import SystemClock
from tenfold.db import Tx
from tenfold.errors import LeaseLost, NotFound, QueueError
from tenfold.jobs import Job, Retry, current_job
from tenfold.queue.tables import archive, message
from tenfold.queue.testing import captured, run_pending
from tenfold.queue.worker import Worker

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
            await busy.beat()
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
        await late.beat()
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


async def test_a_message_nobody_knows_is_parked_and_taken_up_by_code_that_does(tmp_path: Path) -> None:
    job, other = Job[Any, None]("s", write), Job[Any, None]("s", noop)
    async with rig(tmp_path, job, other) as r:
        old = r.worker(handlers={other.name: r.handlers[other.name]})
        handle = await job.enqueue(r.db, "later")
        await other.enqueue(r.db)
        await run_pending(old)
        status = await handle.status()
        assert status.state == "parked"
        assert "no job named 's.write'" in (status.error or "")
        assert old.stats()["done"] == 1
        new = r.worker()
        assert await run_pending(new) == 0
        assert await new.adopt() == 1
        await run_pending(new)
        assert await r.did() == ["later"]


async def test_a_message_that_no_longer_fits_the_signature_is_parked_with_a_sentence(tmp_path: Path) -> None:
    async def fn(order: int) -> None: ...

    async def changed(order: int, customer: int) -> None: ...

    before, after = Job[Any, None]("s", fn, name="send"), Job[Any, None]("s", changed, name="send")
    async with rig(tmp_path, before) as r:
        handle = await before.enqueue(r.db, order=1)
        handler = after.bind(r.queues, r.container, r.db)
        await run_pending(r.worker(handlers={handler.name: handler}))
        status = await handle.status()
        assert status.state == "parked"
        assert "customer" in (status.error or "")


async def test_a_limit_declared_later_applies_to_what_is_already_queued(tmp_path: Path) -> None:
    job, limited = Job[Any, None]("s", noop), Job[Any, None]("s", noop, concurrency=1)
    async with rig(tmp_path, job) as r:
        await job.enqueue_many(r.db, [{}] * 5)
        handler = limited.bind(r.queues, r.container, r.db)
        worker = r.worker(handlers={handler.name: handler})
        await worker.adopt()
        assert await worker.turn() == 1
        await run_pending(worker)
        assert set((await r.states()).values()) == {"done"}


async def test_a_worker_may_serve_some_queues_only(tmp_path: Path) -> None:
    job = Job[Any, None]("s", write)
    async with rig(tmp_path, job) as r:
        await job.enqueue(r.db, "default")
        await job.options(queue="slow").enqueue(r.db, "slow")
        await run_pending(r.worker(queues=["slow"]))
        assert await r.did() == ["slow"]


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
        r.queue._listeners.clear()  # as if the commit had been another process's
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
    monkeypatch.setattr("tenfold.queue.worker.PRUNE_BATCH", 4)

    async def sometimes(n: int) -> None:
        if n == 0:
            raise ValueError

    job = Job[Any, None]("s", sometimes, retry=Retry(attempts=1))
    async with rig(tmp_path, job) as r:
        worker = r.worker(settings={"retention_s": 100.0})
        await job.enqueue_many(r.db, [{"n": n} for n in range(10)])
        await run_pending(worker)
        assert await worker.prune() == 0
        await r.clock.advance(101)
        assert [await worker.prune() for _ in range(4)] == [4, 4, 1, 0]
        assert list((await r.states()).values()) == ["dead"]
        await r.clock.advance(91 * 86_400)
        assert await worker.prune() == 1


async def test_admin_counts_lists_retries_and_discards(tmp_path: Path) -> None:
    broken = True

    async def fn(n: int, tx: Tx) -> None:
        if broken:
            raise ValueError(f"n={n}")
        await tx.execute(add_effect, what=str(n))

    job = Job[Any, None]("s", fn, retry=Retry(attempts=1))
    async with rig(tmp_path, job) as r:
        worker, admin = r.worker(), r.admin
        ids = [h.id for h in await job.enqueue_many(r.db, [{"n": n} for n in range(3)])]
        await job.options(delay=60).enqueue(r.db, 9)
        assert await admin.lag_s() == 0
        await run_pending(worker)
        assert [tuple(c) for c in await admin.counts()] == [("default", "dead", 3), ("default", "delayed", 1)]
        assert [i.id for i in await admin.list(state="dead", limit=2)] == [ids[2], ids[1]]
        assert [i.id for i in await admin.list(state="dead", before=ids[1])] == [ids[0]]
        assert "n=1" in (await admin.show(ids[1])).first_error_line
        await admin.discard(ids[0])
        with pytest.raises(NotFound):
            await admin.show(ids[0])
        broken = False
        await admin.retry(ids[1])
        assert (await admin.show(ids[1])).attempts == 0
        assert await admin.retry_dead() == 1
        await run_pending(worker)
        assert await r.did() == ["1", "2"]
        with pytest.raises(QueueError, match="done"):
            await admin.retry(ids[1])
        await admin.retry(4)
        await run_pending(worker)
        assert await r.did() == ["1", "2", "9"]


async def test_a_retried_unique_message_does_not_repeat_a_pending_one(tmp_path: Path) -> None:
    async def fails() -> None:
        raise ValueError

    job = Job[Any, None]("s", fails, unique=True, retry=Retry(attempts=1))
    async with rig(tmp_path, job) as r:
        first = await job.enqueue(r.db)
        await run_pending(r.worker())
        await job.enqueue(r.db)
        with pytest.raises(QueueError, match="pending"):
            await r.admin.retry(first.id)
        assert await r.admin.retry_dead() == 0


async def test_a_retried_message_takes_its_place_in_its_key_again(tmp_path: Path) -> None:
    async def step(what: str, tx: Tx) -> None:
        if what == "bad" and not fixed:
            raise ValueError
        await tx.execute(add_effect, what=what)

    fixed = False
    job = Job[Any, None]("s", step, retry=Retry(attempts=1))
    async with rig(tmp_path, job) as r:
        bad = await job.options(key="k").enqueue(r.db, "bad")
        await run_pending(r.worker())
        fixed = True
        await job.options(key="k", delay=5).enqueue(r.db, "good")
        await r.admin.retry(bad.id)
        assert (await r.admin.show(bad.id)).state == "waiting"
        await r.clock.advance(5)
        await run_pending(r.worker())
        assert await r.did() == ["good", "bad"]


# ── a claim stays flat ──


PLANS = {
    "CLAIM": {"queue": "q", "lane": "", "limit": 1, "worker": "w", "now": 0, "lease_until": 0},
    "LOOK": {},
    "LANES": {},
    "RUNNING": {},
    "WAKE_DUE": {"now": 0, "limit": 1},
    "EXPIRED": {"now": 0, "limit": 1},
    "EXTEND": {"held": "[]", "lease_until": 0},
    "ARCHIVE": {"items": "[]", "now": 0},
    "REMOVE": {"items": "[]"},
    "RETURN": {"items": "[]"},
    "PROMOTE": {"keys": "[]", "now": 0},
    "INSERT": {"rows": "[]"},
    "UNPARK": {"lanes": "[]", "now": 0},
    "PENDING_WITH_KEY": {"keys": "[]"},
    "RESTORE_KEYS": {"ids": "[]"},
}


@pytest.mark.parametrize("name", PLANS)
async def test_no_statement_of_the_worker_scans_the_message_table(tmp_path: Path, name: str) -> None:
    from tenfold.queue.backends import _sqlite_sql

    values = dict(PLANS[name])
    if "limit" in values and name == "CLAIM":
        values["count"] = values.pop("limit")
    statement = sa.text("EXPLAIN QUERY PLAN " + getattr(_sqlite_sql, name).text)
    async with rig(tmp_path) as r, r.db.tx() as tx:
        rows = await tx.all(statement, tuple, **values)
        steps = [str(row[3]) for row in rows]
    scans = [s for s in steps if s.startswith(("SCAN tenfold_", "SCAN m", "SCAN h", "SCAN w"))]
    assert steps
    assert all("INDEX tenfold_message_" in s for s in scans), steps  # of a partial index


async def vm_steps(r: Rig, worker: Worker) -> int:
    """Virtual-machine steps of SQLite that one claim costs; they grow with the rows it touches."""
    steps = 0

    def count() -> bool:
        nonlocal steps
        steps += 1
        return False

    async with r.db.tx() as tx:
        await tx._channel.raw(lambda c: c.set_progress_handler(count, 10, id="count"))
        try:
            await worker._claimer.claim(tx, 10, 0)
        finally:
            await tx._channel.raw(lambda c: c.set_progress_handler(None, 0, id="count"))
    return steps * 10


async def test_a_claim_costs_the_same_beside_many_archived_delayed_parked_and_limited_messages(
    tmp_path: Path,
) -> None:
    job = Job[Any, None]("s", noop)
    async with rig(tmp_path, job) as r:
        worker = r.worker()
        await job.enqueue_many(r.db, [{}] * 200)
        bare = await vm_steps(r, worker)
        await fill(r, 20_000)
        full = await vm_steps(r, worker)
        assert bare > 100
        assert full < bare * 1.3 + 200, (bare, full)


async def fill(r: Rig, rows: int) -> None:
    """Rows in every state that a claim has to pass by."""
    later = r.clock.now() + 1e6
    numbers = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) "
    columns = (
        "kind, handler, state, queue, lane, priority, run_at, created_at, payload, order_key, lease_until"
    )
    kinds = {
        "delayed": f"'delayed', 'default', '', 0, {later}, 0, '{{}}', NULL, NULL",
        "parked": "'parked', 'default', '', 0, 0, 0, '{}', NULL, NULL",
        "waiting": "'waiting', 'default', '', -5, 0, 0, '{}', 'k', NULL",
        "running": f"'running', 'default', '', 0, 0, 0, '{{}}', NULL, {later}",
        "other queue": "'ready', 'other', '', -9, 0, 0, '{}', NULL, NULL",
    }
    async with r.db.tx() as tx:
        for values in kinds.values():
            await tx.execute(
                sa.text(
                    f"INSERT INTO {message.name} ({columns}) {numbers} SELECT 'job', 's.x', {values} FROM n"
                )
            )
        await tx.execute(
            sa.text(
                f"INSERT INTO {archive.name} (id, kind, handler, state, queue, lane, priority, created_at, finished_at,"
                " payload, fence, failures, crashes, expires_at)"
                f" {numbers} SELECT i + 1000000, 'job', 's.x', 'done', 'default', '', 0, 0, 0, '{{}}', 1, 0, 0, 9e9 FROM n"
            )
        )
    await r.db.read().scalar(sa.text("SELECT count(*) FROM tenfold_message"))


async def test_captured_shows_what_waits_without_running_it(tmp_path: Path) -> None:
    job = Job[Any, None]("s", write)
    async with rig(tmp_path, job) as r:
        await job.enqueue(r.db, what="x")
        await job.options(delay=5).enqueue(r.db, what="y")
        assert [(i.handler, i.payload) for i in await captured(r.queue)] == [
            ("s.write", '{"what":"x"}'),
            ("s.write", '{"what":"y"}'),
        ]
        assert await r.db.read().all(sa.select(effects), tuple) == []
