"""Schedules run once per tick, whoever and how many look at them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from support.queues import Rig, add_effect, rig
from tenfold.db import Tx
from tenfold.errors import DeclarationError
from tenfold.queue.testing import run_pending
from tenfold.schedules import Schedule, Tick, Ticker
from tenfold.schedules.admin import schedules

pytestmark = pytest.mark.anyio


async def report(tick: Tick, tx: Tx) -> None:
    await tx.execute(add_effect, what=f"{tick.at:%d %H:%M}")


async def pass_time(r: Rig, seconds: float, step: float = 60.0) -> None:
    worker = r.worker()
    for _ in range(int(seconds / step)):
        await r.clock.advance(step)
        await run_pending(worker)


def from_midnight(r: Rig) -> None:
    """Set the clock to the start of 2026-05-05."""
    r.clock.jump(datetime(2026, 5, 5, tzinfo=UTC).timestamp() - r.clock.now())


async def test_a_schedule_runs_at_its_ticks(tmp_path: Path) -> None:
    async with rig(tmp_path, Schedule("s", report, "0 */6 * * *")) as r:
        from_midnight(r)
        await run_pending(r.worker())
        await pass_time(r, 86_400, step=1800)
        assert await r.did() == ["05 06:00", "05 12:00", "05 18:00", "06 00:00"]


async def test_many_instances_make_each_tick_once(tmp_path: Path) -> None:
    schedule = Schedule("s", report, timedelta(minutes=1))
    async with rig(tmp_path, schedule) as r:
        from_midnight(r)
        workers = [r.worker() for _ in range(8)]
        for worker in workers:
            worker._claimer._sources = (Ticker([schedule], r.queue),)
        for _ in range(11):
            await asyncio.gather(*(run_pending(worker) for worker in workers))
            await r.clock.advance(60)
        assert await r.did() == [f"05 00:{minute:02}" for minute in range(1, 11)]


async def test_instances_with_wrong_clocks_make_each_tick_once(tmp_path: Path) -> None:
    schedule = Schedule("s", report, 60)
    async with rig(tmp_path, schedule) as r:
        from_midnight(r)
        tickers = [Ticker([schedule], r.queue) for _ in range(3)]
        for minute in range(20):
            for skew, ticker in zip((0, 300, -300), tickers, strict=True):
                async with r.db.tx() as tx:
                    await ticker.feed(tx, r.clock.now() + minute * 60 + skew)
        await run_pending(r.worker())
        did = await r.did()
        assert len(did) == len(set(did)) > 15


@pytest.mark.parametrize(
    ("missed", "expected"),
    [("once", ["05 05:00"]), ("all", [f"05 0{h}:00" for h in range(1, 6)]), ("skip", [])],
)
async def test_missed_ticks_follow_the_policy(tmp_path: Path, missed: Any, expected: list[str]) -> None:
    async with rig(tmp_path, Schedule("s", report, 3600, missed=missed)) as r:
        from_midnight(r)
        await run_pending(r.worker())
        await r.clock.advance(5 * 3600 + 1800)  # nobody there
        await run_pending(r.worker())
        assert await r.did() == expected
        await pass_time(r, 3600, step=1800)
        assert (await r.did())[len(expected) :] == ["05 06:00"]


async def test_a_changed_schedule_waits_for_its_next_tick_under_the_new_rule(tmp_path: Path) -> None:
    async with rig(tmp_path, Schedule("s", report, "0 4 * * *")) as r:
        from_midnight(r)
        await run_pending(r.worker())
        changed = Ticker([Schedule("s", report, "0 2 * * *")], r.queue)
        async with r.db.tx() as tx:
            await changed.feed(tx, r.clock.now())
        assert changed.next_at == r.clock.now() + 60.0  # it looks again within a minute
        for _ in range(5):
            await r.clock.advance(3600)
            async with r.db.tx() as tx:
                await changed.feed(tx, r.clock.now())
        await run_pending(_without_ticker(r))
        assert await r.did() == ["05 02:00"]


def _without_ticker(r: Rig) -> Any:
    worker = r.worker()
    worker._claimer._sources = ()
    return worker


async def test_an_instance_without_the_schedule_leaves_its_row_alone(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        await run_pending(r.worker())
        assert r.ticker.next_at == float("inf")


@pytest.mark.parametrize(
    ("when", "options", "says"),
    [
        ("nonsense", {}, "1 fields"),
        ("0 3 * * *", {"timezone": "Mars"}, "Mars"),
        (60, {"missed": "maybe"}, "maybe"),
        (0.1, {}, "1 second"),
    ],
)
def test_a_schedule_that_cannot_work_is_refused_at_declaration(when: Any, options: Any, says: str) -> None:
    with pytest.raises(DeclarationError, match=says) as caught:
        Schedule("s", report, when, **options)
    assert "s.report" in str(caught.value)


async def test_a_parameter_nobody_provides_is_refused_at_start(tmp_path: Path) -> None:
    async def wants(day: int) -> None: ...

    with pytest.raises(DeclarationError, match="day"):
        async with rig(tmp_path, Schedule("s", wants, 60)):
            pass


@pytest.mark.parametrize(("missed", "count"), [("once", 2), ("skip", 3), ("all", 0)])
async def test_what_nobody_was_there_for_is_shown(tmp_path: Path, missed: Any, count: int) -> None:
    schedule = Schedule("s", report, 3600, missed=missed)
    async with rig(tmp_path, schedule) as r:
        from_midnight(r)
        await run_pending(r.worker())
        r.clock.jump(3 * 3600 + 600)
        await run_pending(r.worker())
        (info,) = await schedules(r.db, [schedule])
        assert (info.name, info.missed, info.policy) == ("s.report", count, missed)
        assert info.next_at == r.clock.now() - 600 + 3600
        assert info.last_at == (None if missed == "skip" else info.next_at - 3600)
        assert info.missed_at == (r.clock.now() if count else None)
