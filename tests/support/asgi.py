"""ASGI applications as a server runs them: lifespan around requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from tenfold.testing import Client


@asynccontextmanager
async def serving(app: Any) -> AsyncGenerator[Client]:
    """A client of ``app`` between its lifespan's start and end."""
    asked: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    told: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    task = asyncio.create_task(app({"type": "lifespan", "asgi": {"version": "3.0"}}, asked.get, told.put))
    await asked.put({"type": "lifespan.startup"})
    answer = await told.get()
    assert answer["type"] == "lifespan.startup.complete", answer
    try:
        yield Client(app)
    finally:
        await asked.put({"type": "lifespan.shutdown"})
        answer = await told.get()
        await task
    assert answer["type"] == "lifespan.shutdown.complete", answer
