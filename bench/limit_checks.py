"""What a check of a rate limit costs: decided from units taken ahead, in memory, and by Redis each time.

    python bench/limit_checks.py [redis://127.0.0.1:6379] [--rounds 7] [--checks 20000]

Kinds take turns in one process; printed are medians of the CPU time of this process per check (Redis's own is not in
it), and the ratio to a check in memory. Without a URL, Redis is left out, and leases are on a store in this process.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from statistics import median

from tenfold._core.clock import Clock, SystemClock
from tenfold._core.resolve import backend_class
from tenfold._core.sections import GuardSettings
from tenfold.guard.backends._memory_limits import MemoryLimits
from tenfold.guard.gcra import Cell, Taken
from tenfold.guard.limiter import RateLimiter
from tenfold.guard.limits import LimitStore


class Shared(LimitStore):
    """Memory as if others had it, too, so that units are taken ahead."""

    shared = True

    def __init__(self, clock: Clock) -> None:
        self._store = MemoryLimits(clock)

    async def take(self, cells: Sequence[Cell]) -> Taken:
        return self._store.take_now(cells)

    async def prune(self, limit: int) -> int:
        return await self._store.prune(limit)


async def checks(limiter: RateLimiter, many: int) -> float:
    """Microseconds of CPU per check of a limit that nobody reaches."""
    cells: list[Cell] = [("bench", 10, 100_000_000)]
    begun = time.process_time_ns()
    for _ in range(many):
        taken = limiter.take_now(cells)
        if taken is None:
            taken = await limiter.decide(cells)
        if not taken.admitted:
            raise SystemExit("the limit was reached: this measures refusals")
    return (time.process_time_ns() - begun) / 1_000 / many


async def main(url: str, rounds: int, many: int) -> None:
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        store: LimitStore = Shared(clock)
        if url:
            backend = backend_class("guard", url, where="url").from_url(
                url, settings=GuardSettings(url=url), clock=clock
            )
            await backend.start()
            stack.push_async_callback(backend.stop)
            store = backend.limits()
        kinds = {"memory": RateLimiter(MemoryLimits(clock), clock), "leased": RateLimiter(store, clock)}
        if url:
            kinds["redis each time"] = RateLimiter(store, clock, lease_s=0)
        found: dict[str, list[float]] = {kind: [] for kind in kinds}
        for _ in range(rounds):
            for kind, limiter in kinds.items():
                found[kind].append(await checks(limiter, many // 20 if "each" in kind else many))
        base = median(found["memory"])
        for kind, times in found.items():
            print(f"{kind:16} {median(times):7.2f} us  {median(times) / base:6.2f} x memory")
        numbers = kinds["leased"].numbers()
        print(
            f"leased: {numbers['asked_total']} questions to the store, {numbers['local_total']} decided here"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url", nargs="?", default="")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--checks", type=int, default=20_000)
    options = parser.parse_args()
    asyncio.run(main(options.url, options.rounds, options.checks))
