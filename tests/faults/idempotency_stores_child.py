"""Handles keyed operations until it is done or killed; run by test_idempotency_stores_kill.py.

    Forked("faults.idempotency_stores_child", DATABASE, KEYS, FIRST, COUNT)

KEYS is the URL of the store of keys, or "-" for the database. A line of JSON goes out per reply, after ``finish``
returned: it is what the client has seen.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import sqlalchemy as sa

from support.guards import effects, opened
from support.keyed import ask
from tenfold._core.clock import SystemClock
from tenfold.db.database import Database
from tenfold.guard.backends import _redis_idempotency
from tenfold.guard.idempotency import IdempotencyGuard

ADD = sa.insert(effects)
COUNT = sa.select(sa.func.count()).select_from(effects).where(effects.c.key == sa.bindparam("of"))


async def request(db: Database, guard: IdempotencyGuard, key: str) -> None:
    """An operation with two blocks."""

    async def place() -> int:
        async with db.tx() as tx:
            await tx.execute(ADD, key=key)
        async with db.tx() as tx:
            return int(await tx.scalar(COUNT, of=key))

    await ask(guard, key, place, again_s=0.02)


async def main(database: str, keys: str, first: int, count: int) -> None:
    async with AsyncExitStack() as stack:
        stores, db = await stack.enter_async_context(opened(database))
        if keys != "-":
            stores, _ = await stack.enter_async_context(opened(keys))
        assert db is not None
        guard = IdempotencyGuard(stores.idempotency(db), SystemClock(), lease_s=0.3)
        await guard.start()
        print("ready", flush=True)
        async with asyncio.TaskGroup() as group:
            for worker in range(4):
                group.create_task(work(db, guard, range(first + worker, first + count, 4)))
        await guard.stop()


async def work(db: Database, guard: IdempotencyGuard, numbers: range) -> None:
    for n in numbers:
        await request(db, guard, f"key-{n}")


def child(database: str, keys: str, first: str, count: str) -> None:
    # So long, and not half a minute, the key of a process that dies at its commit stays taken: others wait for it here.
    _redis_idempotency.COMMIT_S = 1.0
    asyncio.run(main(database, keys, int(first), int(count)))
