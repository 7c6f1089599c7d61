"""Claims of the database suite: parts of a transaction that can fail by themselves."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
import sqlalchemy as sa

from tenfold import errors
from tenfold.conformance._database_case import DatabaseCase, Order, add_order, count_orders, customers, order
from tenfold.db.database import Database, Tx


class SavepointClaims(DatabaseCase):
    async def test_a_savepoint_that_raises_undoes_its_part_only(self, db: Database) -> None:
        """What fails inside a savepoint is undone, nested ones included; the rest commits."""
        async with db.tx() as tx:
            outer = await tx.one(add_order, Order, customer="outer")
            with suppress(errors.UniqueViolation):
                async with tx.savepoint():
                    await tx.one(add_order, Order, customer="inner")
                    async with tx.savepoint():
                        await tx.execute(sa.insert(order), {"id": outer.id, "customer": "again"})
            async with tx.savepoint():
                await tx.one(add_order, Order, customer="second")
                with suppress(ZeroDivisionError):
                    async with tx.savepoint():
                        await tx.one(add_order, Order, customer="undone")
                        raise ZeroDivisionError
                await tx.one(add_order, Order, customer="third")
        assert await db.read().all(customers, str) == ["outer", "second", "third"]

    async def test_a_kept_savepoint_is_undone_with_its_transaction(self, db: Database) -> None:
        """A savepoint that ended well is not durable before its transaction is."""
        with suppress(ZeroDivisionError):
            async with db.tx() as tx:
                async with tx.savepoint():
                    await tx.one(add_order, Order, customer="inner")
                raise ZeroDivisionError
        assert await db.read().scalar(count_orders) == 0

    async def test_a_transaction_may_begin_with_a_savepoint_and_hold_many(self, db: Database) -> None:
        """Savepoints can be the first thing in a transaction, follow one another, and nest deeply."""
        async with db.tx() as tx:
            for n in range(20):
                async with tx.savepoint():
                    await tx.one(add_order, Order, customer=f"c{n}")

            async def nest(depth: int) -> None:
                async with tx.savepoint():
                    await tx.one(add_order, Order, customer=f"n{depth}")
                    if depth:
                        await nest(depth - 1)

            await nest(10)
        assert await db.read().scalar(count_orders) == 31

    async def test_savepoints_side_by_side_are_refused_and_undo_nothing_of_each_other(
        self, db: Database
    ) -> None:
        """Of two tasks that open a savepoint at the same time the second is refused; each keeps or loses its own."""
        opened, refused = asyncio.Event(), asyncio.Event()
        async with db.tx() as tx:

            async def first() -> None:
                async with tx.savepoint():
                    await tx.one(add_order, Order, customer="undone")
                    opened.set()
                    await refused.wait()
                    raise ZeroDivisionError

            async def second() -> None:
                await opened.wait()
                with pytest.raises(errors.TransactionMisuse, match="two savepoints"):
                    async with tx.savepoint():
                        await tx.one(add_order, Order, customer="never")
                refused.set()

            outcomes = await asyncio.gather(first(), second(), return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [ZeroDivisionError, type(None)]
            async with tx.savepoint():
                await tx.one(add_order, Order, customer="outer")
                await asyncio.create_task(_nested(tx))  # it lies within: a task of the part that is open
        assert await db.read().all(customers, str) == ["outer", "inner"]


async def _nested(tx: Tx) -> None:
    async with tx.savepoint():
        await tx.one(add_order, Order, customer="inner")
