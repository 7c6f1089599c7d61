"""An app on SQLite, without HTTP: order transactions acknowledged a second, jobs enqueued and drained a second.

    python bench/sqlite_app.py [--seconds 3] [--tasks 64] [--jobs 50000] [--dir FOLDER]

Prints one JSON object. An order transaction inserts a row, enqueues a job and publishes an event with one
subscriber, and counts when its commit was acknowledged (synchronous=FULL).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import sqlalchemy as sa
import uvloop

from tenfold import App, Service

metadata = sa.MetaData()
order_table = sa.Table(
    "orders",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("sku", sa.Text, nullable=False),
    sa.Column("quantity", sa.Integer, nullable=False),
)
insert_order = sa.insert(order_table).returning(order_table)


class Order(msgspec.Struct):
    id: int
    sku: str
    quantity: int


class Placed(msgspec.Struct):
    order_id: int


service = Service("orders")
db = service.database(metadata)
placed = service.topic("placed", Placed)
waiting = 0
all_done = asyncio.Event()


@service.job()
async def ship(order_id: int) -> None: ...


@service.job()
async def noop(n: int) -> None:
    global waiting  # noqa: PLW0603 - a counter is all that this program is about
    waiting -= 1
    if not waiting:
        all_done.set()


@service.on(placed)
async def count(event: Placed) -> None: ...


async def place(n: int) -> None:
    async with db.tx() as tx:
        order = await tx.one(insert_order, Order, sku="abc-1", quantity=n)
        await ship.enqueue(tx, order_id=order.id)
        await placed.publish(tx, Placed(order.id))


async def enqueue(n: int) -> None:
    async with db.tx() as tx:
        await noop.enqueue(tx, n=n)


async def rate(work: Callable[[int], Awaitable[object]], tasks: int, seconds: float) -> float:
    finished, start = 0, time.perf_counter()

    async def loop() -> None:
        nonlocal finished
        while time.perf_counter() < start + seconds:
            await work(finished)
            finished += 1

    await asyncio.gather(*(loop() for _ in range(tasks)))
    return finished / (time.perf_counter() - start)


async def drained(app: App, jobs: int) -> float:
    """Jobs that wait, run by a worker that starts now; its start is part of the time."""
    global waiting  # noqa: PLW0603
    waiting = jobs
    for at in range(0, jobs, 1000):
        await noop.enqueue_many(db, [{"n": n} for n in range(at, at + 1000)])
    start = time.perf_counter()
    await app.assembly.background.worker.start()
    await all_done.wait()
    seconds = time.perf_counter() - start
    await app.stop_worker()
    return jobs / seconds


def fdatasync_rate(folder: Path, seconds: float) -> float:
    file = os.open(folder / "probe", os.O_CREAT | os.O_RDWR)
    synced, start = 0, time.perf_counter()
    while time.perf_counter() < start + seconds:
        os.pwrite(file, b"x" * 4096, 4096 * (synced % 64))
        os.fdatasync(file)
        synced += 1
    os.close(file)
    return synced / seconds


async def main(args: argparse.Namespace, folder: Path) -> None:
    found = {"fdatasync of the disk": fdatasync_rate(folder, args.seconds / 3)}
    for part in ("orders", "jobs"):  # the drain must not meet the jobs of the orders
        app = App("bench", [service])
        app.configure(app__data_dir=str(folder / part), log__access=False)
        await app.start(worker=False)
        if part == "orders":
            found["order transactions (row + job + event), one after another"] = await rate(
                place, 1, args.seconds
            )
            found[f"order transactions (row + job + event), {args.tasks} at a time"] = await rate(
                place, args.tasks, args.seconds
            )
        else:
            found["no-op jobs drained"] = await drained(app, args.jobs)
            found[f"jobs enqueued, a transaction each, {args.tasks} at a time"] = await rate(
                enqueue, args.tasks, args.seconds
            )
        await app.stop()
    print(json.dumps(found))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--tasks", type=int, default=64)
    parser.add_argument("--jobs", type=int, default=50_000)
    parser.add_argument("--dir", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.dir) as made:
        uvloop.run(main(options, Path(made)))
