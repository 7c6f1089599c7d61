"""What a check of a rate limit costs: decided from units taken ahead, in memory, and by Redis each time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from statistics import median

import environment
from figures import Rows, Table
from servers import Failed

from tenfold._core.clock import SystemClock
from tenfold._core.resolve import backend_class
from tenfold._core.sections import GuardSettings
from tenfold.guard.backends._memory_limits import MemoryLimits
from tenfold.guard.gcra import LATER, Cell
from tenfold.guard.limiter import RateLimiter

TITLE = "A check of a rate limit"
ABOUT = """CPU time of the process per check, Redis's own not in it; the kinds take turns. Leased: the counts are in Redis, and units are
taken ahead, so that most checks are decided here.
"""

Progress = Callable[[int, int, str], None]
MEMORY, LEASED, EACH = "in memory", "leased from Redis", "by Redis each time"
MANY, LOCAL_MAX_US = 20_000, 5.0


async def checks(limiter: RateLimiter, many: int) -> float:
    """Microseconds of CPU per check of a limit that nobody reaches."""
    cell: Cell = ("bench", 10, 100_000_000)
    begun = time.process_time_ns()
    for _ in range(many):
        ahead_us = limiter.store.take_one(*cell)  # as the code of an operation does
        if not (await limiter.decide([cell])).admitted if ahead_us == LATER else ahead_us < 0:
            raise Failed("the limit was reached: this measures refusals")
    return (time.process_time_ns() - begun) / 1_000 / many


def measure(rounds: int, progress: Progress) -> Rows:
    """One row per round: CPU µs per check of each kind."""
    with environment.redis() as url:
        return asyncio.run(_measured(url, rounds, progress))


async def _measured(url: str, rounds: int, progress: Progress) -> Rows:
    clock = SystemClock()
    backend = backend_class("guard", url, where="url").from_url(
        url, settings=GuardSettings(url=url), clock=clock
    )
    await backend.start()
    try:
        kinds = {
            MEMORY: RateLimiter(MemoryLimits(clock), clock),
            LEASED: RateLimiter(backend.limits(), clock),
            EACH: RateLimiter(backend.limits(), clock, lease_s=0),
        }
        rows: Rows = []
        for number in range(rounds):
            progress(number, rounds, "in turns")
            times = {
                kind: await checks(each, MANY // 20 if kind == EACH else MANY) for kind, each in kinds.items()
            }
            rows.append({"round": number, **times})
        return rows
    finally:
        await backend.stop()


def table(rows: Rows) -> Table:
    """CPU of each kind; local ones are judged."""
    lines = []
    for kind in (MEMORY, LEASED, EACH):
        times = sorted(row[kind] for row in rows)
        mark = (
            ""
            if kind == EACH
            else "✓"
            if times[-1] < LOCAL_MAX_US
            else "✗"
            if times[0] >= LOCAL_MAX_US
            else "?"
        )
        most = "" if kind == EACH else f"{LOCAL_MAX_US:g}"
        lines.append(
            [mark, kind, most, f"{median(times):.2f}", f"{times[0]:.2f} … {times[-1]:.2f}", str(len(rows))]
        )
    return ["", "", "at most, µs", "median µs", "all rounds", "N"], lines
