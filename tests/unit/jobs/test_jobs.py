"""Jobs: enqueued in a transaction, run after it, retried, cancelled, unique, limited, in order."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import pytest

from support.queues import add_effect, rig
from tenfold._core.container import Depends
from tenfold._core.context import Context, current, use
from tenfold.db import Tx
from tenfold.errors import (
    DeclarationError,
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


async def test_a_forgotten_transaction_is_said_to_be_missing(tmp_path: Path) -> None:
    job = Job[Any, None]("s", noop)
    async with rig(tmp_path, job) as r:
        with pytest.raises(WrongArguments, match=r"takes a transaction .* not int"):
            await job.enqueue(1)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
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
        await worker.keeper.beat()
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
