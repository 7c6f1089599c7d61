"""Cancellation at any moment leaves no open transaction, no half of one, and no wrong answer."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from pathlib import Path

import pytest
import sqlalchemy as sa

from support.orders_db import (
    Order,
    add_order,
    endless,
    opened,
    orders,
    orders_in,
)
from tenfold import errors
from tenfold._core.clock import ManualClock
from tenfold.db import Database

pytestmark = pytest.mark.anyio

pairs = sa.select(orders.c.customer, sa.func.count(), sa.func.sum(orders.c.total)).group_by(orders.c.customer)


async def pair(db: Database, name: str, acknowledged: set[str], rng: random.Random) -> None:
    """Two rows that sum to zero in effect: half of it would show."""
    async with db.tx() as tx:
        await tx.one(add_order, Order, customer=name, total=1)
        if rng.random() < 0.2:
            await asyncio.sleep(0)
        if rng.random() < 0.1:
            await tx.all(sa.text("SELECT 1 -- in the thread " + name))
        await tx.one(add_order, Order, customer=name, total=2)
    acknowledged.add(name)


async def echo(db: Database, n: int) -> None:
    """An answer that belongs to another caller would show."""
    found = await db.read().scalar(sa.text(f"SELECT :n -- {n % 7}"), n=n)
    assert found == n


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_storm_of_cancellations(tmp_path: Path, seed: int) -> None:
    rng, acknowledged, started = random.Random(seed), set[str](), 0
    wrong: list[BaseException] = []
    async with opened(tmp_path) as db:

        async def one(n: int) -> None:
            task = asyncio.create_task(pair(db, f"p{n}", acknowledged, rng) if n % 3 else echo(db, n))
            for _ in range(rng.choice([0, 1, 1, 2, 3, 5])):
                await asyncio.sleep(0)
            if rng.random() < 0.3:
                await asyncio.sleep(rng.random() * 0.002)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                pass
            except BaseException as error:
                wrong.append(error)

        # On a busy machine it hits nearly all of them at first.
        while started < 600 or (len(acknowledged) <= 20 and started < 20_000):
            await asyncio.gather(*(one(n) for n in range(started, started + 25)))
            started += 25
        assert wrong == []
        found = {c: (n, total) for c, n, total in await db.read().all(pairs, tuple)}
        assert {c: v for c, v in found.items() if v != (2, 3)} == {}
        assert acknowledged <= found.keys()
        assert 20 < len(found) < started  # the storm hit some and missed some
        assert db.backend.open_by_task == {}
        async with asyncio.timeout(5), db.tx() as tx:  # the writer is free
            await tx.one(add_order, Order, customer="after")
        assert db.stats()["waiting"] == 0


async def test_a_cancelled_read_stops_the_statement(tmp_path: Path) -> None:
    async with opened(tmp_path, readers=1) as db:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await db.read().scalar(endless)
        async with asyncio.timeout(5):
            assert await orders_in(db) == 0  # the only connection is back


async def test_cancelled_at_commit_the_outcome_is_awaited_and_hooks_run(db: Database) -> None:
    woken: list[int] = []
    entered = asyncio.Event()

    async def place() -> None:
        async with db.tx() as tx:
            await tx.one(add_order, Order, customer="c")
            tx.on_commit(lambda: woken.append(1))
            entered.set()

    task = asyncio.create_task(place())
    await entered.wait()  # its COMMIT is under way or about to be
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await orders_in(db) == len(woken) == 1


async def test_one_who_is_cancelled_in_line_does_not_keep_the_others_waiting(db: Database) -> None:
    taken, release = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        async with db.tx() as tx:
            await tx.one(add_order, Order, customer="holder")
            taken.set()
            await release.wait()

    async def place() -> None:
        async with db.tx() as tx:
            await tx.one(add_order, Order, customer="in line")

    holder = asyncio.create_task(hold())
    await taken.wait()
    line = [asyncio.create_task(place()) for _ in range(6)]
    for _ in range(3):
        await asyncio.sleep(0)
    for task in line[::2]:
        task.cancel()
    release.set()
    line[1].cancel()  # at the moment at which it may be handed the writer
    outcomes = await asyncio.gather(holder, *line, return_exceptions=True)
    assert [type(o) for o in outcomes].count(asyncio.CancelledError) == 4
    assert await orders_in(db) == 3


async def ends_when_cancelled(task: asyncio.Task[None]) -> bool:
    """A cancellation that is swallowed leaves a loop running for ever, and whoever stops it waiting."""
    task.cancel()
    _, running = await asyncio.wait([task], timeout=5)
    return not running and task.cancelled()


async def test_a_cancellation_while_it_commits_for_its_neighbours_goes_on(db: Database) -> None:
    for _ in range(5):
        await db.transact(lambda tx: tx.one(add_order, Order, customer="warm"))

    async def slow(n: int) -> None:
        async with db.tx() as tx:
            await tx.all(sa.text(f"SELECT 1 -- a new statement {n}, so in the thread and alone"))

    for n in range(20):
        neighbour = asyncio.create_task(pair(db, f"n{n}", set(), random.Random(3)))
        task = asyncio.create_task(slow(n))
        for _ in range(2):
            await asyncio.sleep(0)
        assert await ends_when_cancelled(task)
        await neighbour


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_a_loop_that_is_cancelled_anywhere_ends(db: Database, seed: int) -> None:
    rng = random.Random(seed)

    async def loop() -> None:
        n = 0
        while True:
            n += 1
            with suppress(Exception):
                async with db.tx() as tx:
                    await tx.one(add_order, Order, customer="loop")
                    with suppress(ZeroDivisionError):
                        async with tx.savepoint():
                            await tx.all(sa.text(f"SELECT {n} -- {seed} in the thread"))
                            raise ZeroDivisionError
                    async with tx.savepoint():
                        await tx.all(sa.text(f"SELECT {n} -- {seed} again"))

    for _ in range(25):
        tasks = [asyncio.create_task(loop()) for _ in range(3)]
        await asyncio.sleep(rng.random() * 0.006)
        assert all(await asyncio.gather(*map(ends_when_cancelled, tasks)))


async def test_waiting_for_the_writer_ends_also_when_the_clock_stands_still(tmp_path: Path) -> None:
    async with opened(tmp_path, clock=ManualClock(), lock_timeout_s=0.05) as db, db.tx() as tx:
        await tx.one(add_order, Order, customer="holder")

        async def place() -> None:
            async with db.tx() as other:
                await other.one(add_order, Order, customer="waits")

        with pytest.raises(errors.DatabaseUnavailable, match="was not free"):
            async with asyncio.timeout(5):
                await asyncio.create_task(place())
