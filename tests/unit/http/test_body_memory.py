"""Memory that bodies share: never more than there is, first come first served, nothing lost."""

from __future__ import annotations

import asyncio
import random

import pytest

from tenfold.errors import Unavailable
from tenfold.http.memory import BodyMemory

pytestmark = pytest.mark.anyio


async def test_who_came_first_is_served_first_also_when_it_is_large() -> None:
    memory, served = BodyMemory(100), []

    async def ask(size: int) -> None:
        await memory.take(size)
        served.append(size)

    await ask(60)
    waiting = [asyncio.create_task(ask(size)) for size in (90, 10, 30)]
    await asyncio.sleep(0)
    assert (served, memory.waiting) == ([60], 3)
    memory.give(60)
    await asyncio.gather(*waiting[:2])
    memory.give(90)
    await waiting[2]
    assert served == [60, 90, 10, 30]


async def test_one_that_is_larger_than_everything_gets_everything() -> None:
    memory = BodyMemory(100)
    assert await memory.take(1000) == 100
    memory.give(100)
    assert memory.used == 0


async def test_without_room_in_time_it_is_503_that_says_why_and_when() -> None:
    memory = BodyMemory(100, wait_s=0.01)
    await memory.take(60)
    with pytest.raises(Unavailable, match=r"http\.buffered_max_bytes") as refused:
        await memory.take(60)
    assert refused.value.headers["Retry-After"] == "1"
    assert (memory.refused, memory.waiting) == (1, 0)
    assert await memory.take(40) == 40


@pytest.mark.parametrize("seed", range(5))
async def test_nothing_is_lost_whoever_gives_up_when(seed: int) -> None:
    rng, memory = random.Random(seed), BodyMemory(100, wait_s=60)

    async def body() -> None:
        held = await memory.take(rng.randrange(1, 90))
        assert memory.used <= 100
        try:
            await asyncio.sleep(0)
        finally:
            memory.give(held)

    tasks = [asyncio.create_task(body()) for _ in range(200)]
    while not all(task.done() for task in tasks):
        rng.choice(tasks).cancel()
        await asyncio.sleep(0)
    assert (memory.used, memory.waiting) == (0, 0)
