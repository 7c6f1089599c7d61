"""Instances that check one limit in waves, each a process with a wall clock of its own; run by test_limits_fleet.py.

    python limits_fleet.py INSTANCES WAVES VARIANT=URL…

Every instance checks in all the stores at a time: a while below the limit, so that units are taken ahead, then not at
all, then as fast as it can. The variant ``flood`` does that last all the time; others are broken. Writes one line of JSON: by store, what was wanted and what was admitted, as [at, cost] in
microseconds on the machine's clock, and how many checks were decided without the store.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from support.guards import opened
from support.leasing import ByWallClock, UsedAfterItsEnd
from support.orphans import die_with_parent
from tenfold._core.clock import Clock, SystemClock
from tenfold.guard.backends._memory_limits import MemoryLimits
from tenfold.guard.gcra import Cell, Taken
from tenfold.guard.leased import LeasedLimits
from tenfold.guard.limiter import RateLimiter
from tenfold.guard.limits import LimitStore

PER_S, BURST = 400, 800
COST = 1_000_000 // PER_S
CELL: Cell = ("one", COST, BURST * COST)
BELOW_S, PAUSE_S, FLOOD_S = 0.5, 0.4, 0.5
WAVE_S = BELOW_S + PAUSE_S + FLOOD_S
CLIENTS = 2

Log = dict[str, list[list[int]]]


class SkewedClock(SystemClock):
    """Its wall clock is wrong by ``offset_s``."""

    def __init__(self, offset_s: float) -> None:
        super().__init__()
        self.now = lambda: time.time() + offset_s


class Logged(LeasedLimits):
    """Writes down what it admits from leases, and when."""

    def __init__(self, store: LimitStore, clock: Clock, log: Log) -> None:
        super().__init__(store, clock, 1.0)
        self._log = log

    def take_now(self, cells: Sequence[Cell]) -> Taken | None:
        now_us = time.time_ns() // 1_000
        taken = super().take_now(cells)
        if taken is not None:
            self._log["admitted"].append([now_us, COST])
        return taken


class LoggedStore(LimitStore):
    """Writes down what the store admits, and when by its clock."""

    shared = True

    def __init__(self, store: LimitStore, log: Log) -> None:
        self._store, self._log = store, log
        self.bounded, self.gives_back = store.bounded, store.gives_back
        self.give_back = store.give_back  # type: ignore[method-assign]

    async def take(self, cells: Sequence[Cell]) -> Taken:
        taken = await self._store.take(cells)
        if taken.admitted and cells:
            at_us = taken.at_us if self._store.shared else time.time_ns() // 1_000
            self._log["admitted"].append([at_us, COST])
        return taken

    async def prune(self, limit: int) -> int:
        return await self._store.prune(limit)


async def traffic(
    limiter: RateLimiter, log: Log, start: float, waves: int, instances: int, *, flood: bool
) -> None:
    """One instance's part of the waves."""
    dice = random.Random()
    below_s, pause_s = (0.0, 0.0) if flood else (BELOW_S, PAUSE_S)

    async def check() -> bool:
        log["wanted"].append([time.time_ns() // 1_000, COST])
        taken = limiter.take_now([CELL])
        return (taken or await limiter.decide([CELL])).admitted

    async def client(wave: float) -> None:
        each_s = 1.1 * CLIENTS * instances / PER_S
        await asyncio.sleep(max(0, wave - time.time()) + dice.random() * each_s)
        while time.time() < wave + below_s:
            await check()
            await asyncio.sleep(dice.uniform(0.5, 1.5) * each_s)
        await asyncio.sleep(max(0, wave + below_s + pause_s - time.time()))
        while time.time() < wave + WAVE_S:
            if not await check():
                await asyncio.sleep(0.002)

    for number in range(waves):
        await asyncio.gather(*(client(start + number * WAVE_S) for _ in range(CLIENTS)))


class Gate:
    """Processes wait here until all are ready."""

    def __init__(self, instances: int) -> None:
        self._instances = instances
        self._ready, self._go = os.pipe(), os.pipe()

    def wait(self) -> float:
        """In each of them: when to begin."""
        os.write(self._ready[1], b".")
        return float(os.read(self._go[0], 20))

    def open(self) -> None:
        """In the one that started them."""
        waiting = self._instances
        while waiting:
            waiting -= len(os.read(self._ready[0], waiting))
        os.write(self._go[1], f"{time.time() + 0.1:20.6f}".encode() * self._instances)


async def instance(number: int, instances: int, waves: int, jobs: list[str], gate: Gate) -> dict[str, Log]:
    """The logs of one process, by job."""
    offset_s = (number - instances / 2) * 60.0
    clock = SkewedClock(offset_s)
    logs: dict[str, Log] = {job: {"wanted": [], "admitted": [], "local": []} for job in jobs}
    async with contextlib.AsyncExitStack() as stack:
        limiters: list[RateLimiter] = []
        for job in jobs:
            variant, _, url = job.partition("=")
            stores, _ = await stack.enter_async_context(opened(url, clock))
            store = MemoryLimits(clock) if variant == "by-itself" else stores.limits()
            limiters.append(_limiter(LoggedStore(store, logs[job]), clock, logs[job], variant, offset_s))
            await limiters[-1].start()
            await limiters[-1].store.take(())
        start = await asyncio.to_thread(gate.wait)
        await asyncio.gather(
            *(
                traffic(limiter, logs[job], start, waves, instances, flood=job.startswith("flood="))
                for limiter, job in zip(limiters, jobs, strict=True)
            )
        )
        for job, limiter in zip(jobs, limiters, strict=True):
            logs[job]["local"] = [
                [limiter.numbers()["local_total"], limiter.numbers()["without_store_total"]]
            ]
            await limiter.stop()
    return logs


def _limiter(store: LimitStore, clock: Clock, log: Log, variant: str, offset_s: float) -> RateLimiter:
    limiter = RateLimiter(store, clock, timeout_s=20)
    leased = Logged(store, clock, log)
    if variant == "after-its-end":
        leased._leasing = UsedAfterItsEnd(1_000_000)
    elif variant == "wall-clock":
        leased._leasing = broken = ByWallClock(1_000_000)
        broken.behind_us = int(
            abs(offset_s) * 1e6
        )  # one that is ahead finds its leases over, and errs to no harm
    limiter.store = limiter._leased = leased
    return limiter


def main(instances: int, waves: int, jobs: list[str]) -> None:
    folder = Path(tempfile.mkdtemp())
    gate = Gate(instances)
    children: list[int] = []
    for number in range(instances):
        pid = os.fork()
        if not pid:
            die_with_parent()
            logs = asyncio.run(instance(number, instances, waves, jobs, gate))
            (folder / str(number)).write_text(json.dumps(logs))
            os._exit(0)
        children.append(pid)
    gate.open()
    statuses = [os.waitpid(pid, 0)[1] for pid in children]
    assert not any(statuses), statuses
    found = [json.loads((folder / str(number)).read_text()) for number in range(instances)]
    shutil.rmtree(folder)
    kinds = ("wanted", "admitted", "local")
    print(
        json.dumps({job: {k: [one for log in found for one in log[job][k]] for k in kinds} for job in jobs})
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
