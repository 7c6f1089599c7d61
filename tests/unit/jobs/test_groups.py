"""Batches, chains, groups, and flows that wait for other jobs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from support.queue_fire import until
from support.queues import add_effect, rig
from tenfold import BatchStatus, Flow, batch, chain, group
from tenfold._core.container import injected
from tenfold.db import Tx
from tenfold.errors import CallsFailed, JobFailed, NotFound, WrongArguments
from tenfold.jobs import Job, Retry
from tenfold.queue.testing import captured, run_pending

if TYPE_CHECKING:
    from tenfold.http.request import Request

pytestmark = pytest.mark.anyio

NEVER = Retry(attempts=1)
broken: set[int] = set()


async def double(n: int) -> int:
    if n in broken:
        raise ValueError(f"{n} is broken")
    return 2 * n


async def add(numbers: list[int], more: int = 0) -> int:
    return sum(numbers) + more


async def told(status: BatchStatus, word: str, tx: Tx = injected()) -> None:
    await tx.execute(add_effect, what=f"{word}: {status.done} done, {status.failed} failed of {status.total}")


def jobs() -> tuple[Job[Any, int], Job[Any, int], Job[Any, None]]:
    broken.clear()
    return Job("s", double, retry=NEVER), Job("s", add), Job("s", told)


async def test_a_batch_ends_once_when_its_last_member_does(tmp_path: Path) -> None:
    doubled, _, tell = jobs()
    async with rig(tmp_path, doubled, tell) as r:
        worker = r.worker()
        async with (
            r.db.tx() as tx,
            batch(tx, on_done=tell.after(word="well"), on_failed=tell.after(word="ill")) as b,
        ):
            await b.add(doubled, 1)
            await b.add_many(doubled, [{"n": n} for n in range(50)])
        assert (await b.handle.status()).pending == 51
        await run_pending(worker)
        assert await r.did() == ["well: 51 done, 0 failed of 51"]
        status = await doubled.batch(b.handle.id).status()
        assert (status.state, status.done, status.failed, status.pending) == ("done", 51, 0, 0)


async def test_the_end_of_a_batch_is_told_as_a_server_sent_event(tmp_path: Path) -> None:
    doubled, *_ = jobs()
    async with rig(tmp_path, doubled) as r:
        worker = r.worker()
        async with r.db.tx() as tx, batch(tx) as b:
            await b.add_many(doubled, [{"n": n} for n in range(3)])
        await run_pending(worker)
        [last] = [chunk async for chunk in b.handle.stream().chunks(cast("Request", None))]
    assert last.startswith(b"event: done")
    assert b'"done":3' in last


async def test_a_batch_with_a_dead_member_ends_by_the_other_way(tmp_path: Path) -> None:
    doubled, _, tell = jobs()
    broken.add(3)
    async with rig(tmp_path, doubled, tell) as r:
        async with (
            r.db.tx() as tx,
            batch(tx, on_done=tell.after(word="well"), on_failed=tell.after(word="ill")) as b,
        ):
            await b.add_many(doubled, [{"n": n} for n in range(5)])
        await run_pending(r.worker())
        assert await r.did() == ["ill: 4 done, 1 failed of 5"]
        assert (await b.handle.status()).state == "failed"


async def test_a_batch_that_is_rolled_back_never_was(tmp_path: Path) -> None:
    doubled, _, tell = jobs()
    async with rig(tmp_path, doubled, tell) as r:
        with pytest.raises(ValueError, match="no"):
            async with r.db.tx() as tx, batch(tx, on_done=tell.after(word="well")) as b:
                await b.add(doubled, 1)
                raise ValueError("no")
        assert await captured(r.queue) == []
        with pytest.raises(NotFound, match="batch"):
            await b.handle.status()


async def test_a_batch_without_members_is_done_at_once(tmp_path: Path) -> None:
    doubled, _, tell = jobs()
    async with rig(tmp_path, doubled, tell) as r:
        async with r.db.tx() as tx, batch(tx, on_done=tell.after(word="well")):
            pass
        await run_pending(r.worker())
        assert await r.did() == ["well: 0 done, 0 failed of 0"]


async def test_the_end_of_a_batch_is_found_though_nobody_told_of_it(tmp_path: Path) -> None:
    doubled, _, tell = jobs()
    async with rig(tmp_path, doubled, tell) as r:
        async with r.db.tx() as tx, batch(tx, on_done=tell.after(word="well")) as b:
            await b.add_many(doubled, [{"n": n} for n in range(5)])
        deaf = r.worker()
        deaf.runs._ended = None
        await run_pending(deaf)
        assert await r.did() == []
        await r.clock.advance(5)
        await run_pending(r.worker())
        assert await r.did() == ["well: 5 done, 0 failed of 5"]


async def test_a_cancelled_batch_ends_by_the_other_way(tmp_path: Path) -> None:
    doubled, _, tell = jobs()
    async with rig(tmp_path, doubled, tell) as r:
        async with (
            r.db.tx() as tx,
            batch(tx, on_done=tell.after(word="well"), on_failed=tell.after(word="ill")) as b,
        ):
            await b.add_many(doubled, [{"n": n} for n in range(1200)])
        assert await b.handle.cancel() == 1200
        await run_pending(r.worker())
        assert await r.did() == ["ill: 0 done, 1200 failed of 1200"]


async def test_a_batch_is_followed_to_its_end(tmp_path: Path) -> None:
    doubled, _, _ = jobs()
    async with rig(tmp_path, doubled) as r:
        async with r.db.tx() as tx, batch(tx) as b:
            await b.add_many(doubled, [{"n": n} for n in range(3)])
        seen: list[int] = []

        async def follow() -> None:
            async for status in b.handle.watch():
                seen.append(status.done)

        following = asyncio.create_task(follow())
        assert await until(lambda: seen)
        await run_pending(r.worker())

        async def done() -> bool:
            await r.clock.advance(1)
            return following.done()

        assert await until(done)
        assert (seen[0], seen[-1]) == (0, 3)


async def test_results_go_along_a_chain(tmp_path: Path) -> None:
    doubled, _, _ = jobs()
    async with rig(tmp_path, doubled) as r:
        made = chain(doubled.call(1), doubled, doubled)
        handle = await made.enqueue(r.db)
        await run_pending(r.worker())
        assert await handle.result() == 8


async def test_a_group_hands_on_all_results_in_order(tmp_path: Path) -> None:
    doubled, added, _ = jobs()
    async with rig(tmp_path, doubled, added) as r:
        async with r.db.tx() as tx:
            work = group([doubled.call(n) for n in range(10)]).then(added.after(more=5)).then(doubled)
            handle = await work.enqueue(tx)
        await run_pending(r.worker())
        assert await handle.result() == 2 * (90 + 5)


async def test_compositions_are_members_of_groups(tmp_path: Path) -> None:
    doubled, added, _ = jobs()
    async with rig(tmp_path, doubled, added) as r:
        handle = await group([doubled.call(n).then(doubled) for n in (1, 2)]).then(added).enqueue(r.db)
        await run_pending(r.worker())
        assert await handle.result() == 12


async def test_a_failure_in_a_chain_ends_it_and_a_retry_goes_on_with_what_failed(tmp_path: Path) -> None:
    doubled, added, _ = jobs()
    broken.add(2)
    async with rig(tmp_path, doubled, added) as r:
        worker = r.worker()
        handle = await group([doubled.call(n) for n in (1, 2, 3)]).then(added).enqueue(r.db)
        await run_pending(worker)
        with pytest.raises(
            JobFailed, match=r"1 of 3 jobs of 'stage' failed; s\.double \d is dead: ValueError: 2 is"
        ):
            await handle.result()
        broken.clear()
        ran = worker.runs.counts["claimed"]
        await r.admin.retry(handle.id)
        await run_pending(worker)
        assert await handle.result() == 12
        # the flow twice for the first stage and once more for the second; one member, and the sum
        assert worker.runs.counts["claimed"] - ran == 5


async def test_a_flow_waits_for_jobs_without_a_worker(tmp_path: Path) -> None:
    doubled, _, _ = jobs()

    async def flow(flow: Flow = injected()) -> list[int]:
        return [await flow.run(doubled.call(21)), *await flow.run_all([doubled.call(n) for n in range(4)])]

    made = Job[Any, list[int]]("s", flow, result_ttl=60)
    async with rig(tmp_path, doubled, made) as r:
        handle = await made.enqueue(r.db)
        await run_pending(r.worker(settings={"concurrency": 1}))
        assert await handle.result() == [42, 0, 2, 4, 6]


async def test_a_flow_sees_which_jobs_failed(tmp_path: Path) -> None:
    doubled, _, _ = jobs()
    broken.update((1, 3))

    async def flow(flow: Flow = injected()) -> list[Any]:
        try:
            await flow.run_all([doubled.call(n) for n in range(4)])
        except CallsFailed as error:
            found = sorted(error.failures)
        results = await flow.run_all([doubled.call(n) for n in (0, 1)], return_exceptions=True)
        assert isinstance(results[1], CallsFailed)
        return [*found, results[0]]

    made = Job[Any, list[Any]]("s", flow, result_ttl=60)
    async with rig(tmp_path, doubled, made) as r:
        handle = await made.enqueue(r.db)
        await run_pending(r.worker())
        assert await handle.result() == [1, 3, 0]


async def test_an_open_argument_is_told(tmp_path: Path) -> None:
    doubled, _, _ = jobs()
    async with rig(tmp_path, doubled) as r:
        with pytest.raises(WrongArguments, match="'n' is what comes before it"):
            await doubled.after().enqueue(r.db)
        with pytest.raises(WrongArguments, match="at least one"):
            group([])


async def test_a_unique_job_is_no_call(tmp_path: Path) -> None:
    async def once(n: int) -> None: ...

    made = Job[Any, None]("s", once, unique=True)
    async with rig(tmp_path, made) as r:
        with pytest.raises(WrongArguments, match="unique"):
            made.call(1)
        assert await captured(r.queue) == []
