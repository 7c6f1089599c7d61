"""An app whose capacity is the same on every machine: each request holds the event loop for 10 ms."""

from __future__ import annotations

import asyncio
import time

from tenfold import App, Service, public

service = Service("desk", auth=public)
HELD_S = 0.01


async def _work() -> str:
    await asyncio.sleep(0)
    time.sleep(HELD_S)  # noqa: ASYNC251 - stands for 10 ms of computing
    return "done"


@service.get("/critical", priority="critical")
async def critical() -> str:
    return await _work()


@service.get("/default")
async def default() -> str:
    return await _work()


@service.get("/poll")
async def poll(seconds: float = 1.0) -> str:
    await asyncio.sleep(seconds)
    return "news"


app = App("desk", [service])
