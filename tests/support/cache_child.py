"""A process that is killed in the middle: ``python cache_child.py URL load|commit|fleet …``.

``load`` holds the lease of "k" until it is killed; ``commit`` announces a change, makes it, and dies before it
tells; ``fleet WAITERS ROUNDS`` asks for one key with many waiters, at the times that it reads from standard input.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path

from support.caches import process


async def load(url: str) -> None:
    async with process(url, timeout_s=2.0) as mine:

        async def forever() -> int:
            print("loading", flush=True)
            await asyncio.sleep(600)
            return 0

        await mine.cache.get_or_load("k", forever, tags=("t",))


async def commit(url: str, file: str) -> None:
    async with process(url, timeout_s=2.0) as mine:
        await mine.backend.announce(["t"])
        Path(file).write_text("new")  # noqa: ASYNC240 - this process does nothing else
        print("committed", flush=True)
        os._exit(1)


async def fleet(url: str, waiters: str, rounds: str) -> None:
    async with process(url, timeout_s=2.0) as mine:
        loads = 0

        async def slow() -> str:
            nonlocal loads
            loads += 1
            await asyncio.sleep(0.2)
            return "v"

        print("ready", flush=True)
        begin = float(await asyncio.to_thread(sys.stdin.readline))
        seen: list[int] = []
        slowest: list[float] = []
        for i in range(int(rounds)):
            await asyncio.sleep(max(0.0, begin + i - time.time()))
            before, started = loads, time.perf_counter()
            asked = (mine.cache.get_or_load("hot", slow, ttl_s=0.5) for _ in range(int(waiters)))
            assert set(await asyncio.gather(*asked)) == {"v"}
            slowest.append(time.perf_counter() - started)
            seen.append(loads - before)
        print(json.dumps({"loads": seen, "slowest": slowest}), flush=True)


if __name__ == "__main__":
    url, what, *rest = sys.argv[1:]
    asyncio.run({"load": load, "commit": commit, "fleet": fleet}[what](url, *rest))
