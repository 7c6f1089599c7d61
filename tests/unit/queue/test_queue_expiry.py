"""Jobs and events with a deadline: not begun after it, stopped at it, and shown as expired with the reason."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from support.queues import add_effect, rig
from tenfold._core.clock import SystemClock
from tenfold._core.context import Context, current, use
from tenfold.db import Tx
from tenfold.errors import JobCancelled, RetryLater, WrongArguments
from tenfold.events import Subscription, Topic
from tenfold.events.envelope import attributes_of, context_of
from tenfold.jobs import Job
from tenfold.queue.expiry import expired, moment_of, until_of, wire_of
from tenfold.queue.testing import captured, run_pending

pytestmark = pytest.mark.anyio


class Placed(msgspec.Struct):
    order: int


async def write(what: str, tx: Tx) -> None:
    await tx.execute(add_effect, what=what)


async def test_a_job_is_not_begun_after_its_deadline_and_says_that_it_expired(tmp_path: Path) -> None:
    job = Job[Any, None]("s", write, result_ttl=60)
    async with rig(tmp_path, job) as r:
        late = await job.options(deadline=30).enqueue(r.db, what="late")
        other = await job.enqueue(r.db, what="no deadline")
        await r.clock.advance(30)
        in_time = await job.options(deadline=timedelta(seconds=30)).enqueue(r.db, what="in time")
        await run_pending(r.worker())
        assert await r.did() == ["no deadline", "in time"]
        assert [(await h.status()).state for h in (late, other, in_time)] == ["cancelled", "done", "done"]
        assert (await late.status()).error == (
            "expired: its deadline 2023-11-14T22:13:50.000Z passed before it was begun"
        )
        with pytest.raises(JobCancelled, match="expired: its deadline"):
            await late.result()


async def test_a_run_is_stopped_at_the_deadline_of_its_job_and_not_tried_again(tmp_path: Path) -> None:
    ended: list[str] = []

    async def slow() -> None:
        try:
            await asyncio.sleep(30)
        finally:
            ended.append("stopped")

    job = Job[Any, None]("s", slow)
    async with rig(tmp_path, job, clock=SystemClock()) as r:
        handle = await job.options(deadline=0.15).enqueue(r.db)
        worker = r.worker()
        await run_pending(worker)
        status = await handle.status()
        assert (status.state, ended) == ("cancelled", ["stopped"])
        assert (status.error or "").endswith("passed while it ran")


async def test_the_work_of_a_job_has_the_nearer_of_its_two_ends(tmp_path: Path) -> None:
    seen: list[float | None] = []

    async def look() -> None:
        seen.append(current().deadline)

    job = Job[Any, None]("s", look, timeout=60.0)
    async with rig(tmp_path, job) as r:
        for deadline in (20.0, 90.0):
            await job.options(deadline=deadline).enqueue(r.db)
        await run_pending(r.worker())
        assert seen == [pytest.approx(20.0), pytest.approx(60.0)]


async def test_a_retry_that_would_come_too_late_is_not_begun(tmp_path: Path) -> None:
    runs: list[int] = []

    async def busy() -> None:
        runs.append(1)
        raise RetryLater(60)

    job = Job[Any, None]("s", busy)
    async with rig(tmp_path, job) as r:
        handle = await job.options(deadline=30).enqueue(r.db)
        worker = r.worker()
        await run_pending(worker)
        await r.clock.advance(60)
        await run_pending(worker)
        assert ((await handle.status()).state, runs) == ("cancelled", [1])


async def test_a_job_does_not_inherit_the_deadline_of_whoever_enqueues_it(tmp_path: Path) -> None:
    job = Job[Any, None]("s", write)
    async with rig(tmp_path, job) as r:
        with use(Context(deadline=1.0, tenant="acme")):
            await job.enqueue(r.db, what="sent")
        (info,) = await captured(r.queue)
        assert (until_of(info.context), info.tenant) == (None, "acme")
        await r.clock.advance(3600)
        await run_pending(r.worker())
        assert await r.did() == ["sent"]


@pytest.mark.parametrize(
    "deadline",
    [0, -1, float("nan"), float("inf"), 1e15, datetime(2020, 1, 1, tzinfo=UTC), datetime(2090, 1, 1)],
)
async def test_a_deadline_that_has_passed_or_is_no_time_is_refused(tmp_path: Path, deadline: Any) -> None:
    job = Job[Any, None]("s", write)
    topic = Topic("orders", "placed", Placed)
    async with rig(tmp_path, job, *took(topic)) as r:
        with pytest.raises(WrongArguments, match="its deadline"):
            await job.options(deadline=deadline).enqueue(r.db, what="")
        async with r.db.tx() as tx:
            with pytest.raises(WrongArguments, match="its deadline"):
                await topic.publish(tx, Placed(1), deadline=deadline)


async def test_a_job_that_is_due_after_its_deadline_is_refused(tmp_path: Path) -> None:
    job = Job[Any, None]("s", write)
    async with rig(tmp_path, job) as r:
        with pytest.raises(WrongArguments, match="not after the time at which it is to run"):
            await job.options(delay=60, deadline=60).enqueue(r.db, what="")
        with pytest.raises(WrongArguments, match=r"deadline=… is enqueued by itself"):
            job.options(deadline=60).call(what="")


def took(topic: Topic[Placed]) -> list[Subscription]:
    async def handle(event: Placed, tx: Tx) -> None:
        await tx.execute(add_effect, what=f"order {event.order}")

    return [Subscription("stock", topic, handle)]


async def test_an_event_is_not_handled_after_its_deadline(tmp_path: Path) -> None:
    topic = Topic("orders", "placed", Placed)
    async with rig(tmp_path, *took(topic)) as r:
        async with r.db.tx() as tx:
            await topic.publish(tx, Placed(1), deadline=10)
            await topic.publish(tx, Placed(2))
        await r.clock.advance(10)
        await run_pending(r.worker())
        assert await r.did() == ["order 2"]
        (gone,) = await r.admin.list(state="cancelled")
        assert (gone.error or "").startswith("expired: its deadline 2023-11-14T22:13:30.000Z passed before")


def test_through_a_broker_the_deadline_travels_as_the_extension_for_it() -> None:
    context = wire_of(Context(tenant="acme"), 1_700_000_000.5)
    attributes = attributes_of(
        app="shop",
        topic="orders.placed",
        version=1,
        event_id="1",
        key=None,
        published_at=1.0,
        context=context,
    )
    assert attributes["expirytime"] == "2023-11-14T22:13:20.500000Z"
    assert until_of(context_of(attributes)) == 1_700_000_000.5
    assert until_of(context_of({"expirytime": "tomorrow", "tenant": "acme"})) is None


def test_what_a_context_says_of_a_deadline() -> None:
    assert wire_of(Context(), None) is None
    assert until_of(None) is None
    assert until_of('{"tenant":"\\"until\\":5"}') is None
    assert until_of('{"until":"soon"}') is None
    assert moment_of(2, 10.0, "x") == 12.0
    assert expired(0.0, True) == "expired: its deadline 1970-01-01T00:00:00.000Z passed while it ran"


@pytest.mark.parametrize(
    ("key", "why"),
    [("k" * 511, "has 515 characters"), ("a\0b", "has a NUL"), ("\ud800", "half a surrogate pair")],
)
async def test_a_key_that_no_column_holds_is_refused_where_it_is_said(
    tmp_path: Path, key: str, why: str
) -> None:
    """And not at the commit, which would take everything else of the transaction along."""

    def unique(what: str) -> str:
        return key

    job = Job[Any, None]("s", write, name="w")
    async with rig(tmp_path, job) as r:
        with pytest.raises(WrongArguments, match=why):
            job.options(key=key)
        async with r.db.tx() as tx:
            with pytest.raises(WrongArguments, match=why):
                await job.options(unique=unique).enqueue(tx, what="")
            await job.options(key="k" * 400).enqueue(tx, what="kept")
        await run_pending(r.worker())
        assert await r.did() == ["kept"]


async def test_the_reason_of_a_cancellation_is_kept(tmp_path: Path) -> None:
    job = Job[Any, None]("s", write)
    async with rig(tmp_path, job) as r:
        handle = await job.enqueue(r.db, what="")
        with use(Context(operation="orders.withdraw")):
            assert await handle.cancel(reason="the order was withdrawn")
        assert (
            await handle.status()
        ).error == "cancelled by orders.withdraw: the order was withdrawn, before it ran"
