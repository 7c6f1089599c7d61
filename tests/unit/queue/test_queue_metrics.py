"""What the queue tells Prometheus."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.queues import rig
from tenfold.jobs import Job, Retry
from tenfold.queue.metrics import DepthMetrics, HandledMetrics
from tenfold.queue.testing import run_pending
from tenfold.telemetry import names
from tenfold.telemetry.metrics import Registry

pytestmark = pytest.mark.anyio


async def works() -> None: ...


async def fails() -> None:
    raise ValueError("no")


async def test_every_outcome_is_counted_by_handler(tmp_path: Path) -> None:
    good, bad = Job("test", works), Job("test", fails, retry=Retry(attempts=1))
    registry = Registry()
    async with rig(tmp_path, good, bad) as r:
        await good.enqueue(r.db)
        await good.enqueue(r.db)
        await bad.enqueue(r.db)
        await run_pending(r.worker(observer=HandledMetrics(registry, r.clock)))
    assert registry.value(names.QUEUE_HANDLED, "test.works", "done") == 2
    assert registry.value(names.QUEUE_HANDLED, "test.fails", "dead") == 1


async def test_what_waits_and_what_died_is_shown_with_the_age_of_the_oldest(tmp_path: Path) -> None:
    good, bad = Job("test", works), Job("test", fails, retry=Retry(attempts=1))
    registry = Registry()
    async with rig(tmp_path, good, bad) as r:
        depth = DepthMetrics(registry, r.queue, r.clock)
        await bad.enqueue(r.db)
        await run_pending(r.worker())
        await good.enqueue(r.db)
        await good.options(delay=60).enqueue(r.db)
        await r.clock.advance(7)
        await depth.look()
    shown = {family.name: family.samples for family in registry.collect()}
    depth_by_state = {sample.labels["state"]: sample.value for sample in shown[names.QUEUE_MESSAGES]}
    assert depth_by_state == {"ready": 1, "delayed": 1, "dead": 1}
    assert shown[names.QUEUE_OLDEST][0].value == 7
