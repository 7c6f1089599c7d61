"""What one worker leaves to other code, other queues, or another turn."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from support.queues import add_effect, rig
from tenfold._core.clock import ManualClock
from tenfold.db import Tx
from tenfold.jobs import Job
from tenfold.queue.keeper import ADOPT_S
from tenfold.queue.tables import message
from tenfold.queue.testing import run_pending
from tenfold.schedules import Schedule

pytestmark = pytest.mark.anyio


async def write(what: str, tx: Tx) -> None:
    await tx.execute(add_effect, what=what)


async def noop() -> None: ...


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
    running, most = 0, 0

    async def busy() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1

    job, limited = Job[Any, None]("s", busy), Job[Any, None]("s", busy, concurrency=1)
    async with rig(tmp_path, job) as r:
        await job.enqueue_many(r.db, [{}] * 5)
        handler = limited.bind(r.queues, r.container, r.db)
        await run_pending(r.worker(handlers={handler.name: handler}))
        assert most == 1
        assert set((await r.states()).values()) == {"done"}


async def test_a_tick_whose_transaction_failed_is_made_by_the_next_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks: list[str] = []

    async def hourly() -> None:
        ticks.append("tick")

    async with rig(tmp_path, Schedule("s", hourly, 3600)) as r:
        worker = r.worker()
        await run_pending(worker)
        await r.clock.advance(3600)
        with monkeypatch.context() as patch:
            patch.setattr(r.queue.backend, "claim", None)  # the turn fails after the ticker has fed
            await worker.poll()
            with pytest.raises(TypeError):
                await worker.turn()
        await run_pending(worker)
        assert ticks == ["tick"]


async def test_a_worker_may_serve_some_queues_only(tmp_path: Path) -> None:
    job = Job[Any, None]("s", write)
    async with rig(tmp_path, job) as r:
        await job.enqueue(r.db, "default")
        await job.options(queue="slow").enqueue(r.db, "slow")
        await run_pending(r.worker(queues=["slow"]))
        assert await r.did() == ["slow"]


async def test_what_older_code_parks_is_taken_up_by_a_worker_that_has_started_before(tmp_path: Path) -> None:
    """In a rolling deploy, old workers go on to claim while the new ones are there already."""
    clock = ManualClock()
    job = Job[Any, None]("s", write)
    async with rig(tmp_path, job, clock=clock) as r:
        new = r.worker()
        await new.start()
        async with r.db.tx() as tx:
            handle = await job.enqueue(tx, "later")
            await handle.written(tx)
            await tx.execute(sa.update(message).values(state="parked"))
        await clock.advance(ADOPT_S - 1)
        assert await r.did() == []
        await clock.advance(1)
        async with asyncio.timeout(10):
            while not await r.did():
                await clock.advance(0.01)  # of a second each time, the lease would run out on a busy machine
        await new.stop()
        assert await r.did() == ["later"]


async def test_what_does_not_fit_this_code_is_left_to_other_code(tmp_path: Path) -> None:
    """Taken up again and again, it would only be parked again and again."""

    async def fn(order: int) -> None: ...

    async def changed(order: int, customer: int) -> None: ...

    before, after = Job[Any, None]("s", fn, name="send"), Job[Any, None]("s", changed, name="send")
    async with rig(tmp_path, before) as r:
        handle = await before.enqueue(r.db, order=1)
        handler = after.bind(r.queues, r.container, r.db)
        worker = r.worker(handlers={handler.name: handler})
        await run_pending(worker)
        assert await worker.adopt() == 0
        assert (await handle.status()).state == "parked"
