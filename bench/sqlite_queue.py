"""The queue on SQLite: enqueue one by one and in bulk, drain, and the time from enqueue to start at 200/s.

    python bench/sqlite_queue.py [--n 50000] [--seconds 5] [--rate 200] [--profile] [--dir PATH]

One process, synchronous=FULL. Prints one line per figure and the rate at which the disk syncs beside them.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import os
import pstats
import tempfile
import time
from contextlib import asynccontextmanager
from pathlib import Path

import sqlalchemy as sa
import uvloop

from tenfold._core.clock import SystemClock
from tenfold._core.container import Container
from tenfold._core.sections import DatabaseSettings, WorkerSettings
from tenfold.db import Database, Tx
from tenfold.db.backends.sqlite import Backend
from tenfold.db.schema import framework
from tenfold.jobs import Job
from tenfold.queue import tables as _tables  # noqa: F401 - defines them on the framework's metadata
from tenfold.queue.queue import Queues
from tenfold.queue.worker import Worker

CLOCK = SystemClock()
lateness: list[float] = []
counter = sa.Table("counter", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True))
count_one = sa.insert(counter)


async def noop(n: int) -> None: ...


async def stamp(at: float) -> None:
    lateness.append(time.monotonic() - at)


async def effect(n: int, tx: Tx) -> None:
    await tx.execute(count_one, id=n)


@asynccontextmanager
async def queue(folder: Path):
    backend = Backend.from_url(
        "sqlite:///bench.db", settings=DatabaseSettings(), data_dir=folder, clock=CLOCK
    )
    await backend.start()
    engine = backend.sync_engine()
    framework.create_all(engine)
    counter.metadata.create_all(engine)
    engine.dispose()
    db = Database("bench", counter.metadata)
    db.bind(backend)
    queues, container = Queues(CLOCK), Container()
    jobs = {fn.__name__: Job("bench", fn) for fn in (noop, stamp, effect)}
    handlers = {job.name: job.bind(queues, container, db) for job in jobs.values()}
    worker = Worker(queues.of(db), handlers, WorkerSettings(), CLOCK)
    try:
        yield db, jobs, worker
    finally:
        await backend.stop()


def sync_rate(folder: Path) -> float:
    with open(folder / "sync", "wb") as file:
        began, count = time.perf_counter(), 0
        while time.perf_counter() - began < 1.0:
            file.write(b"x" * 4096)
            file.flush()
            os.fdatasync(file.fileno())
            count += 1
    return count


async def one_by_one(db: Database, job: Job, seconds: float, tasks: int) -> float:
    count, end = 0, time.perf_counter() + seconds

    async def producer() -> None:
        nonlocal count
        while time.perf_counter() < end:
            async with db.tx() as tx:
                await job.enqueue(tx, n=count)
            count += 1

    await asyncio.gather(*(producer() for _ in range(tasks)))
    return count / seconds


async def bulk(db: Database, job: Job, n: int) -> float:
    began = time.perf_counter()
    for start in range(0, n, 1000):
        await job.enqueue_many(db, [{"n": start + i} for i in range(1000)])
        await asyncio.sleep(0)
    return n / (time.perf_counter() - began)


async def drain(worker: Worker, n: int) -> float:
    began = time.perf_counter()
    await worker.start()
    while worker.stats()["done"] < n:  # noqa: ASYNC110 - a worker tells nobody when it has nothing left
        await asyncio.sleep(0.005)
    seconds = time.perf_counter() - began
    await worker.stop()
    return n / seconds


async def latency(db: Database, job: Job, worker: Worker, rate: float, seconds: float) -> tuple[float, float]:
    await worker.start()
    began, n = time.monotonic(), int(rate * seconds)
    for i in range(n):
        due = began + i / rate
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        async with db.tx() as tx:
            await job.enqueue(tx, at=time.monotonic())
    while len(lateness) < n:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    await worker.stop()
    ordered = sorted(lateness[20:])
    return ordered[len(ordered) // 2] * 1e3, ordered[int(len(ordered) * 0.99)] * 1e3


async def main(args: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(dir=args.dir) as name:
        print(f"fdatasync                {sync_rate(Path(name)):>10,.0f} /s")

        async def part(label: str, measure) -> None:
            if args.only not in label:
                return
            with tempfile.TemporaryDirectory(dir=args.dir) as folder:
                async with queue(Path(folder)) as (db, jobs, worker):
                    print(f"{label:<24} {await measure(db, jobs, worker)}", flush=True)

        async def drained(db, jobs, worker):
            await bulk(db, jobs["noop"], args.n)
            profile = cProfile.Profile() if args.profile else None
            if profile:
                profile.enable()
            figure = await drain(worker, args.n)
            if profile:
                profile.disable()
                pstats.Stats(profile).sort_stats("tottime").print_stats(30)
            return f"{figure:>10,.0f} /s"

        async def effects(db, jobs, worker):
            await bulk(db, jobs["effect"], args.n // 5)
            return f"{await drain(worker, args.n // 5):>10,.0f} /s"

        async def late(db, jobs, worker):
            p50, p99 = await latency(db, jobs["stamp"], worker, args.rate, args.seconds)
            return f"p50 {p50:.2f} ms, p99 {p99:.2f} ms"

        await part("enqueue, 1 task", lambda d, j, w: _rate(one_by_one(d, j["noop"], args.seconds, 1)))
        await part("enqueue, 64 tasks", lambda d, j, w: _rate(one_by_one(d, j["noop"], args.seconds, 64)))
        await part("enqueue, bulk of 1,000", lambda d, j, w: _rate(bulk(d, j["noop"], args.n)))
        await part("drain, no-op", drained)
        await part("drain, row per job", effects)
        await part(f"start at {args.rate:g}/s", late)


async def _rate(measure) -> str:
    return f"{await measure:>10,.0f} /s"


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--n", type=int, default=50_000)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rate", type=float, default=200)
    parser.add_argument("--dir", default=None)
    parser.add_argument("--only", default="", help="run the parts whose label contains this")
    parser.add_argument("--profile", action="store_true")
    uvloop.run(main(parser.parse_args()))
