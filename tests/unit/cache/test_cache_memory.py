"""The memory backend's bounds."""

from __future__ import annotations

import pytest

from tenfold._core.clock import ManualClock
from tenfold._core.resolve import backend_class
from tenfold._core.sections import CacheSettings
from tenfold.cache.backends.memory import Backend, MemoryRegion
from tenfold.cache.contract import CacheStats
from tenfold.cache.policy import Entry
from tenfold.errors import ConfigError

pytestmark = pytest.mark.anyio


def entry(*tags: str) -> Entry:
    return Entry("v", fresh_until=1, stale_until=1, tags=tags)


async def test_the_least_recently_used_entry_makes_room() -> None:
    stats = CacheStats()
    region = MemoryRegion(2, stats, ManualClock())
    await region.put("a", entry())
    await region.put("b", entry())
    region.peek("a")
    await region.put("c", entry())
    assert [region.peek(key) is not None for key in "abc"] == [True, False, True]
    assert (len(region), stats.evictions) == (2, 1)


async def test_replacing_an_entry_of_a_full_region_evicts_nobody() -> None:
    stats = CacheStats()
    region = MemoryRegion(2, stats, ManualClock())
    for key in "abab":
        await region.put(key, entry())
    assert stats.evictions == 0


async def test_the_tag_index_keeps_nothing_of_entries_that_are_gone() -> None:
    region = MemoryRegion(3, CacheStats(), ManualClock())
    for number in range(50):
        await region.put(f"k{number}", entry("all", f"tag:{number}"))
    await region.put("k49", entry("all"))
    assert set(region._keys_of) == {"all", "tag:47", "tag:48"}
    await region.invalidate(["all"])
    assert (region._keys_of, len(region)) == ({}, 0)


async def test_a_fill_that_was_overtaken_by_a_later_one_is_not_stored() -> None:
    stats = CacheStats()
    region = MemoryRegion(3, stats, ManualClock())
    early, late = await region.open_fill("k"), await region.open_fill("k")
    newest = entry()
    assert await region.close_fill("k", late, newest)
    assert not await region.close_fill("k", early, entry())
    assert region.peek("k") is newest
    assert stats.fenced == 1


def test_the_url_finds_the_backend_and_takes_no_address() -> None:
    assert backend_class("cache", "memory:", where="cache.url") is Backend
    with pytest.raises(ConfigError, match=r"cache\.url: the memory backend takes no address"):
        Backend.from_url("memory://host", CacheSettings(), ManualClock())
