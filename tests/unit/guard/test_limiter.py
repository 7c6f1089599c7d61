"""The rate limiter: what it does without its store, and what it answers without asking it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold._core.clock import ManualClock
from tenfold.errors import StoreUnavailable, TooManyRequests, Unavailable
from tenfold.guard.backends._memory_limits import MemoryLimits
from tenfold.guard.gcra import Cell, Taken
from tenfold.guard.leasing import Unused
from tenfold.guard.limiter import RateLimiter
from tenfold.guard.limits import LimitStore
from tenfold.guard.rates import Away

pytestmark = pytest.mark.anyio


class Remote(LimitStore):
    """A store that has to be awaited, and may be away or silent."""

    shared = True
    gives_back = True

    def __init__(self, clock: ManualClock) -> None:
        self.cells = MemoryLimits(clock)
        self.asked = 0
        self.away = self.silent = False
        self.returned: list[Unused] = []

    async def take(self, cells: Sequence[Cell]) -> Taken:
        self.asked += 1
        await asyncio.sleep(0)
        if self.silent:
            await asyncio.Event().wait()
        if self.away:
            raise StoreUnavailable("gone")
        return self.cells.take_now(cells)

    async def prune(self, limit: int) -> int:
        if self.away:
            raise StoreUnavailable("gone")
        return await self.cells.prune(limit)

    async def give_back(self, unused: Sequence[Unused]) -> int:
        self.returned += unused
        return len(unused)


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


# ── units taken ahead ──


LIMIT = "1000/second"
CELLS: list[Cell] = [("k", 1_000, 1_000_000)]


async def at_rate(limiter: RateLimiter, clock: ManualClock, checks: int, gap_s: float = 0.002) -> int:
    """How many of the checks were admitted."""
    admitted = 0
    for _ in range(checks):
        admitted += (await limiter.take(LIMIT, key="ann")).admitted
        await clock.advance(gap_s)
    return admitted


async def test_a_thousand_checks_below_the_limit_ask_the_store_a_hundred_times_at_most(
    store: Remote, clock: ManualClock
) -> None:
    limiter = RateLimiter(store, clock)
    assert await at_rate(limiter, clock, 1_000) == 1_000
    assert store.asked <= 100
    numbers = limiter.numbers()
    assert numbers["asked_total"] == store.asked
    assert numbers["local_total"] + numbers["asked_total"] == numbers["admitted_total"] == 1_000
    assert 0 < numbers["leased_total"] <= store.asked


async def test_leases_can_be_turned_off(store: Remote, clock: ManualClock) -> None:
    limiter = RateLimiter(store, clock, lease_s=0)
    await at_rate(limiter, clock, 100)
    assert store.asked == 100


async def test_a_scarce_limit_is_as_exact_as_its_store(store: Remote, clock: ManualClock) -> None:
    """At four times the limit: in half a second the burst of a thousand, and what flows in."""
    limiter = RateLimiter(store, clock)
    admitted = await at_rate(limiter, clock, 2_000, 0.000_25)
    assert 1_490 <= admitted <= 1_500


async def test_a_crowd_that_comes_at_once_asks_the_store_for_one_lease(
    store: Remote, clock: ManualClock
) -> None:
    limiter = RateLimiter(store, clock)
    await at_rate(limiter, clock, 20)
    asked = store.asked
    await clock.advance(0.1)  # longer than the slots of the lease are good for
    crowd = await asyncio.gather(*(limiter.take(LIMIT, key="ann") for _ in range(20)))
    assert all(verdict.admitted for verdict in crowd)
    assert store.asked <= asked + 2


async def test_what_is_left_is_told_with_the_whole_lease_as_used(store: Remote, clock: ManualClock) -> None:
    limiter = RateLimiter(store, clock)
    for _ in range(100):
        verdict = await limiter.take(LIMIT, key="ann")
        now_us = int(clock.monotonic() * 1_000_000)
        (tat,) = store.cells._tats_us.values()
        assert verdict.remaining <= (1_000_000 - max(tat - now_us, 0)) // 1_000
        await clock.advance(0.002)
    assert limiter.numbers()["local_total"] > 50


async def test_what_was_not_used_is_given_back(store: Remote, clock: ManualClock) -> None:
    limiter = RateLimiter(store, clock)
    await limiter.start()
    slow = "3600/hour"
    for _ in range(20):
        await limiter.take(slow, key="ann")
        await clock.advance(0.01)
    await clock.advance(2.5)
    (unused,) = store.returned
    assert unused.unused_us % 1_000_000 < 100_000
    for _ in range(20):
        await limiter.take(slow, key="ann")
        await clock.advance(0.01)
    await limiter.stop()
    assert len(store.returned) == 2
    assert limiter.numbers()["given_back_total"] == 2


async def test_leases_end_when_their_store_is_lost(store: Remote, clock: ManualClock) -> None:
    limiter = RateLimiter(store, clock, away="closed")
    await at_rate(limiter, clock, 10)
    assert limiter.take_now([("1000/second per principal ann", 1_000, 1_000_000)]) is not None
    store.away = True
    with pytest.raises(Unavailable):
        await limiter.take("5/second", key="bob")
    with pytest.raises(Unavailable):
        await limiter.take(LIMIT, key="ann")
    store.away = False
    await clock.advance(1)
    asked = store.asked
    assert (await limiter.take(LIMIT, key="ann")).admitted
    assert store.asked == asked + 1
    await limiter.stop()


async def test_a_check_that_is_decided_here_costs_eight_calls_at_most(
    store: Remote, clock: ManualClock
) -> None:
    """Python's and C's; see bench/limits.py for the time."""
    limiter = RateLimiter(store, clock)
    while limiter.take_now(CELLS) is None:
        await limiter.decide(CELLS)
    calls: list[str] = []

    def count(frame: Any, event: str, arg: Any) -> None:
        if event == "call":
            calls.append(frame.f_code.co_qualname)
        elif event == "c_call":
            calls.append(arg.__qualname__)

    sys.setprofile(count)
    taken = limiter.take_now(CELLS)
    sys.setprofile(None)
    assert taken is not None
    assert len([name for name in calls if "setprofile" not in name]) <= 8, calls


@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(1, 600_000), st.sampled_from([0, 1, 70_000, 2_000_000])),
        max_size=60,
    )
)
def test_one_cell_is_decided_as_many_are(steps: list[tuple[str, int, int]]) -> None:
    now_s = [0.0]
    clock = cast("Any", SimpleNamespace(monotonic=lambda: now_s[0]))
    by_many, by_one = MemoryLimits(clock), MemoryLimits(clock)
    for key, cost, later_us in steps:
        now_s[0] += later_us / 1e6
        taken = by_many.take_now([(key, cost, 1_000_000)])
        ahead = taken.ahead_us[0]
        assert by_one.take_one(key, cost, 1_000_000) == (ahead if taken.admitted else ~ahead)


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
