"""The transaction of a whole operation: blocks join it, and all or nothing is committed at its end."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
import sqlalchemy as sa

from support.orders_db import Order, add_order, count_orders, order_by_id, orders, orders_in
from tenfold import errors
from tenfold._core.context import Context, use
from tenfold.db import Ambient, Database, Tx
from tenfold.db.ambient import held

pytestmark = pytest.mark.anyio


async def place(db: Database, customer: str) -> None:
    async with db.tx() as tx:
        await tx.one(add_order, Order, customer=customer)


async def operation(db: Database, context: Context) -> Ambient:
    ambient = Ambient(db)
    ambient.install(context)
    return ambient


async def outside(db: Database) -> int:
    with use(Context()):
        return await orders_in(db)


async def test_blocks_are_durable_only_when_the_operation_is(db: Database) -> None:
    with use(Context()) as context:
        ambient = await operation(db, context)
        await place(db, "a")
        await place(db, "b")
        assert await outside(db) == 0
        await ambient.finish(commit=True)
    assert await orders_in(db) == 2


async def test_giving_up_undoes_every_block(db: Database) -> None:
    with use(Context()) as context:
        ambient = await operation(db, context)
        await place(db, "a")
        await ambient.finish(commit=False)
    assert await orders_in(db) == 0


async def test_a_block_that_raises_is_undone_by_itself(db: Database) -> None:
    woken: list[str] = []
    with use(Context()) as context:
        ambient = await operation(db, context)
        await place(db, "kept")
        with suppress(errors.UniqueViolation):
            async with db.tx() as tx:
                tx.on_commit(lambda: woken.append("undone"))
                await tx.one(add_order, Order, customer="undone")
                await tx.execute(sa.insert(orders), {"id": 1, "customer": "twice"})
        async with db.tx() as tx:
            tx.on_commit(lambda: woken.append("last"))
            await tx.one(add_order, Order, customer="last")
        assert woken == []
        await ambient.finish(commit=True)
    assert await db.read().all(sa.select(orders.c.customer), str) == ["kept", "last"]
    assert woken == ["last"]


async def test_reads_of_the_operation_find_what_its_blocks_wrote(db: Database) -> None:
    with use(Context()) as context:
        ambient = await operation(db, context)
        assert await db.read().scalar(count_orders) == 0
        assert db.stats()["transactions"] == 0
        await place(db, "a")
        assert await db.read().scalar(count_orders) == 1
        assert len(await db.read().maybe_each(order_by_id, Order, id=[1, 2])) == 2
        async with db.read() as reader:
            assert await reader.scalar(count_orders) == 1
            assert [o.customer async for o in reader.stream(sa.select(orders), Order)] == ["a"]
        with pytest.raises(errors.TransactionMisuse, match="given to a reader"):
            await db.read().one(add_order, Order, customer="b")
        with pytest.raises(errors.TransactionMisuse, match="given to a reader"):
            await db.read().one_each(add_order, Order, customer=["b"])
        await ambient.finish(commit=True)


async def test_blocks_of_two_tasks_take_turns(db: Database) -> None:
    async def slowly(customer: str) -> None:
        async with db.tx() as tx:
            await tx.one(add_order, Order, customer=customer)
            await asyncio.sleep(0)
            if customer == "1":
                raise ZeroDivisionError

    with use(Context()) as context:
        ambient = await operation(db, context)
        await asyncio.gather(*(slowly(str(n)) for n in range(3)), return_exceptions=True)
        await ambient.finish(commit=True)
    assert await db.read().all(sa.select(orders.c.customer), str) == ["0", "2"]


async def test_a_block_inside_a_block_is_refused_all_the_same(db: Database) -> None:
    with use(Context()) as context:
        ambient = await operation(db, context)
        with pytest.raises(errors.TransactionMisuse, match="a transaction inside a transaction"):
            async with db.tx(), db.tx():
                pass
        await ambient.finish(commit=False)


async def test_hooks_of_a_block_run_inside_it(db: Database) -> None:
    async def flush(tx: Tx) -> None:
        await tx.execute(sa.insert(orders), {"customer": "flushed"})

    heard: list[list[str]] = []
    db.on_invalidate(lambda tags: heard.append(sorted(tags)))
    with use(Context()) as context:
        ambient = await operation(db, context)
        async with db.tx() as tx:
            tx.before_commit(flush)
            tx.invalidate("orders")
        assert await db.read().scalar(count_orders) == 1
        assert heard == []
        await ambient.finish(commit=True)
    assert heard == [["orders"]]


async def test_an_operation_that_never_wrote_takes_no_writer(db: Database) -> None:
    with use(Context()) as context:
        ambient = await operation(db, context)
        await ambient.finish(commit=True)
    assert db.stats()["transactions"] == 0


async def test_after_removal_blocks_stand_alone_again(db: Database) -> None:
    with use(Context()) as context:
        ambient = await operation(db, context)
        ambient.remove(context)
        await place(db, "a")
        assert await outside(db) == 1
        await ambient.finish(commit=False)


async def test_an_operation_that_ends_with_a_block_open_commits_no_half_of_it(db: Database) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def later() -> None:
        async with db.tx() as tx:
            await tx.one(add_order, Order, customer="half")
            begun.set()
            await go_on.wait()
            await tx.one(add_order, Order, customer="other half")

    with use(Context()) as context:
        ambient = await operation(db, context)
        await place(db, "whole")
        task = asyncio.create_task(later())
        await begun.wait()
        with pytest.raises(errors.TransactionMisuse, match="ended while a task"):
            await ambient.finish(commit=True)
    go_on.set()
    with pytest.raises(errors.TransactionMisuse, match="has ended"):
        await task
    assert await orders_in(db) == 0
    await place(db, "the writer is free")


async def test_a_block_whose_tasks_open_others_is_told_instead_of_waiting_for_itself(db: Database) -> None:
    with use(Context()) as context:
        ambient = await operation(db, context)
        async with asyncio.timeout(5):
            with pytest.raises(
                errors.TransactionMisuse, match="started inside an open one on database 'shop'"
            ):
                async with db.tx() as tx:
                    await tx.one(add_order, Order, customer="outer")
                    await asyncio.gather(place(db, "inner"))
        await place(db, "afterwards")
        await ambient.finish(commit=True)
    assert await db.read().all(sa.select(orders.c.customer), str) == ["afterwards"]


async def test_in_a_sandbox_a_call_made_by_an_operation_that_has_written_can_read(db: Database) -> None:
    async with db.sandbox():
        with use(Context()) as context:
            ambient = await operation(db, context)
            await place(db, "a")
            with use(context.child(state=held(context))):
                async with asyncio.timeout(5):
                    assert (
                        await orders_in(db) == 1
                    )  # outside of a sandbox it would see 0, and not wait either
            await ambient.finish(commit=True)
