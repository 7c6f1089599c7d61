"""A primary with two standbys that lag as a test says."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import asyncpg

from support.servers import Postgres
from support.standby import Standby
from tenfold import App
from tenfold.testing.client import Client


class Cluster:
    """A primary and its standbys."""

    def __init__(self, primary: Postgres, standbys: list[Standby]) -> None:
        self.primary = primary
        self.standbys = standbys
        self._thread = ThreadPoolExecutor(1)

    def urls(self, database: str) -> list[str]:
        return [standby.url(database) for standby in self.standbys]

    def catch_up(self) -> None:
        for standby in self.standbys:
            standby.catch_up()

    async def start(self, server: Postgres) -> None:
        """Start one again. Servers die with the thread that started them, so that is not one of the loop's."""
        await asyncio.get_running_loop().run_in_executor(self._thread, server.start)

    async def pause(self) -> None:
        """No standby applies anything from now on."""
        for standby in self.standbys:
            await asyncio.to_thread(standby.pause)

    async def resume(self) -> None:
        for standby in self.standbys:
            await asyncio.to_thread(standby.resume)


async def eventually(true: Callable[[], bool], seconds: float = 20.0) -> None:
    """Return when it is; raises TimeoutError when it is not after ``seconds``."""
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 - many things may make it so
            await asyncio.sleep(0.005)


@asynccontextmanager
async def serving(app: App) -> AsyncGenerator[App]:
    async with app.lifespan():
        yield app


def client(app: App) -> Client:
    """Somebody with cookies of their own."""
    return Client(app)


@asynccontextmanager
async def uneven(standbys: list[Standby], most_s: float) -> AsyncGenerator[None]:
    """Inside, each standby stops applying changes again and again, for up to ``most_s`` seconds."""
    async with AsyncExitStack() as stack:
        tasks = [asyncio.create_task(_halting(s, most_s, random.Random(n))) for n, s in enumerate(standbys)]
        stack.push_async_callback(_end, tasks)
        yield


async def _halting(standby: Standby, most_s: float, rng: random.Random) -> None:
    connection: Any = await asyncpg.connect(standby.url("postgres"), timeout=10)
    try:
        with suppress(asyncpg.PostgresError):  # it was promoted
            while True:
                await connection.execute("SELECT pg_wal_replay_pause()")
                await asyncio.sleep(rng.uniform(0, most_s))
                await connection.execute("SELECT pg_wal_replay_resume()")
                await asyncio.sleep(rng.uniform(0, 0.3))
    finally:
        with suppress(asyncpg.PostgresError):
            await connection.execute("SELECT pg_wal_replay_resume()")
        await connection.close(timeout=5)


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
