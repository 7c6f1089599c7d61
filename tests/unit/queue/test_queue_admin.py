"""What people do with the queue: count, list, retry, discard, look."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from support.queues import add_effect, effects, rig
from tenfold.db import Tx
from tenfold.errors import NotFound, QueueError
from tenfold.jobs import Job, Retry
from tenfold.queue.admin import Filter
from tenfold.queue.testing import captured, run_pending

pytestmark = pytest.mark.anyio


async def write(what: str, tx: Tx) -> None:
    await tx.execute(add_effect, what=what)


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
        assert await admin.retry_all(Filter(state="dead")) == 1
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
        assert await r.admin.retry_all(Filter(state="dead")) == 0


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
