"""The rate limiter: what it does without its store, and what it answers without asking it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from tenfold._core.clock import ManualClock
from tenfold.errors import StoreUnavailable, TooManyRequests, Unavailable
from tenfold.guard.backends._memory_limits import MemoryLimits
from tenfold.guard.gcra import Cell, Taken
from tenfold.guard.limiter import RateLimiter
from tenfold.guard.limits import LimitStore
from tenfold.guard.rates import Away

pytestmark = pytest.mark.anyio


class Remote(LimitStore):
    """A store that has to be awaited, and may be away or silent."""

    shared = True

    def __init__(self, clock: ManualClock) -> None:
        self.cells = MemoryLimits(clock)
        self.asked = 0
        self.away = self.silent = False

    async def take(self, cells: Sequence[Cell]) -> Taken:
        self.asked += 1
        if self.silent:
            await asyncio.Event().wait()
        if self.away:
            raise StoreUnavailable("gone")
        return self.cells.take_now(cells)

    async def prune(self, limit: int) -> int:
        if self.away:
            raise StoreUnavailable("gone")
        return await self.cells.prune(limit)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store(clock: ManualClock) -> Remote:
    return Remote(clock)


async def test_a_limit_by_the_piece_says_what_is_left_and_when_to_come_back(
    store: Remote, clock: ManualClock
) -> None:
    limiter = RateLimiter(store, clock)
    verdicts = [await limiter.take("2/minute", key="ann") for _ in range(3)]
    assert [(v.admitted, v.remaining, v.retry_after_s) for v in verdicts] == [
        (True, 1, 0.0), (True, 0, 0.0), (False, 0, 30.0),
    ]  # fmt: skip
    assert (await limiter.take("2/minute", key="bob")).admitted
    await clock.advance(30)
    assert (await limiter.take("2/minute", key="ann")).admitted


async def test_check_raises_with_retry_after(store: Remote, clock: ManualClock) -> None:
    limiter = RateLimiter(store, clock)
    await limiter.check("1/hour", key="mail")
    with pytest.raises(TooManyRequests, match="The limit is 1/hour; come back in 3600 s") as caught:
        await limiter.check("1/hour", key="mail")
    assert caught.value.headers["Retry-After"] == "3600"
    with pytest.raises(TooManyRequests, match="more than it ever admits") as caught:
        await limiter.check("5/hour", key="mail", cost=6)
    assert "Retry-After" not in caught.value.headers


async def test_a_refusal_is_repeated_without_asking_the_store(store: Remote, clock: ManualClock) -> None:
    limiter = RateLimiter(store, clock)
    for _ in range(2):
        await limiter.take("1/minute", key="ann")
    asked = store.asked
    for _ in range(50):
        assert not (await limiter.take("1/minute", key="ann")).admitted
    assert store.asked == asked
    assert limiter.refused_at_once == 50
    await clock.advance(60)
    assert (await limiter.take("1/minute", key="ann")).admitted


async def test_a_cheaper_request_is_not_refused_for_a_dearer_ones_sake(
    store: Remote, clock: ManualClock
) -> None:
    limiter = RateLimiter(store, clock)
    assert (await limiter.take("10/minute", key="ann", cost=8)).admitted
    assert not (await limiter.take("10/minute", key="ann", cost=5)).admitted
    assert (await limiter.take("10/minute", key="ann", cost=2)).admitted


@pytest.mark.parametrize(("away", "admitted"), [("open", 4), ("local", 2), ("closed", 0)])
async def test_while_the_store_is_away_the_declared_policy_holds(
    store: Remote, clock: ManualClock, away: Away, admitted: int
) -> None:
    limiter = RateLimiter(store, clock, away=away)
    store.away = True
    got = 0
    for _ in range(4):
        try:
            got += (await limiter.take("2/minute", key="ann")).admitted
        except Unavailable:
            assert away == "closed"
    assert got == admitted
    assert store.asked == 1  # whoever comes later does not wait for a store that is known to be away
    assert limiter.numbers()["store_away"] == 1
    await limiter.stop()


async def test_a_store_that_comes_back_is_found_without_a_request(store: Remote, clock: ManualClock) -> None:
    limiter = RateLimiter(store, clock)
    store.away = True
    await limiter.take("2/minute", key="ann")
    await clock.advance(3)
    assert limiter.away
    store.away = False
    await clock.advance(1)
    assert not limiter.away
    assert [(await limiter.take("2/minute", key="ann")).admitted for _ in range(3)] == [True, True, False]
    await limiter.stop()


async def test_a_silent_store_is_waited_for_once(store: Remote, clock: ManualClock) -> None:
    limiter = RateLimiter(store, clock, timeout_s=0.02)
    store.silent = True
    async with asyncio.timeout(2):
        for _ in range(100):
            await limiter.take("1000/minute", key="ann")
    assert store.asked == 1
    await limiter.stop()


async def test_memory_forgets_the_least_active_beyond_its_bound(clock: ManualClock) -> None:
    cells = MemoryLimits(clock, cells_max=100)
    for n in range(100):
        cells.take_now([(f"light {n}", 1_000, 1_000_000)])
    heavy = ("heavy", 900_000, 1_000_000)
    assert cells.take_now([heavy]).admitted
    for n in range(500):
        cells.take_now([(f"more {n}", 1_000, 1_000_000)])
    assert len(cells) <= 100
    assert not cells.take_now([heavy]).admitted
    await clock.advance(10)
    assert await cells.prune(10) == 10
