"""Handles keyed operations until it is done or killed; run by test_idempotency_stores_kill.py.

    python idempotency_stores_child.py DATABASE KEYS FIRST COUNT

KEYS is the URL of the store of keys, or "-" for the database. A line of JSON goes out per reply, after ``finish``
returned: it is what the client has seen.
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import AsyncExitStack

import sqlalchemy as sa

from support.guards import effects, opened
from tenfold._core.clock import SystemClock
from tenfold._core.context import Context, enter
from tenfold.db.database import Database
from tenfold.errors import RequestInProgress
from tenfold.guard.idempotency import IdempotencyGuard, Replay, StoredReply

ADD = sa.insert(effects)
COUNT = sa.select(sa.func.count()).select_from(effects).where(effects.c.key == sa.bindparam("of"))


async def request(db: Database, guard: IdempotencyGuard, key: str) -> None:
    """What a client and its server do together: repeat until there is a reply, and note it."""
    enter(Context())
    while True:
        try:
            outcome = await guard.begin(key, "orders.place", "same")
            break
        except RequestInProgress:
            await asyncio.sleep(0.02)
    if isinstance(outcome, Replay):
        reply = outcome.reply
    else:
        async with db.tx() as tx:
            await tx.execute(ADD, key=key)
        async with db.tx() as tx:  # a second block of the same operation
            number = await tx.scalar(COUNT, of=key)
        reply = StoredReply(201, (), b"%d" % number)
        await outcome.finish(reply)
    print(json.dumps([key, reply.body.decode()]), flush=True)


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


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
