"""SQLite's one writer and its readers in turns between tenants."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from support.orders_db import Order, add_order, opened
from tenfold._core.context import Context, owned, use
from tenfold.db import Database

pytestmark = pytest.mark.anyio

FLOOD = ["loud"] * 30
IN_TURN = ["loud", "quiet", "own", "loud", "quiet"]


async def in_order(work: Callable[[str], Awaitable[None]]) -> None:
    """Thirty of a loud tenant, then two of a quiet one and one of the framework's own, side by side."""

    async def of(tenant: str) -> None:
        if tenant == "own":
            with owned():
                await work(tenant)
        else:
            with use(Context(tenant=tenant)):
                await work(tenant)

    async with asyncio.TaskGroup() as group:
        for tenant in [*FLOOD, "quiet", "quiet", "own"]:
            group.create_task(of(tenant))
            await asyncio.sleep(0)


async def test_a_flood_of_writes_delays_another_tenant_by_a_turn(db: Database) -> None:
    served = list[str]()

    async def write(tenant: str) -> None:
        async with db.tx() as tx:
            await tx.one(add_order, Order, customer=tenant)
            served.append(tenant)
            await asyncio.sleep(0)

    async with db.tx() as tx:
        await tx.one(add_order, Order, customer="first")
        flood = asyncio.create_task(in_order(write))
        while db.stats()["waiting"] < len(FLOOD) + 3:  # noqa: ASYNC110 - the line has no event
            await asyncio.sleep(0)
    await flood
    assert sorted(served[:5]) == sorted(IN_TURN)
    assert served[5:] == ["loud"] * 28


async def test_a_flood_of_reads_delays_another_tenant_by_a_turn(tmp_path: Path) -> None:
    served = list[str]()
    async with opened(tmp_path, readers=1) as db:

        async def read(tenant: str) -> None:
            async with db.read():
                served.append(tenant)

        async with db.read():
            flood = asyncio.create_task(in_order(read))
            for _ in range(50):
                await asyncio.sleep(0)
        await flood
    assert sorted(served[:5]) == sorted(IN_TURN)
    assert served[5:] == ["loud"] * 28


async def test_a_reader_that_is_given_up_in_line_is_not_lost(tmp_path: Path) -> None:
    async with opened(tmp_path, readers=1) as db:

        async def read() -> None:
            async with db.read():
                pass

        for _ in range(3):
            async with db.read():
                waiting = [asyncio.create_task(read()) for _ in range(3)]
                await asyncio.sleep(0)
                waiting[0].cancel()
            waiting[1].cancel()  # in the very moment when it is its turn
            await asyncio.wait(waiting)
            assert not waiting[2].cancelled()
