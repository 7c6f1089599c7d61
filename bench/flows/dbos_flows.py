"""The same with DBOS, whose workflows are started in the process that runs them, 64 at a time, without a queue:
``python dbos_flows.py DSN FLOWS``; steps per second."""

from __future__ import annotations

import asyncio
import sys
import time

from dbos import DBOS

STEPS = 10
CONCURRENCY = 64  # as many as a worker of ours runs


@DBOS.step()
async def step(n: int) -> int:
    return n + 1


@DBOS.workflow()
async def flow() -> int:
    n = 0
    for _ in range(STEPS):
        n = await step(n)
    return n


async def main(dsn: str, flows: int) -> None:
    DBOS(config={"name": "bench", "system_database_url": dsn, "log_level": "ERROR"})
    DBOS.launch()
    begun = time.perf_counter()
    slots = asyncio.Semaphore(CONCURRENCY)

    async def one() -> None:
        async with slots:
            handle = await DBOS.start_workflow_async(flow)
            assert await handle.get_result() == STEPS

    await asyncio.gather(*(one() for _ in range(flows)))
    print(flows * STEPS / (time.perf_counter() - begun))
    DBOS.destroy()


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
