"""The bulkhead: so many in all, so many to a host, few wait."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from tenfold.client.places import Full, Places

pytestmark = pytest.mark.anyio


async def test_no_more_than_the_limit_and_the_rest_waits_in_order() -> None:
    places = Places(2, per_host=2, waiting_max=2)
    assert places.try_enter("a")
    assert places.try_enter("a")
    order: list[int] = []

    async def stand(number: int) -> None:
        await places.enter("a", 10)
        order.append(number)

    waiting = [asyncio.create_task(stand(n)) for n in range(2)]
    await asyncio.sleep(0)
    assert not places.try_enter("a")
    with pytest.raises(Full, match="2 calls are under way"):
        await places.enter("a", 10)
    places.leave("a")
    places.leave("a")
    await asyncio.gather(*waiting)
    assert order == [0, 1]
    assert (places.in_flight, places.waiting) == (2, 0)


async def test_nobody_waits_behind_somebody_whose_host_is_full() -> None:
    places = Places(10, per_host=1, waiting_max=5)
    assert places.try_enter("slow")
    stuck = asyncio.create_task(places.enter("slow", 10))
    await asyncio.sleep(0)
    assert places.try_enter("quick")
    with pytest.raises(Full, match="1 calls are under way to slow"):
        await places.enter("slow", 0)
    places.leave("slow")
    await stuck


async def test_waiting_ends_after_its_time() -> None:
    places = Places(1, per_host=1, waiting_max=5)
    assert places.try_enter("a")
    with pytest.raises(Full):
        await places.enter("a", 0.01)
    assert places.waiting == 0


async def test_a_raised_limit_lets_those_in_who_wait() -> None:
    places = Places(1, per_host=1, waiting_max=5)
    assert places.try_enter("a")
    waiting = asyncio.create_task(places.enter("b", 10))
    await asyncio.sleep(0)
    places.most = 2
    places.admit()
    await waiting
    assert places.by_host == Counter(a=1, b=1)


async def test_whatever_is_cancelled_no_place_is_lost_or_given_twice() -> None:
    """N = 2,000 callers that come, wait, are cancelled and go in an order drawn by lot."""
    dice = random.Random(17)
    places = Places(5, per_host=3, waiting_max=50)
    inside: Counter[str] = Counter()

    async def call(host: str) -> None:
        try:
            await places.enter(host, 10)
        except Full:
            return
        inside[host] += 1
        try:
            assert inside.total() <= 5
            assert inside[host] <= 3
            for _ in range(dice.randrange(4)):
                await asyncio.sleep(0)
        finally:
            inside[host] -= 1
            places.leave(host)

    tasks: list[asyncio.Task[None]] = []
    for _ in range(2000):
        tasks.append(asyncio.create_task(call(dice.choice("abc"))))
        if dice.random() < 0.4:
            dice.choice(tasks[-20:]).cancel()
        if dice.random() < 0.3:
            await asyncio.sleep(0)
    await asyncio.gather(*tasks, return_exceptions=True)
    assert [task.exception() for task in tasks if not task.cancelled() and task.exception()] == []
    assert (places.in_flight, places.waiting, +places.by_host) == (0, 0, Counter())
