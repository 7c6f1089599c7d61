"""Flows of ten steps on PostgreSQL, enqueued and run by one process: ``python tenfold_flows.py DSN FLOWS``; steps per
second."""

from __future__ import annotations

import asyncio
import sys
import time

import sqlalchemy as sa

from tenfold import App, Flow, Service, injected

STEPS = 10
service = Service("bench")
db = service.database(sa.MetaData())


async def step(n: int) -> int:
    return n + 1


@service.job(result_ttl=600)
async def flow(flow: Flow = injected()) -> int:
    n = 0
    for i in range(STEPS):
        n = await flow.step(f"step {i}", step, n)
    return n


async def main(dsn: str, flows: int) -> None:
    app = App("bench", [service])
    app.configure(None, environ={}, database__url=dsn, log__level="warning")
    await app.start()
    begun = time.perf_counter()
    handles = await flow.enqueue_many(db, [{}] * flows)
    for handle in handles:
        assert await handle.result(120) == STEPS
    print(flows * STEPS / (time.perf_counter() - begun))
    await app.stop()


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
