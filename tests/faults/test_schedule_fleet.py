"""Many instances on one server: each tick of a schedule fires once."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from support.queues import add_effect, rig
from support.trials import Trials, soak
from tenfold._core.clock import ManualClock
from tenfold.db import Tx
from tenfold.queue.testing import run_pending
from tenfold.schedules import Schedule, Tick, Ticker

pytestmark = pytest.mark.anyio

INSTANCES = 8


async def report(tick: Tick, tx: Tx) -> None:
    await tx.execute(add_effect, what=f"{tick.at:%d %H:%M}")


async def fired(folder: Path, url: str, minutes: int) -> list[str]:
    """What the ticks of ``minutes`` wrote, each instance with a pool of connections of its own."""
    clock = ManualClock()
    clock.jump(datetime(2026, 5, 5, tzinfo=UTC).timestamp() - clock.now())
    async with AsyncExitStack() as stack:
        workers = []
        for i in range(INSTANCES):
            r = await stack.enter_async_context(
                rig(folder, Schedule("s", report, 60), clock=clock, database=url, make=i == 0)
            )
            workers.append(r.worker())
        for _ in range(minutes + 1):
            await asyncio.gather(*(run_pending(worker) for worker in workers))
            await clock.advance(60)
        return sorted(await r.did())


def minutes_of(n: int) -> list[str]:
    return [f"05 {minute // 60:02}:{minute % 60:02}" for minute in range(1, n + 1)]


async def test_each_tick_fires_once(server_database: str, tmp_path: Path, trials: Trials) -> None:
    assert await fired(tmp_path, server_database, 10) == minutes_of(10)
    trials("G9", 10, server_database)


@pytest.mark.soak
async def test_each_of_many_ticks_fires_once(server_database: str, tmp_path: Path, trials: Trials) -> None:
    n = soak(1_400)
    assert await fired(tmp_path, server_database, n) == minutes_of(n)
    trials("G9", n, server_database)


async def test_instances_that_do_not_look_whether_the_row_has_moved_are_found_out(
    server_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each puts the tick in, whoever moved the row; the key of the tick, which would catch it too, is off."""

    async def tick(self: Any, tx: Tx, schedule: Schedule, now: float) -> float:
        at = now - now % 60
        message = self._queue.message("tick", schedule.name, f'{{"at":{at!r}}}', queue=schedule.queue)
        self._queue.put_all(tx, [message])
        return at + 60

    monkeypatch.setattr(Ticker, "_tick", tick)
    found = await fired(tmp_path, server_database, 2)
    assert len(found) > len(set(found))
