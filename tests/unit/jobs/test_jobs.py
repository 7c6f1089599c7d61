"""Jobs: enqueued in a transaction, run after it, retried, cancelled, unique, limited, in order."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import pytest
from support.queues import add_effect, rig

from tenfold._core.container import Depends
from tenfold._core.context import Context, current, use
from tenfold.db import Tx
from tenfold.errors import (
    DeclarationError,
    JobCancelled,
    JobFailed,
    NotBound,
    QueueError,
    RetryLater,
    WrongArguments,
)
from tenfold.jobs import Job, JobContext, Retry, current_job
from tenfold.queue.testing import captured, run_pending

pytestmark = pytest.mark.anyio


async def write(what: str, tx: Tx) -> None:
    await tx.execute(add_effect, what=what)


async def noop(n: int = 0) -> None: ...


async def test_a_job_runs_if_and_only_if_its_transaction_commits(tmp_path: Path) -> None:
    job = Job[Any, None]("s", write)
    async with rig(tmp_path, job) as r:
        worker = r.worker()
        async with r.db.tx() as tx:
            await job.enqueue(tx, what="kept")
            assert await captured(r.queue) == []
        with pytest.raises(ValueError, match="no"):
            async with r.db.tx() as tx:
                await job.enqueue(tx, what="lost")
                raise ValueError("no")
        assert await run_pending(worker) == 1
        assert await r.did() == ["kept"]


async def test_a_job_enqueued_in_a_savepoint_that_is_undone_does_not_exist(tmp_path: Path) -> None:
    job = Job[Any, None]("s", write)
    async with rig(tmp_path, job) as r:
        async with r.db.tx() as tx:
            await job.enqueue(tx, what="before")
            with pytest.raises(ValueError, match="no"):
                async with tx.savepoint():
                    await job.enqueue(tx, what="inside")
                    raise ValueError("no")
            await job.enqueue(tx, what="after")
        await run_pending(r.worker())
        assert await r.did() == ["before", "after"]


async def test_all_jobs_of_a_transaction_are_written_by_one_statement(tmp_path: Path) -> None:
    job = Job[Any, None]("s", noop)
    async with rig(tmp_path, job) as r:
        inserts: list[int] = []
        real = r.queue.backend.insert

        async def counted(tx: Tx, rows: Any) -> Any:
            inserts.append(len(rows))
            return await real(tx, rows)

        r.queue.backend.insert = counted  # type: ignore[method-assign]
        async with r.db.tx() as tx:
            handles = [await job.enqueue(tx, n=n) for n in range(50)]
        assert inserts == [50]
        assert [h.id for h in handles] == list(range(1, 51))


async def test_the_id_is_known_inside_the_transaction_on_request(tmp_path: Path) -> None:
    job = Job[Any, None]("s", noop)
    async with rig(tmp_path, job) as r:
        async with r.db.tx() as tx:
            handle = await job.enqueue(tx)
            with pytest.raises(QueueError, match="committed"):
                _ = handle.id
            assert await handle.written(tx) == handle.id
        assert (await handle.status()).state == "ready"


async def test_wrong_arguments_are_an_error_at_the_call(tmp_path: Path) -> None:
    job = Job[Any, None]("s", noop)
    async with rig(tmp_path, job) as r:
        with pytest.raises(WrongArguments, match=r"s\.noop"):
            await job.enqueue(r.db, n="many")
        assert await captured(r.queue) == []


async def test_before_its_app_has_started_a_job_can_only_be_called() -> None:
    async def double(n: int) -> int:
        return 2 * n

    job = Job[Any, int]("s", double)
    assert await job(4) == 8
    with pytest.raises(NotBound, match=r"s\.double\.enqueue"):
        await job.enqueue(None, 4)  # type: ignore[arg-type]


async def test_a_failing_job_is_retried_after_its_backoff_then_dead(tmp_path: Path) -> None:
    async def fails() -> None:
        raise ValueError("broken pipe")

    job = Job[Any, None]("s", fails, retry=Retry(attempts=3, base_s=10, jitter=False), result_ttl=60)
    async with rig(tmp_path, job) as r:
        worker = r.worker()
        handle = await job.enqueue(r.db)
        waits = []
        while (await handle.status()).state != "dead":
            began = r.clock.now()
            while not await run_pending(worker):
                await r.clock.advance(1)
            waits.append(r.clock.now() - began)
        assert waits == [0, 10, 20]
        status = await handle.status()
        assert status.attempts == 3
        with pytest.raises(JobFailed, match="broken pipe"):
            await handle.result()


async def test_retry_later_sets_the_time_and_counts_no_attempt(tmp_path: Path) -> None:
    attempts: list[int] = []

    async def busy() -> None:
        attempts.append(current_job().attempt)
        if len(attempts) < 4:
            raise RetryLater(30, "the printer is warming up")

    job = Job[Any, None]("s", busy, retry=Retry(attempts=1))
    async with rig(tmp_path, job) as r:
        handle = await job.enqueue(r.db)
        for _ in range(3):
            await run_pending(r.worker())
            assert (await handle.status()).state == "delayed"
            assert "warming up" in ((await handle.status()).error or "")
            await r.clock.advance(30)
        await run_pending(r.worker())
        assert (await handle.status()).state == "done"
        assert attempts == [1, 1, 1, 1]


async def test_a_run_that_takes_too_long_fails_with_its_name(tmp_path: Path) -> None:
    async def hangs() -> None:
        await asyncio.Event().wait()

    job = Job[Any, None]("s", hangs, timeout=0.02, retry=Retry(attempts=1))
    async with rig(tmp_path, job) as r:
        handle = await job.enqueue(r.db)
        await run_pending(r.worker())
        assert "s.hangs did not end within 0.02 s" in ((await handle.status()).error or "")


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
        await worker.beat()
        await run_pending(worker)
        assert seen == [True]
        assert (await handle.status()).state == "cancelled"


async def test_results_are_kept_for_their_time(tmp_path: Path) -> None:
    async def add(a: int, b: int) -> dict[str, int]:
        return {"sum": a + b}

    job = Job[Any, dict[str, int]]("s", add, result_ttl=60)
    async with rig(tmp_path, job) as r:
        handle = await job.enqueue(r.db, 2, b=3)
        await run_pending(r.worker())
        assert await handle.result() == {"sum": 5}
        assert await job.handle(handle.id).result() == {"sum": 5}
        await r.clock.advance(61)
        with pytest.raises(QueueError, match="removed"):
            await handle.result()


async def test_a_job_without_result_ttl_says_so(tmp_path: Path) -> None:
    job = Job[Any, None]("s", noop)
    async with rig(tmp_path, job) as r:
        with pytest.raises(QueueError, match="result_ttl"):
            await (await job.enqueue(r.db)).result()


async def test_progress_is_kept_by_the_heartbeat_and_with_the_finished_job(tmp_path: Path) -> None:
    gate = asyncio.Event()

    async def steps() -> None:
        await current_job().progress(1, 4, "reading")
        await gate.wait()
        await current_job().progress(4, 4, "done")

    job = Job[Any, None]("s", steps)
    async with rig(tmp_path, job) as r:
        worker = r.worker()
        handle = await job.enqueue(r.db)
        await worker.turn()
        await asyncio.sleep(0)
        await worker.beat()
        progress = (await handle.status()).progress
        assert progress is not None
        assert (progress.done, progress.total, progress.note) == (1, 4, "reading")
        gate.set()
        await run_pending(worker)
        progress = (await handle.status()).progress
        assert progress is not None
        assert progress.note == "done"


async def test_the_senders_context_travels_in_the_row(tmp_path: Path) -> None:
    seen: list[tuple[str, str, str | None]] = []

    async def look(context: Context) -> None:
        assert current() is context
        seen.append((context.trace_id, context.request_id, context.tenant))

    job = Job[Any, None]("s", look)
    async with rig(tmp_path, job) as r:
        with use(Context(trace_id="t1", request_id="r1", tenant="acme")):
            await job.enqueue(r.db)
        await run_pending(r.worker())
        assert seen == [("t1", "r1", "acme")]


mailer_events: list[str] = []


async def mailer(job: JobContext) -> Any:
    mailer_events.append(f"open for {job.name}")
    yield "mailer"
    mailer_events.append("closed")


async def send(to: str, mail: Annotated[str, Depends(mailer)]) -> None:
    mailer_events.append(f"{mail} to {to}")


async def test_dependencies_are_injected_and_cleaned_up(tmp_path: Path) -> None:
    job = Job[Any, None]("s", send)
    mailer_events.clear()
    async with rig(tmp_path, job) as r:
        await job.enqueue(r.db, to="ada")
        await run_pending(r.worker())
    assert mailer_events == ["open for s.send", "mailer to ada", "closed"]


async def test_a_plain_function_runs_in_a_thread_with_its_context(tmp_path: Path) -> None:
    import threading

    seen: list[Any] = []

    def plain(n: int) -> int:
        seen.append((n, current_job().name, threading.current_thread() is threading.main_thread()))
        return n

    job = Job[Any, int]("s", plain, result_ttl=60)
    async with rig(tmp_path, job) as r:
        handle = await job.enqueue(r.db, 3)
        await run_pending(r.worker())
        assert seen == [(3, "s.plain", False)]
        assert await handle.result() == 3


async def test_the_idempotency_key_is_the_same_in_every_attempt_and_no_other_job_has_it(
    tmp_path: Path,
) -> None:
    keys: dict[int, set[str]] = {}

    async def pay(n: int) -> None:
        keys.setdefault(n, set()).add(current_job().idempotency_key)
        if current_job().attempt < 3:
            raise ValueError

    job = Job[Any, None]("s", pay, retry=Retry(base_s=0))
    async with rig(tmp_path, job) as r:
        await job.enqueue_many(r.db, [{"n": 1}, {"n": 2}])
        await run_pending(r.worker())
        assert len(keys[1]) == len(keys[2]) == 1
        assert keys[1] != keys[2]


async def test_current_job_outside_of_a_job_is_a_sentence() -> None:
    with pytest.raises(QueueError, match="outside of a job"):
        current_job()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"concurrency": 0}, "never run"),
        ({"timeout": 0}, "timeout"),
        ({"priority": 10**6}, "out of range"),
        ({"cpu": True}, "top of a module"),
    ],
)
def test_a_job_that_cannot_work_is_refused_at_declaration(options: dict[str, Any], says: str) -> None:
    async def fn() -> None: ...

    with pytest.raises(DeclarationError, match=says):
        Job[Any, None]("s", fn, **options)


async def test_a_job_that_enqueues_itself_for_now_is_named_not_run_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def loop(tx: Tx) -> None:
        await job.enqueue(tx)

    job = Job[Any, None]("s", loop)
    monkeypatch.setattr("tenfold.queue.testing.TURNS_MAX", 20)
    async with rig(tmp_path, job) as r:
        await job.enqueue(r.db)
        with pytest.raises(QueueError, match="enqueue itself"):
            await run_pending(r.worker())
