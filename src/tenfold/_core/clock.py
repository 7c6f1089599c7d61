"""The only place where time and randomness are read.

Everything that decides (leases, schedules, limits, retries) takes a :class:`Clock`, so tests hand in a
:class:`ManualClock` and simulations a seed. Wall time is for what leaves the process (rows, tokens, cron);
monotonic time for durations inside it.
"""

from __future__ import annotations

import asyncio
import heapq
import random
import time
import uuid
from typing import Protocol


class Clock(Protocol):
    """Time in seconds, randomness, and sleep."""

    random: random.Random

    def now(self) -> float:
        """Wall-clock time, seconds since the epoch, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never goes back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Returns once ``seconds`` have passed on this clock."""
        ...

    def uuid(self) -> str:
        """A new UUIDv7 (RFC 9562): unique, and sorted by creation time to the millisecond."""
        ...


def _uuid7(now: float, rng: random.Random) -> str:
    value = (int(now * 1000) & ((1 << 48) - 1)) << 80 | rng.getrandbits(80)
    value = value & ~(0xF << 76) | (0x7 << 76)
    value = value & ~(0x3 << 62) | (0x2 << 62)
    return str(uuid.UUID(int=value))


class SystemClock:
    """The machine's clock; randomness from the operating system."""

    def __init__(self) -> None:
        self.random: random.Random = random.SystemRandom()
        self.now = time.time
        self.monotonic = time.monotonic

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def uuid(self) -> str:
        return _uuid7(self.now(), self.random)


class ManualClock:
    """A clock that stands still until a test moves it; seeded randomness.

    >>> clock = ManualClock(1_000.0)
    >>> clock.now()
    1000.0
    """

    def __init__(self, now: float = 1_700_000_000.0, seed: int = 0) -> None:
        self.random = random.Random(seed)  # noqa: S311 - tests want the same numbers again
        self._now = now
        self._elapsed = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = 0

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._elapsed

    def uuid(self) -> str:
        return _uuid7(self._now, self.random)

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._order += 1
        heapq.heappush(self._sleepers, (self._elapsed + seconds, self._order, waiter))
        await waiter

    async def advance(self, seconds: float) -> None:
        """Move time forward, waking every sleeper on the way in the order of its time."""
        end = self._elapsed + seconds
        await _settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            due, _, waiter = heapq.heappop(self._sleepers)
            self._move_to(due)
            if not waiter.done():
                waiter.set_result(None)
            await _settle()
        self._move_to(end)
        await _settle()

    def jump(self, seconds: float) -> None:
        """Shift wall time only, as a wrong clock or NTP does; sleepers and durations are unaffected."""
        self._now += seconds

    def _move_to(self, elapsed: float) -> None:
        self._now += elapsed - self._elapsed
        self._elapsed = elapsed


async def _settle(rounds: int = 10) -> None:
    """Let tasks that became ready run before time moves on."""
    for _ in range(rounds):
        await asyncio.sleep(0)
