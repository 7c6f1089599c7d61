"""Transactions and reads on the SQLite backend, beside what the disk and the bare driver do.

    python bench/sqlite_tx.py [--seconds 3] [--tasks 32] [--dir FOLDER]

An order transaction is one INSERT … RETURNING into a table, decoded into a Struct, and two INSERTs into another
one: the row, a job, an event. It counts when it was acknowledged, which is after COMMIT with synchronous=FULL.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import apsw
import msgspec
import sqlalchemy as sa

from tenfold._core.clock import SystemClock
from tenfold._core.sections import DatabaseSettings
from tenfold.db import Database
from tenfold.db.backends.sqlite import Backend

metadata = sa.MetaData()
orders = sa.Table(
    "orders",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("customer", sa.Text, nullable=False),
    sa.Column("total", sa.Integer, nullable=False),
)
messages = sa.Table(
    "messages",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("payload", sa.LargeBinary, nullable=False),
)
insert_order = sa.insert(orders).returning(orders)
insert_message = sa.insert(messages)
by_id = sa.select(orders).where(orders.c.id == sa.bindparam("id"))


class Order(msgspec.Struct):
    id: int
    customer: str
    total: int


async def place(db: Database, n: int) -> None:
    async with db.tx() as tx:
        order = await tx.one(insert_order, Order, customer="somebody", total=n)
        payload = b"%d" % order.id
        await tx.execute(insert_message, kind="job", payload=payload)
        await tx.execute(insert_message, kind="event", payload=payload)


async def rate(work: Callable[[int], Awaitable[object]], tasks: int, seconds: float) -> float:
    done, until = 0, time.perf_counter() + seconds

    async def loop() -> None:
        nonlocal done
        while time.perf_counter() < until:
            await work(done)
            done += 1

    started = time.perf_counter()
    await asyncio.gather(*(loop() for _ in range(tasks)))
    return done / (time.perf_counter() - started)


def fdatasync_rate(folder: Path, seconds: float) -> float:
    file = os.open(folder / "probe", os.O_CREAT | os.O_RDWR)
    done, until = 0, time.perf_counter() + seconds
    while time.perf_counter() < until:
        os.pwrite(file, b"x" * 4096, 4096 * (done % 64))
        os.fdatasync(file)
        done += 1
    os.close(file)
    return done / seconds


async def calls(work: Callable[[int], Awaitable[object]]) -> Counter[str]:
    seen: Counter[str] = Counter()

    def note(_frame: object, event: str, _argument: object) -> None:
        if event in ("call", "c_call"):
            seen[event] += 1

    sys.setprofile(note)
    await work(1)
    sys.setprofile(None)
    return seen


def bare_read(path: Path, seconds: float) -> float:
    cursor = apsw.Connection(str(path)).cursor()
    done, until = 0, time.perf_counter() + seconds
    while time.perf_counter() < until:
        Order(*cursor.execute("SELECT id, customer, total FROM orders WHERE id = ?", (1,)).fetchone())
        done += 1
    return seconds / done * 1e6


async def main(folder: Path, tasks: int, seconds: float) -> None:
    backend = Backend.from_url(
        f"sqlite:///{folder / 'bench.db'}", settings=DatabaseSettings(), data_dir=folder, clock=SystemClock()
    )
    await backend.start()
    db = Database("bench", metadata)
    db.bind(backend)
    engine = backend.sync_engine()
    metadata.create_all(engine)
    for n in range(20):
        await place(db, n)
        await db.read().one(by_id, Order, id=1)

    async def write(n: int) -> None:
        await place(db, n)

    async def read(_: int) -> None:
        await db.read().one(by_id, Order, id=1)

    sync = fdatasync_rate(folder, seconds / 3)
    serial = await rate(write, 1, seconds)
    before = dict(backend.stats())
    many = await rate(write, tasks, seconds)
    after = backend.stats()
    groups = after["groups"] - before["groups"]
    reads = await rate(read, 1, seconds)
    print(f"fdatasync                       {sync:10,.0f} /s")
    print(f"order tx, one after another     {serial:10,.0f} /s   ({serial / sync:.2f} of the sync rate)")
    print(
        f"order tx, {tasks:3} tasks             {many:10,.0f} /s   ({(after['transactions'] - before['transactions']) / groups:.1f} per COMMIT)"
    )
    print(
        f"read of one row into a Struct   {1e6 / reads:10.1f} µs   (bare apsw {bare_read(folder / 'bench.db', seconds / 3):.1f} µs)"
    )
    print(f"calls: read {dict(await calls(read))}, order tx {dict(await calls(write))}")
    print(dict(backend.stats()))
    await backend.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--tasks", type=int, default=32)
    parser.add_argument("--dir", type=Path)
    parser.add_argument("--uvloop", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.dir) as made:
        run = asyncio.run
        if options.uvloop:
            import uvloop

            run = uvloop.run
        run(main(Path(made), options.tasks, options.seconds))
