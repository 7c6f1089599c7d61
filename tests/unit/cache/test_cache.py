"""The facade over the memory backend."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tenfold._core.clock import ManualClock
from tenfold._core.context import Context, current, use
from tenfold.cache.backends.memory import Backend
from tenfold.cache.cache import Cache
from tenfold.cache.load import Load, Unshared
from tenfold.errors import ConfigError, DeadlineExceeded, NotBound, NotFound, Unavailable

pytestmark = pytest.mark.anyio


class Source:
    """A loader that counts its calls, returns what it is told, and can be held back."""

    def __init__(self, value: Any = "v") -> None:
        self.value = value
        self.calls = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self) -> Any:
        self.calls += 1
        value = self.value
        await self.gate.wait()
        if isinstance(value, Exception):
            raise value
        return value


async def spin() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def asked(cache: Cache, key: str, loader: Callable[[], Awaitable[Any]], **options: Any) -> asyncio.Task[Any]:
    return asyncio.create_task(cache.get_or_load(key, loader, **options))


async def test_a_value_is_loaded_once_and_then_served_until_it_expires(
    cache: Cache, clock: ManualClock
) -> None:
    source = Source()
    for _ in range(3):
        assert await cache.get_or_load("k", source) == "v"
    assert source.calls == 1
    await clock.advance(60)
    await cache.get_or_load("k", source)
    assert source.calls == 2
    assert (cache.stats.hits, cache.stats.misses, cache.stats.loads) == (2, 2, 2)


async def test_concurrent_readers_share_one_load(cache: Cache) -> None:
    source = Source()
    assert set(await asyncio.gather(*(cache.get_or_load("k", source) for _ in range(1000)))) == {"v"}
    assert source.calls == 1


async def test_an_error_goes_to_every_waiter_and_is_not_kept(cache: Cache) -> None:
    source = Source(ValueError("broken"))
    got = await asyncio.gather(*(cache.get_or_load("k", source) for _ in range(5)), return_exceptions=True)
    assert [str(error) for error in got] == ["broken"] * 5
    source.value = "v"
    assert await cache.get_or_load("k", source) == "v"
    assert (source.calls, cache.stats.load_errors) == (2, 1)


async def test_a_cancelled_waiter_leaves_the_load_to_the_others(cache: Cache) -> None:
    source = Source()
    source.gate.clear()
    first, second = asked(cache, "k", source), asked(cache, "k", source)
    await spin()
    first.cancel()
    await spin()
    source.gate.set()
    assert await second == "v"
    assert first.cancelled()
    assert source.calls == 1


async def test_a_load_outlives_its_only_waiter_and_serves_the_next_reader(cache: Cache) -> None:
    source = Source()
    source.gate.clear()
    only = asked(cache, "k", source)
    await spin()
    only.cancel()
    await spin()
    source.gate.set()
    await spin()
    assert cache.get_nowait("k") == "v"


async def test_a_load_that_takes_too_long_is_ended_for_everybody(make_cache: Any) -> None:
    cache = make_cache(load_timeout_s=0.01)
    source = Source()
    source.gate.clear()
    with pytest.raises(DeadlineExceeded, match=r"cache shop, 'k': loading took longer than 0\.01 s"):
        await cache.get_or_load("k", source)
    source.gate.set()
    assert await cache.get_or_load("k", source) == "v"


async def test_a_loader_that_is_cancelled_does_not_cancel_its_waiters(cache: Cache) -> None:
    async def loader() -> str:
        raise asyncio.CancelledError

    with pytest.raises(Unavailable, match="was cancelled"):
        await cache.get_or_load("k", loader)


async def test_a_load_has_its_own_deadline_and_none_of_the_callers_state(
    cache: Cache, clock: ManualClock
) -> None:
    seen: list[Context] = []

    async def loader() -> int:
        seen.append(current())
        return 1

    with use(Context(deadline=0.5, request_id="r1")) as context:
        context.state = {"transaction": object()}
        await cache.get_or_load("k", loader)
    assert seen[0].deadline == clock.monotonic() + cache.load_timeout_s
    assert seen[0].state is None
    assert seen[0].request_id == "r1"


async def test_stopping_ends_loads_and_tells_their_waiters(cache: Cache) -> None:
    source = Source()
    source.gate.clear()
    waiting = asked(cache, "k", source)
    unbegun = asked(cache, "other", source)
    await asyncio.sleep(0)
    await cache.unbind()
    for task in (waiting, unbegun):
        with pytest.raises(Unavailable):
            await task


async def test_an_unbound_cache_says_what_to_do() -> None:
    with pytest.raises(NotBound, match="cache 'shop' was used before its app started"):
        await Cache("shop").get_or_load("k", Source())
    with pytest.raises(NotBound):
        await Cache("shop").invalidate("t")


# ── negative answers ──────────────────────────────────────────────────────────────────────────────


async def test_what_does_not_exist_is_asked_for_again_by_default(cache: Cache) -> None:
    for answer in (None, NotFound("no product 5")):
        source = Source(answer)
        await asyncio.gather(cache.get_or_load("k", source), return_exceptions=True)
        await asyncio.gather(cache.get_or_load("k", source), return_exceptions=True)
        assert source.calls == 2


async def test_none_is_kept_for_its_own_time(cache: Cache, clock: ManualClock) -> None:
    source = Source(None)
    for _ in range(2):
        assert await cache.get_or_load("k", source, negative_ttl_s=5) is None
    assert source.calls == 1
    await clock.advance(5)
    await cache.get_or_load("k", source, negative_ttl_s=5)
    assert source.calls == 2


async def test_not_found_is_raised_anew_for_every_reader(cache: Cache) -> None:
    source = Source(NotFound("no product 5"))
    errors = [
        (await asyncio.gather(cache.get_or_load("k", source, negative_ttl_s=5), return_exceptions=True))[0]
        for _ in range(3)
    ]
    assert source.calls == 1
    assert [str(error) for error in errors] == ["no product 5"] * 3
    assert len({id(error) for error in errors}) == 3
    assert (cache.stats.hits, cache.stats.load_errors) == (2, 0)


# ── stale while revalidate ────────────────────────────────────────────────────────────────────────


async def test_a_stale_value_is_served_while_one_refresh_runs(cache: Cache, clock: ManualClock) -> None:
    source = Source("old")
    await cache.get_or_load("k", source, stale_s=30)
    await clock.advance(61)
    source.value = "new"
    source.gate.clear()
    got = await asyncio.gather(*(cache.get_or_load("k", source, stale_s=30) for _ in range(10)))
    assert set(got) == {"old"}
    await spin()
    assert source.calls == 2
    source.gate.set()
    await spin()
    assert await cache.get_or_load("k", source, stale_s=30) == "new"
    assert cache.stats.stale == 10


async def test_a_failing_refresh_serves_on_pauses_and_ends_with_the_stale_time(
    cache: Cache, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    source = Source("old")
    await cache.get_or_load("k", source, stale_s=30)
    source.value = ValueError("down")
    await clock.advance(61)
    for _ in range(5):
        assert await cache.get_or_load("k", source, stale_s=30) == "old"
        await spin()
    assert source.calls == 2  # the pause between two attempts has not passed
    assert "a refresh failed" in caplog.text
    await clock.advance(1)
    await cache.get_or_load("k", source, stale_s=30)
    await spin()
    assert source.calls == 3
    await clock.advance(30)
    with pytest.raises(ValueError, match="down"):
        await cache.get_or_load("k", source, stale_s=30)


async def test_a_refresh_that_finds_nothing_drops_the_stale_value(cache: Cache, clock: ManualClock) -> None:
    source = Source("old")
    await cache.get_or_load("k", source, stale_s=30)
    await clock.advance(61)
    source.value = NotFound("gone")
    assert await cache.get_or_load("k", source, stale_s=30) == "old"
    await spin()
    with pytest.raises(NotFound):
        await cache.get_or_load("k", source, stale_s=30)


# ── invalidation ──────────────────────────────────────────────────────────────────────────────────


async def test_a_tag_drops_what_carries_it_and_nothing_else(cache: Cache) -> None:
    await cache.set("a", 1, tags=("product:5", "red"))
    await cache.set("b", 2, tags=("red",))
    await cache.set("c", 3)
    await cache.invalidate("product:5")
    assert [cache.get_nowait(key) for key in "abc"] == [None, 2, 3]
    await cache.invalidate("red", "c")  # a key is a tag of its own entry
    assert [cache.get_nowait(key) for key in "abc"] == [None, None, None]
    assert cache.stats.invalidations == 3


async def test_a_commit_drops_its_tags_before_it_is_acknowledged(cache: Cache) -> None:
    """The listener of Database.on_invalidate is a plain function: nothing can be read in between."""
    await cache.set("a", 1, tags=("red",))
    cache.forget(frozenset({"red"}))
    assert cache.get_nowait("a") is None
    Cache("unbound").forget({"red"})


async def test_one_text_is_one_tag(cache: Cache) -> None:
    await cache.set("a", 1, tags="red")
    await cache.invalidate("red")
    assert cache.get_nowait("a") is None


@pytest.mark.parametrize("how", ["tag", "key", "delete", "clear", "value's tag"])
async def test_a_slow_load_never_overwrites_a_newer_invalidation(cache: Cache, how: str) -> None:
    source = Source("old")
    source.gate.clear()
    slow = asked(cache, "k", source, tags=("t",), tags_from=lambda value: (f"is:{value}",))
    await spin()
    match how:
        case "tag":
            await cache.invalidate("t")
        case "key":
            await cache.invalidate("k")
        case "delete":
            await cache.delete("k")
        case "clear":
            await cache.clear()
        case _:
            await cache.invalidate("is:old")
    source.gate.set()
    assert await slow == "old"  # who asked before the invalidation may get the value from before it
    assert cache.get_nowait("k") is None
    assert cache.stats.fenced == 1


@pytest.mark.parametrize("tag", ["t", "is:old"])
async def test_who_asks_after_an_invalidation_does_not_get_the_load_from_before(
    cache: Cache, tag: str
) -> None:
    source = Source("old")
    source.gate.clear()
    options: dict[str, Any] = {"tags": ("t",), "tags_from": lambda value: (f"is:{value}",)}
    before = asked(cache, "k", source, **options)
    await spin()
    source.value = "new"
    await cache.invalidate(tag)
    after = [asked(cache, "k", source, **options) for _ in range(10)]
    await spin()
    source.gate.set()
    assert await before == "old"
    assert set(await asyncio.gather(*after)) == {"new"}
    assert cache.get_nowait("k") == "new"


async def test_an_unrelated_invalidation_disturbs_no_load(cache: Cache) -> None:
    source = Source()
    source.gate.clear()
    slow = asked(cache, "k", source, tags=("t",))
    await spin()
    await cache.invalidate("other")
    joined = asked(cache, "k", source, tags=("t",))
    await spin()
    source.gate.set()
    assert (await slow, await joined) == ("v", "v")
    assert source.calls == 1
    assert cache.get_nowait("k") == "v"


async def test_a_slow_load_does_not_overwrite_a_set(cache: Cache) -> None:
    source = Source("old")
    source.gate.clear()
    slow = asked(cache, "k", source)
    await spin()
    await cache.set("k", "new")
    source.gate.set()
    await slow
    assert cache.get_nowait("k") == "new"


async def test_an_error_from_before_an_invalidation_is_not_given_to_who_asks_after(cache: Cache) -> None:
    source = Source(NotFound("no product 5 yet"))
    source.gate.clear()
    before = asked(cache, "k", source, tags_from=lambda value: (), negative_ttl_s=9)
    await spin()
    source.value = "product 5"
    await cache.invalidate("k")
    after = asked(cache, "k", source)
    await spin()
    source.gate.set()
    with pytest.raises(NotFound):
        await before
    assert await after == "product 5"


# ── the rest ──────────────────────────────────────────────────────────────────────────────────────


async def test_get_tells_fresh_values_from_the_default(cache: Cache, clock: ManualClock) -> None:
    await cache.set("k", None)
    assert await cache.get("k", "default") is None
    assert await cache.get("absent", "default") == "default"
    await clock.advance(60)
    assert await cache.get("k", "default") == "default"
    assert (cache.stats.hits, cache.stats.misses) == (1, 2)


async def test_the_setting_is_the_ceiling_of_every_life(make_cache: Any, clock: ManualClock) -> None:
    cache = make_cache(ttl_max_s=10)
    await cache.set("k", 1, ttl_s=1000, stale_s=1000)
    await clock.advance(10)
    assert cache.get_nowait("k") is None


async def test_caches_on_one_backend_do_not_meet(clock: ManualClock) -> None:
    backend = Backend(10, clock)
    one, other = Cache("one"), Cache("other")
    for cache in (one, other):
        cache.bind(backend, clock)
    await one.set("k", 1)
    assert other.get_nowait("k") is None


async def test_an_unshared_value_goes_to_its_own_caller_only(cache: Cache) -> None:
    calls = 0

    async def loader() -> Unshared:
        nonlocal calls
        calls += 1
        mine = calls
        await asyncio.sleep(0)
        return Unshared(mine)

    loads = (cache.load(Load("k", loader, cache.life)) for _ in range(3))
    assert sorted(await asyncio.gather(*loads)) == [1, 2, 3]
    assert len(cache) == 0


async def test_statistics_have_the_names_of_metrics(cache: Cache) -> None:
    await cache.get_or_load("k", Source())
    assert cache.stats.numbers() == {
        "hits_total": 0, "misses_total": 1, "stale_total": 0, "loads_total": 1, "load_errors_total": 0,
        "fenced_total": 0, "invalidations_total": 0, "evictions_total": 0, "far_hits_total": 0,
        "shared_loads_total": 0, "store_errors_total": 0,
    }  # fmt: skip


async def test_impossible_times_are_refused_where_they_are_written() -> None:
    with pytest.raises(ConfigError, match=r"cache shop: ttl_s is 0\."):
        Cache("shop", ttl_s=0)
    with pytest.raises(ConfigError, match="stale_s is -1"):
        Cache("shop").cached(stale_s=-1)
