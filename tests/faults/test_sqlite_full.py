"""G23: with a full disk reads serve, writes refuse with a sentence, and the service resumes by itself.

``max_page_count`` gives the same SQLITE_FULL as a full disk, at the same places of the code.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import sqlalchemy as sa

from support.orders_db import Order, add_order, opened, order_by_id, orders, orders_in
from tenfold import errors
from tenfold.db import Database
from tenfold.db.backends.sqlite import Backend

pytestmark = pytest.mark.anyio


async def limit_pages(db: Database, extra: int | None) -> None:
    async with db.tx() as tx:
        used = await tx.scalar(sa.text("PRAGMA page_count"))
        await tx.scalar(sa.text(f"PRAGMA max_page_count = {used + extra if extra is not None else 2**30}"))


async def test_a_full_disk_refuses_writes_serves_reads_and_ends_by_itself(tmp_path: Path) -> None:
    big = "x" * 20_000
    async with opened(tmp_path) as db:
        async with db.tx() as tx:
            await tx.one(add_order, Order, customer="before")
        await limit_pages(db, 12)

        kept = 1
        refused: list[str] = []
        for _ in range(12):
            try:
                async with db.tx() as tx:
                    await tx.one(add_order, Order, customer=big)
                    await tx.one(add_order, Order, customer=big)
                kept += 2
            except errors.DatabaseUnavailable as error:
                refused.append(str(error))
            assert (await db.read().one(order_by_id, Order, id=1)).customer == "before"
        assert len(refused) > 3
        assert all("is full: nothing was written" in sentence for sentence in refused)
        assert await orders_in(db) == kept

        await limit_pages(db, None)
        async with db.tx() as tx:
            await tx.one(add_order, Order, customer=big)
        assert await orders_in(db) == kept + 1
        assert isinstance(db.backend, Backend)
        assert await db.read().scalar(sa.text("PRAGMA integrity_check")) == "ok"


async def test_neighbours_in_the_group_learn_that_they_were_not_written(tmp_path: Path) -> None:
    async with opened(tmp_path) as db:
        for _ in range(5):
            async with db.tx() as tx:
                await tx.one(add_order, Order, customer="warm")
        await limit_pages(db, 4)

        async def place(customer: str) -> str:
            async with db.tx() as tx:
                await tx.one(add_order, Order, customer=customer)
            return customer

        outcomes = await asyncio.gather(
            *(place(f"small {n}" if n != 6 else "x" * 200_000) for n in range(12)), return_exceptions=True
        )
        acknowledged = sorted(o for o in outcomes if isinstance(o, str))
        refused = [o for o in outcomes if not isinstance(o, str)]
        assert refused
        assert all(isinstance(o, errors.DatabaseUnavailable | errors.SerializationFailure) for o in refused)
        found = await db.read().all(sa.select(orders.c.customer).where(orders.c.customer != "warm"), str)
        assert sorted(found) == acknowledged
