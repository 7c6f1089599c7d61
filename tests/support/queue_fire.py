"""Worker processes under fire: starting, killing and judging them."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from support.forked import Forked
from support.queue_worker import jobs
from support.queues import Rig, rig
from tenfold._core.clock import SystemClock

LEASE_S = 1.0


class Process:
    """One worker process."""

    def __init__(
        self, folder: Path, database: str, mode: str = "right", lease_s: float = LEASE_S, *flags: str
    ) -> None:
        self.folder = folder
        self.process = Forked("support.queue_worker", str(folder), database, mode, str(lease_s), *flags)

    @property
    def works(self) -> bool:
        """It claims what there is."""
        return (self.folder / f"works-{self.process.pid}").exists()

    @property
    def lingers(self) -> bool:
        """A job of its stays where a kill does most."""
        return (self.folder / f"lingers-{self.process.pid}").exists()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self) -> dict[str, Any]:
        """Stop it in order; its counters."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)
        stats: dict[str, Any] = json.loads(self.process.stdout.read())
        return stats


class Fleet:
    """Worker processes on one database; who is killed is replaced."""

    def __init__(self, folder: Path, database: str, mode: str, size: int, flags: tuple[str, ...]) -> None:
        self._make: Callable[[], Process] = lambda: Process(folder, database, mode, LEASE_S, *flags)
        self.workers = [self._make() for _ in range(size)]
        self.kills = 0

    def kill(self, worker: Process) -> None:
        worker.kill()
        self.workers[self.workers.index(worker)] = self._make()
        self.kills += 1

    async def kill_one_that_lingers(self, over: Callable[[], Awaitable[bool]]) -> bool:
        """Wait for a worker in the middle of a job, kill it; False when ``over`` before there was one."""
        found: list[Process] = []

        async def some() -> bool:
            found[:] = [worker for worker in self.workers if worker.lingers]
            return bool(found) or await over()

        await until(some)
        if not found:
            return False
        self.kill(found[0])
        return True

    async def kill_at_random(self, rng: random.Random, times: int, pause_s: float) -> None:
        for _ in range(times):
            await asyncio.sleep(rng.uniform(0.2, 1.0) * pause_s)
            self.kill(rng.choice(self.workers))

    async def drain(self) -> None:
        """Stop every worker in order: what it runs comes to its end."""
        for worker in self.workers:
            await until(lambda worker=worker: worker.works)  # type: ignore[misc] # mypy knows no default here
            await asyncio.to_thread(worker.end)
        self.workers.clear()

    def end(self) -> None:
        for worker in self.workers:
            worker.kill()


@asynccontextmanager
async def scene(
    folder: Path, database: str, mode: str, *flags: str, workers: int = 2
) -> AsyncGenerator[tuple[Rig, dict[str, Any], Fleet]]:
    """A queue without a worker in this process, its declarations, and worker processes that begin to work."""
    declared = jobs(mode)
    async with rig(folder, *declared.values(), clock=SystemClock(), database=database) as r:
        fleet = Fleet(folder, database, mode, workers, flags)
        try:
            assert await until(lambda: all(worker.works for worker in fleet.workers))
            yield r, declared, fleet
        finally:
            fleet.end()


async def until(condition: Callable[[], Any], seconds: float = 40.0) -> bool:
    """Wait for a coroutine function or function to be true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if await value if asyncio.iscoroutine(value) else value:
            return True
        await asyncio.sleep(0.02)
    return False


async def finished(r: Rig) -> bool:
    """Nothing is left but dead letters."""
    return not [count for count in await r.admin.counts() if count.state != "dead"]


async def verdict(r: Rig, expected: set[str]) -> dict[str, list[str]]:
    """What is wrong: effects that are missing, doubled, or of nobody; messages that are stuck."""
    did = Counter(await r.did())
    return {
        "missing": sorted(expected - did.keys()),
        "doubled": sorted(what for what, times in did.items() if times > 1),
        "phantom": sorted(did.keys() - expected),
        "stuck": [f"{count.messages} {count.state}" for count in await r.admin.counts()],
    }


NOTHING: dict[str, list[str]] = {"missing": [], "doubled": [], "phantom": [], "stuck": []}


async def deaths_by_message(r: Rig) -> dict[int, int]:
    """How often the worker of each finished message died."""
    crashes = sa.text("SELECT id, crashes FROM tenfold_message_archive")
    return dict(await r.db.read().all(crashes, tuple))
