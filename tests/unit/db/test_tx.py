"""Transactions: whole or not at all, isolated from their commit group, and hard to misuse."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest
import sqlalchemy as sa

from support.orders_db import Order, add_order, count_orders, lines, orders, orders_in
from tenfold import errors
from tenfold.db import Database
from tenfold.db.backends.sqlite import Backend

pytestmark = pytest.mark.anyio


async def test_what_defines_a_table_changes_no_rows(db: Database) -> None:
    async with db.tx() as tx:
        assert await tx.execute(sa.text("CREATE TABLE extra (id INTEGER)")) == 0


async def test_the_writer_syncs_every_commit(db: Database) -> None:
    assert isinstance(db.backend, Backend)
    async with db.tx() as tx:
        assert await tx.scalar(sa.text("PRAGMA synchronous")) == 2
        assert await tx.scalar(sa.text("PRAGMA journal_mode")) == "wal"
        assert await tx.scalar(sa.text("PRAGMA foreign_keys")) == 1


async def test_transactions_that_are_ready_together_share_commits_but_not_failures(db: Database) -> None:
    async def place(n: int) -> None:
        async with db.tx() as tx:
            await tx.one(add_order, Order, customer=f"c{n}", total=n)
            if n % 3 == 0:
                raise ZeroDivisionError

    for n in range(1, 6):
        await asyncio.gather(place(n), return_exceptions=True)
    before = db.stats()["groups"]
    outcomes = await asyncio.gather(*(place(n) for n in range(100, 160)), return_exceptions=True)
    assert sum(isinstance(o, ZeroDivisionError) for o in outcomes) == 20
    kept = await db.read().all(sa.select(orders.c.total).where(orders.c.total >= 100), int)
    assert sorted(kept) == [n for n in range(100, 160) if n % 3]
    assert db.stats()["groups"] - before < 20


async def test_a_transaction_is_acknowledged_only_after_its_commit(db: Database) -> None:
    """A second connection to the file, which sees committed data only, finds every acknowledged row."""
    import apsw

    assert isinstance(db.backend, Backend)
    other = apsw.Connection(str(db.backend.path))

    async def place(n: int) -> None:
        async with db.tx() as tx:
            placed = await tx.one(add_order, Order, customer="x", total=n)
        found = other.execute("SELECT total FROM orders WHERE id = ?", (placed.id,)).fetchall()
        assert found == [(n,)]

    await asyncio.gather(*(place(n) for n in range(50)))
    other.close()


async def test_a_deferred_foreign_key_fails_its_own_transaction_only(db: Database) -> None:
    async def orphan() -> None:
        async with db.tx() as tx:
            await tx.execute(sa.insert(lines), {"order_id": 404, "product": "p"})

    async def proper() -> None:
        async with db.tx() as tx:
            await tx.execute(sa.insert(lines), {"order_id": 1, "product": "p"})  # its order comes after it
            await tx.execute(sa.insert(orders), {"id": 1, "customer": "c"})

    bad, good = await asyncio.gather(orphan(), proper(), return_exceptions=True)
    assert isinstance(bad, errors.ForeignKeyViolation)
    assert good is None
    assert await db.read().scalar(sa.select(sa.func.count()).select_from(lines)) == 1


async def test_waiting_for_the_writer_ends_with_a_sentence(tmp_path: Any) -> None:
    from support.orders_db import opened

    async with opened(tmp_path, lock_timeout_s=0.05) as db:
        taken, release = asyncio.Event(), asyncio.Event()

        async def hold() -> None:
            async with db.tx() as tx:
                await tx.one(add_order, Order, customer="slow")
                taken.set()
                await release.wait()

        holder = asyncio.create_task(hold())
        await taken.wait()
        with pytest.raises(errors.DatabaseUnavailable, match=r"was not free for 0\.05 s"):
            async with db.tx() as tx:
                await tx.one(add_order, Order, customer="waiting")
        release.set()
        await holder
        async with db.tx() as tx:
            await tx.one(add_order, Order, customer="next")
        assert await orders_in(db) == 2


async def test_transactions_get_the_writer_in_the_order_of_asking(db: Database) -> None:
    order: list[int] = []
    taken, release = asyncio.Event(), asyncio.Event()

    async def run(n: int) -> None:
        async with db.tx() as tx:
            await tx.one(add_order, Order, customer="c")
            order.append(n)
            if n == 0:
                taken.set()
                await release.wait()

    first = asyncio.create_task(run(0))
    await taken.wait()
    rest = [asyncio.create_task(run(n)) for n in range(1, 20)]
    await asyncio.sleep(0)
    release.set()
    await asyncio.gather(first, *rest)
    assert order == list(range(20))


# ── what other layers hang on to a transaction ──


async def test_a_failing_listener_does_not_undo_a_commit(
    db: Database, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    db.on_invalidate(fail)
    async with db.tx() as tx:
        await tx.one(add_order, Order, customer="c")
        tx.invalidate("orders")
        tx.on_commit(fail)
    assert await orders_in(db) == 1
    assert "failed to invalidate ['orders']" in caplog.text
    assert "the commit stands" in caplog.text


async def test_a_stream_left_open_does_not_keep_the_transaction_from_ending(db: Database) -> None:
    async with db.tx() as tx:
        await tx.execute(sa.insert(orders), [{"customer": f"c{n}"} for n in range(2_000)])
        rows = tx.stream(sa.select(orders), Order)
        await anext(rows)
        await tx.one(add_order, Order, customer="beside it")
    assert await orders_in(db) == 2_001


async def test_in_a_sandbox_commits_are_seen_and_then_undone(db: Database) -> None:
    async with db.tx() as tx:
        await tx.one(add_order, Order, customer="before")
    async with db.sandbox():
        async with db.tx() as tx:
            await tx.one(add_order, Order, customer="inside")
            assert await db.read().scalar(count_orders) == 2
        with suppress(ZeroDivisionError):
            async with db.tx() as tx:
                await tx.one(add_order, Order, customer="rolled back")
                raise ZeroDivisionError
        assert await orders_in(db) == 2
        async with db.read() as reader:
            assert [o.customer async for o in reader.stream(sa.select(orders), Order)] == ["before", "inside"]
    assert await orders_in(db) == 1
    async with db.tx() as tx:
        await tx.one(add_order, Order, customer="after")
    assert await orders_in(db) == 2


async def test_a_memory_url_is_a_file_that_vanishes() -> None:
    from pathlib import Path

    from support.orders_db import opened

    async with opened(Path(), url="sqlite:///:memory:") as db:
        async with db.tx() as tx:
            await tx.one(add_order, Order, customer="c")
        assert isinstance(db.backend, Backend)
        path = db.backend.path
        assert path.exists()
        assert not db.backend.capabilities.durable
    assert not path.parent.exists()
