"""What is fast runs on the event loop, what is not in a thread, and nothing stays where it does not belong."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa

from support.orders_db import Order, add_order, opened, order_by_id, orders
from tenfold.db import Database
from tenfold.db.backends._sqlite_link import Lane
from tenfold.db.pace import ALARM_S, INLINE_MAX_S, PROBATION_RUNS, Pace
from tenfold.errors import DatabaseUnavailable

FAST, SLOW = 0.000_02, 0.05


def proved() -> Pace:
    pace = Pace()
    for _ in range(PROBATION_RUNS):
        pace.ran_in_thread(FAST)
    return pace


def test_a_statement_proves_itself_in_the_thread_first() -> None:
    pace = Pace()
    for _ in range(PROBATION_RUNS - 1):
        pace.ran_in_thread(FAST)
        assert not pace.inline
    pace.ran_in_thread(FAST)
    assert pace.inline


def test_a_slow_statement_stays_in_the_thread() -> None:
    pace = Pace()
    for _ in range(50):
        pace.ran_in_thread(SLOW)
    assert not pace.inline


def test_first_runs_that_were_preempted_do_not_condemn_a_fast_statement() -> None:
    pace = Pace()
    for took_s in (SLOW, FAST, SLOW):
        pace.ran_in_thread(took_s)
    assert pace.inline


def test_one_slow_run_inline_is_forgiven_and_several_are_not() -> None:
    pace = proved()
    assert not pace.ran_long(SLOW)
    assert pace.inline
    assert any(pace.ran_long(SLOW) for _ in range(5))
    assert not pace.inline


def test_a_demoted_statement_can_come_back() -> None:
    pace = proved()
    while not pace.ran_long(SLOW):
        pass
    for _ in range(100):
        pace.ran_in_thread(FAST)
    assert pace.inline


def test_every_abort_doubles_the_probation() -> None:
    pace = proved()
    for times in range(1, 4):
        pace.aborted()
        assert not pace.inline
        runs = 0
        while not pace.inline:
            pace.ran_in_thread(FAST)
            runs += 1
        assert runs == PROBATION_RUNS * 2**times


def test_many_executions_at_once_count_per_execution() -> None:
    pace = Pace()
    for _ in range(PROBATION_RUNS):
        pace.ran_in_thread(FAST * 10_000, 10_000)
    assert pace.inline
    assert FAST * 10_000 > ALARM_S > INLINE_MAX_S


@pytest.mark.anyio
async def test_a_statement_moves_to_the_event_loop_after_its_probation(db: Database) -> None:
    async with db.tx() as tx:
        await tx.one(add_order, Order, customer="c")
    before = db.stats()
    for _ in range(PROBATION_RUNS + 10):
        await db.read().one(order_by_id, Order, id=1)
    after = db.stats()
    assert after["inline"] - before["inline"] >= 5
    assert after["threaded"] - before["threaded"] >= PROBATION_RUNS


@pytest.mark.anyio
async def test_a_read_that_is_suddenly_slow_is_stopped_and_answered_from_a_thread(db: Database) -> None:
    """The loop is held for a few milliseconds at most, and the caller gets the whole answer."""
    counted = sa.text(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :up_to) SELECT count(*) FROM n"
    )
    for _ in range(PROBATION_RUNS + 30):
        await db.read().scalar(counted, up_to=2)
    before, ticks = db.stats(), 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0)
            ticks += 1

    ticker = asyncio.create_task(tick())
    await asyncio.sleep(0)
    at_start = ticks
    assert await db.read().scalar(counted, up_to=500_000) == 500_000
    ticker.cancel()
    after = db.stats()
    assert after["demotions"] == before["demotions"] + 1
    assert after["threaded"] == before["threaded"] + 1
    assert ticks > at_start + 10  # other work went on meanwhile


@pytest.mark.anyio
async def test_a_long_list_of_parameters_goes_to_the_thread_even_for_a_fast_statement(tmp_path: Path) -> None:
    async with opened(tmp_path) as db:
        insert = sa.insert(orders)
        for n in range(PROBATION_RUNS + 20):
            async with db.tx() as tx:
                await tx.execute(insert, {"customer": "c", "total": n})
        before = db.stats()["threaded"]
        async with db.tx() as tx:
            await tx.execute(insert, [{"customer": "c", "total": n} for n in range(5_000)])
        assert db.stats()["threaded"] == before + 1


async def test_what_comes_while_a_lane_ends_is_told_so() -> None:
    """An app that stops closes its connections in a thread, while requests that nobody waited for still read."""
    lane, held, let_go = Lane("test"), threading.Event(), threading.Event()

    def work() -> str:
        held.set()
        let_go.wait(10)
        return "done"

    before = lane.submit(work)
    await asyncio.to_thread(held.wait, 10)
    stopping = asyncio.create_task(asyncio.to_thread(lane.stop))
    behind: asyncio.Future[None]
    for _ in range(1_000):
        behind = lane.submit(lambda: None)
        if behind.done():
            break
        await asyncio.sleep(0.001)
    let_go.set()
    with pytest.raises(DatabaseUnavailable, match="closed"):
        await asyncio.wait_for(behind, 5)
    assert await before == "done"
    await stopping
    with pytest.raises(DatabaseUnavailable, match="closed"):
        await lane.submit(lambda: None)
