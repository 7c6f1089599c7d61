"""Time and randomness come from one place, and a test can hold them."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from tenfold._core.clock import Clock, ManualClock, SystemClock


@pytest.mark.parametrize("clock", [SystemClock(), ManualClock()])
def test_a_uuid_is_version_7_and_carries_the_time(clock: Clock) -> None:
    made = [clock.uuid() for _ in range(200)]
    assert len(set(made)) == 200
    for text in made:
        parsed = uuid.UUID(text)
        assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
        assert abs((parsed.int >> 80) / 1000 - clock.now()) < 5


def test_uuids_sort_by_time() -> None:
    clock = ManualClock()
    made = []
    for _ in range(50):
        made.append(clock.uuid())
        clock.jump(0.002)
    assert made == sorted(made)


def test_the_same_seed_gives_the_same_randomness() -> None:
    one, two, other = ManualClock(seed=1), ManualClock(seed=1), ManualClock(seed=2)
    assert [one.uuid(), one.random.random()] == [two.uuid(), two.random.random()]
    assert one.uuid() != other.uuid()


@pytest.mark.anyio
async def test_sleepers_wake_in_the_order_of_their_times_at_their_times() -> None:
    clock = ManualClock(1000.0)
    woke: list[tuple[str, float, float]] = []

    async def sleep(name: str, *seconds: float) -> None:
        for one in seconds:
            await clock.sleep(one)
            woke.append((name, clock.now(), clock.monotonic()))

    tasks = [asyncio.create_task(sleep("b", 2.0, 2.0)), asyncio.create_task(sleep("a", 1.0, 2.0))]
    await clock.advance(3.0)
    assert woke == [("a", 1001.0, 1.0), ("b", 1002.0, 2.0), ("a", 1003.0, 3.0)]
    await clock.advance(0.999)
    assert len(woke) == 3
    await clock.advance(0.001)
    assert woke[3] == ("b", 1004.0, 4.0)
    await asyncio.gather(*tasks)


@pytest.mark.anyio
async def test_a_jump_moves_wall_time_only_and_wakes_nobody() -> None:
    clock = ManualClock(1000.0)
    sleeper = asyncio.create_task(clock.sleep(5.0))
    await asyncio.sleep(0)
    clock.jump(-100.0)
    assert (clock.now(), clock.monotonic()) == (900.0, 0.0)
    await clock.advance(4.0)
    assert not sleeper.done()
    await clock.advance(1.0)
    assert sleeper.done()


@pytest.mark.anyio
async def test_a_sleeper_that_was_cancelled_does_not_stop_time() -> None:
    clock = ManualClock()
    sleeper = asyncio.create_task(clock.sleep(1.0))
    await asyncio.sleep(0)
    sleeper.cancel()
    await clock.advance(2.0)
    assert sleeper.cancelled()
    assert clock.monotonic() == 2.0


@pytest.mark.anyio
@pytest.mark.parametrize("clock", [SystemClock(), ManualClock()])
async def test_no_time_is_slept_at_once(clock: Clock) -> None:
    async with asyncio.timeout(1):
        await clock.sleep(0)
