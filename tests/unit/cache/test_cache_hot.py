"""Which keys are read most, and what finding out costs."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import sqlalchemy as sa

from tenfold import App, Cache, Service, public
from tenfold._core.clock import ManualClock
from tenfold.cache.backends.memory import Backend
from tenfold.cache.hot import HotKeys


def bound(clock: ManualClock) -> Cache:
    cache = Cache("shop")
    cache.bind(Backend(1_000, clock), clock)
    return cache


def test_the_keys_read_most_are_found_among_many_more_than_are_kept() -> None:
    rng, hot = random.Random(7), HotKeys(keys_max=50)
    for _ in range(20_000):
        hot.see(f"hot:{rng.randrange(3)}" if rng.random() < 0.4 else f"cold:{rng.randrange(100_000)}")
    top = hot.top(3)
    assert {each.key for each in top} == {"hot:0", "hot:1", "hot:2"}
    assert all(0.12 < each.share < 0.17 for each in top)


def test_what_was_hot_long_ago_makes_room() -> None:
    hot = HotKeys()
    for _ in range(64):
        hot.see("yesterday")
    for _ in range(8):
        hot.fade()
        for _ in range(10):
            hot.see("today")
    assert [each.key for each in hot.top(1)] == ["today"]


async def test_only_so_many_reads_are_looked_at_and_the_others_go_as_before() -> None:
    clock = ManualClock()
    cache = bound(clock)
    plain = cache.peek
    cache.sample(5)
    assert cache.peek is not plain
    for n in range(20):
        await cache.get(f"key:{n % 2}")
    assert cache.peek == plain
    assert cache.hot.seen == 5
    assert {each.key for each in cache.hot.top(9)} == {"key:0", "key:1"}


async def test_looking_changes_no_answer_of_a_cached_function_and_of_other_threads() -> None:
    cache = bound(ManualClock())

    @cache.cached(key="double:{n}")
    async def double(n: int) -> int:
        return 2 * n

    cache.sample(3)
    assert [await double(4) for _ in range(6)] == [8] * 6
    cache.sample(3)
    assert await asyncio.to_thread(cache.get_nowait, "double:4") == 8
    assert cache.hot.seen == 3  # a read elsewhere is answered and not counted
    assert cache.hot.top(1)[0].key == "double:4"


async def test_a_cache_that_was_unbound_while_it_looked_stays_unbound() -> None:
    cache = bound(ManualClock())
    cache.sample(2)
    unbound = cache.peek
    await cache.unbind()
    unbound("a")
    unbound("b")
    assert cache.peek.__name__ == "_unbound"


async def test_a_running_app_looks_once_a_second(tmp_path: Path) -> None:
    clock = ManualClock()
    shop = Service("shop", auth=public)
    shop.database(sa.MetaData())
    cache = shop.cache()
    app = App("shop", [shop], clock=clock)
    app.configure(environ={}, app__data_dir=str(tmp_path))
    async with app.lifespan():
        await cache.get("before")
        await clock.advance(1.0)
        await cache.get("after")
        assert [each.key for each in cache.hot.top(9)] == ["after"]
