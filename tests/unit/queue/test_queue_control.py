"""Queues that are paused, have limits, or serve many tenants; and messages that somebody stops."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from support.queues import Rig, add_effect, rig
from tenfold._core.clock import SystemClock
from tenfold._core.context import Context, use
from tenfold._core.sections import QueueSettings, WorkerSettings
from tenfold.conformance.kit import until
from tenfold.db import Tx
from tenfold.errors import DeclarationError
from tenfold.jobs import Job, Retry, current_job
from tenfold.queue.admin import Filter
from tenfold.queue.options import QueueOptions, merged, retention
from tenfold.queue.testing import next_due, run_pending
from tenfold.schedules import Schedule

pytestmark = pytest.mark.anyio


async def note(what: str, tx: Tx) -> None:
    await tx.execute(add_effect, what=what)


def say_of(r: Rig, *options: QueueOptions) -> None:
    """As an app does with what is declared."""
    r.queue.options = {said.name: said for said in options}


# ── pausing ──


async def test_a_paused_queue_keeps_everything_and_goes_on_in_order(tmp_path: Path) -> None:
    job = Job[Any, None]("s", note, queue="mail")
    async with rig(tmp_path, job, Schedule("s", note_tick, 60, queue="mail")) as r:
        worker = r.worker()
        await run_pending(worker)
        await r.admin.pause("mail", by="anna", why="the server is away")
        await job.enqueue(r.db, "a")
        await job.options(delay=90).enqueue(r.db, "c")
        await job.enqueue(r.db, "b")
        for _ in range(3):
            await r.clock.advance(60)
            await run_pending(worker)
        assert await r.did() == []
        (info,) = [info for info in await r.admin.queues() if info.name == "mail"]
        assert (info.paused_by, info.messages) == ("paused by anna: the server is away", {"ready": 6})
        await r.admin.resume("mail")
        await run_pending(worker)
        assert await r.did() == ["a", "c", "b", "tick", "tick", "tick"]


async def note_tick(tx: Tx) -> None:
    await note("tick", tx)


async def test_a_pause_holds_back_what_is_claimed_already(tmp_path: Path) -> None:
    job = Job[Any, None]("s", note)
    async with rig(tmp_path, job) as r:
        worker = r.worker(settings={"concurrency": 1, "batch": 50})
        worker.runs.average_s = 0.0001
        await job.enqueue_many(r.db, [{"what": str(n)} for n in range(9)])
        await worker.turn()
        assert len(worker.runs.waiting) == 8
        await r.admin.pause("default")
        await worker.poll()
        assert len(worker.runs.waiting) == 0
        await run_pending(worker)
        assert await r.did() == ["0"]
        await r.admin.resume("default")
        await run_pending(worker)
        assert sorted(await r.did()) == [str(n) for n in range(9)]


# ── limits ──


async def test_a_rate_lets_so_many_start_and_holds_up_no_other_queue(tmp_path: Path) -> None:
    slow, other = Job[Any, None]("s", note, queue="slow"), Job[Any, None]("s", note, name="other")
    async with rig(tmp_path, slow, other) as r:
        say_of(r, QueueOptions("slow", rate="6/minute burst 2"))
        worker = r.worker()
        await worker._claimer.gates.open()
        await slow.enqueue_many(r.db, [{"what": "slow"}] * 5)
        await other.enqueue_many(r.db, [{"what": "other"}] * 50)
        await run_pending(worker)
        assert Counter(await r.did()) == {"slow": 2, "other": 50}
        started = [2]
        for _ in range(3):
            at = await next_due(worker)
            assert at == pytest.approx(r.clock.now() + 10, abs=0.01)
            await r.clock.advance(10)
            await run_pending(worker)
            started.append(Counter(await r.did())["slow"])
        assert started == [2, 3, 4, 5]


async def test_a_queues_concurrency_counts_all_of_its_handlers(tmp_path: Path) -> None:
    now: list[int] = [0, 0]

    async def work() -> None:
        now[0] += 1
        now[1] = max(now)
        await asyncio.sleep(0.005)
        now[0] -= 1

    jobs = [Job[Any, None]("s", work, name=f"work{n}", queue="narrow") for n in range(3)]
    async with rig(tmp_path, *jobs, clock=SystemClock()) as r:
        say_of(r, QueueOptions("narrow", concurrency=2))
        workers = [r.worker(settings={"poll_s": 0.02}) for _ in range(2)]
        for worker in workers:
            await worker.start()
        for job in jobs:
            await job.enqueue_many(r.db, [{}] * 5)
        await until(lambda: sum(w.stats()["done"] for w in workers) == 15, "the end of all jobs")
        assert now[1] == 2
        for worker in workers:
            await worker.stop()


async def test_messages_older_than_the_limit_obey_it(tmp_path: Path) -> None:
    job = Job[Any, None]("s", note, queue="slow")
    async with rig(tmp_path, job) as r:
        await job.enqueue_many(r.db, [{"what": "x"}] * 5)
        say_of(r, QueueOptions("slow", rate="1/minute"))
        worker = r.worker()
        await worker._claimer.gates.open()
        await run_pending(worker)
        assert len(await r.did()) == 1


# ── tenants ──


async def enqueue_for(job: Job[Any, Any], r: Rig, tenant: str, count: int) -> None:
    with use(Context(tenant=tenant)):
        await job.enqueue_many(r.db, [{"what": tenant}] * count)


async def test_one_tenants_many_jobs_do_not_hold_up_the_one_of_another(tmp_path: Path) -> None:
    job = Job[Any, None]("s", note)
    async with rig(tmp_path, job) as r:
        await enqueue_for(job, r, "big", 300)
        await enqueue_for(job, r, "small", 1)
        await job.enqueue(r.db, "nobody")
        worker = r.worker(settings={"concurrency": 3, "batch": 10})
        await run_pending(worker)
        did = await r.did()
        assert max(did.index("small"), did.index("nobody")) < 6
        assert len(did) == 302


async def test_tenants_with_much_to_do_get_the_same(tmp_path: Path) -> None:
    job = Job[Any, None]("s", note)
    async with rig(tmp_path, job) as r:
        for tenant, count in {"a": 200, "b": 100, "c": 50}.items():
            await enqueue_for(job, r, tenant, count)
        await run_pending(r.worker(settings={"concurrency": 4, "batch": 20}))
        did = await r.did()
        assert all(45 <= n <= 55 for n in Counter(did[:150]).values()), Counter(did[:150])
        assert all(45 <= n <= 55 for n in Counter(did[150:250]).values()), Counter(did[150:250])


async def test_a_queue_that_is_not_fair_goes_by_age(tmp_path: Path) -> None:
    job = Job[Any, None]("s", note)
    async with rig(tmp_path, job) as r:
        say_of(r, QueueOptions("default", fair=False))
        await enqueue_for(job, r, "big", 20)
        await enqueue_for(job, r, "small", 1)
        await run_pending(r.worker(settings={"concurrency": 1, "batch": 1}))
        assert (await r.did()).index("small") == 20


# ── stopping what runs ──


async def test_a_cancellation_reaches_running_code_at_once_and_says_who_and_why(tmp_path: Path) -> None:
    begun, cleaned = asyncio.Event(), asyncio.Event()

    async def works() -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            cleaned.set()

    job = Job[Any, None]("s", works)
    async with rig(tmp_path, job, clock=SystemClock()) as r:
        worker = r.worker()  # its next heartbeat is five seconds away
        await worker.start()
        handle = await job.enqueue(r.db)
        await begun.wait()
        assert await r.admin.cancel(handle.id, by="anna", why="ordered twice")
        async with asyncio.timeout(1):
            await cleaned.wait()
        await until(lambda: worker.stats()["cancelled"] == 1, "the record of the cancellation")
        info = await r.admin.show(handle.id)
        assert (info.state, info.error) == ("cancelled", "cancelled by anna: ordered twice, while it ran")
        await worker.stop()


async def test_without_a_hint_a_cancellation_is_heard_within_a_second(tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def works() -> None:
        begun.set()
        await asyncio.sleep(60)

    job = Job[Any, None]("s", works)
    async with rig(tmp_path, job, clock=SystemClock()) as r:
        worker = r.worker()
        await worker.start()
        handle = await job.enqueue(r.db)
        await begun.wait()
        r.queue.cancellations._listeners.clear()  # as if it was asked in another process
        await r.admin.cancel(handle.id)
        async with asyncio.timeout(2):
            await until(lambda: worker.stats()["cancelled"] == 1, "the record of the cancellation")
        r.queue.cancellations.listen(lambda: None)
        worker.keeper._end_calls = None
        await worker.stop()


async def test_a_thread_hears_of_it_when_it_asks(tmp_path: Path) -> None:
    begun, heard = asyncio.Event(), asyncio.Event()

    def works(loop_steps: int) -> None:
        import time

        loop.call_soon_threadsafe(begun.set)
        for _ in range(loop_steps):
            if current_job().cancelled:
                loop.call_soon_threadsafe(heard.set)
                return
            time.sleep(0.01)

    loop = asyncio.get_running_loop()
    job = Job[Any, None]("s", works)
    async with rig(tmp_path, job, clock=SystemClock()) as r:
        worker = r.worker()
        await worker.start()
        handle = await job.enqueue(r.db, 500)
        await begun.wait()
        await r.admin.cancel(handle.id)
        async with asyncio.timeout(2):
            await heard.wait()
        await worker.stop()


# ── many at once ──


async def test_bulk_changes_take_what_fits_in_batches_and_tell_how_far_they_are(tmp_path: Path) -> None:
    async def fails(n: int) -> None:
        raise ValueError(f"odd={n % 2}")

    job = Job[Any, None]("s", fails, retry=ONCE)
    async with rig(tmp_path, job) as r:
        with use(Context(tenant='a"%')):
            await job.enqueue_many(r.db, [{"n": n} for n in range(1_100)])
        await job.enqueue(r.db, 1)
        await run_pending(r.worker())
        told: list[tuple[int, int]] = []
        odd = Filter(state="dead", error="odd=1", tenant='a"%')
        assert await r.admin.retry_all(odd, lambda *at: told.append(at)) == 550
        assert told == [(500, 550), (550, 550)]
        assert await r.admin.cancel_all(Filter(tenant='a"%'), why="enough") == 550
        assert await r.admin.retry_all(Filter(tenant="a_%")) == 0
        assert await r.admin.discard_all(Filter(older_than_s=60)) == 0
        await r.clock.advance(60)
        assert await r.admin.discard_all(Filter(older_than_s=60)) == 1_101


ONCE = Retry(attempts=1)


# ── what is said of queues ──


def test_settings_go_before_declarations() -> None:
    declared = [QueueOptions("mail", rate="5/minute", concurrency=3)]
    found = merged(declared, {"mail": QueueSettings(rate="9/hour", fair=False, keep_done_s=5)}, [])
    assert found["mail"] == QueueOptions("mail", "9/hour", 3, fair=False, keep={"done": 5})
    keep = retention(WorkerSettings(retention_s=100), found)
    assert (keep.seconds("mail", "done"), keep.seconds("default", "done")) == (5, 100)
    assert keep.seconds("mail", "cancelled") == 100


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"rate": "fast"}, "a limit begins with a number"),
        ({"rate": "5/minute per tenant"}, "one rate, over all of its messages"),
        ({"rate": "5/minute, 2/second"}, "one rate, over all of its messages"),
        ({"concurrency": 0}, "nothing would ever run"),
        ({"keep": {"ready": 5}}, "not kept as 'ready'"),
    ],
)
def test_a_queue_that_cannot_be_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(DeclarationError, match=says):
        QueueOptions("mail", **options)


def test_settings_of_a_queue_that_nothing_uses_are_a_slip() -> None:
    with pytest.raises(DeclarationError, match="Did you mean 'mail'"):
        merged([], {"mial": QueueSettings(rate="5/minute")}, ["mail"])
    with pytest.raises(DeclarationError, match="different things"):
        merged([QueueOptions("a"), QueueOptions("a", concurrency=1)], {}, [])
