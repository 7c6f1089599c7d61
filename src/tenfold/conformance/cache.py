"""The cache suite: what every cache backend promises.

Two instances of the backend on one store stand for two processes. A backend that declares ``shared=False`` has
nothing in common with its second instance, and the tests then claim just that.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tenfold._core.clock import SystemClock
from tenfold.cache.cache import Cache
from tenfold.cache.contract import CacheBackend, Capabilities
from tenfold.cache.response import ResponseStore, cached_response
from tenfold.conformance._cache_case import VALUES, CacheCase, Source, change, settle
from tenfold.conformance.kit import together, until
from tenfold.errors import NotFound


class CacheConformance(CacheCase):
    """The claims; :class:`CacheCase` says what a third party overrides."""

    # ── one process ───────────────────────────────────────────────────────────────────────────────

    async def test_a_value_is_loaded_once_and_then_served(self, cache: Cache) -> None:
        """What was loaded is served until it expires."""
        source = Source()
        assert [await cache.get_or_load("k", source) for _ in range(3)] == ["v"] * 3
        assert (source.calls, cache.stats.loads) == (1, 1)

    async def test_a_value_expires(self, cache: Cache) -> None:
        """An entry is served for its declared life, whatever rounds its time."""
        source = Source()
        await cache.get_or_load("k", source, ttl_s=0.3)
        await until(lambda: self._asked_again(cache, source), "the entry's end")

    @staticmethod
    async def _asked_again(cache: Cache, source: Source) -> bool:
        await cache.get_or_load("k", source, ttl_s=0.3)
        return source.calls > 1

    async def test_every_value_comes_back_as_it_was(self, cache: Cache, other: Cache) -> None:
        """Plain data, value types and classes that hold data keep type and value, from another process too."""
        for i, value in enumerate(VALUES):
            await cache.set(f"v{i}", value)
            for reader in (cache, other):
                got = await reader.get_or_load(f"v{i}", Source(value))
                assert (type(got), got) == (type(value), value)

    async def test_what_is_no_data_is_cached_in_its_process(self, cache: Cache, other: Cache) -> None:
        """A value that cannot leave the process is served there, and loaded by each process for itself."""
        sources = Source(asyncio.Event()), Source(asyncio.Event())
        for source, reader in zip(sources, (cache, other), strict=True):
            assert await reader.get_or_load("k", source) is source.value
            assert await reader.get_or_load("k", source) is source.value
        each = 1 if self.settings.get("near_entries", 1) else 2
        assert [source.calls for source in sources] == [each, each]

    @pytest.mark.parametrize("key", ["", "a b\r\nc", "ż" * 300, "x" * 5000, "a:b:c", "{x}", "\x00"])
    async def test_any_text_is_a_key_and_a_tag(self, cache: Cache, other: Cache, key: str) -> None:
        """Keys and tags are any texts of any length, and none is taken for another."""
        await cache.set(key, 1, tags=(f"t{key}",))
        await cache.set(f"{key}'", 2, tags=(f"t{key}'",))
        assert [await cache.get(key), await cache.get(f"{key}'")] == [1, 2]
        await cache.invalidate(f"t{key}")
        assert [await cache.get(key), await cache.get(f"{key}'")] == [None, 2]

    async def test_absence_is_kept_where_it_was_asked_for(
        self, cache: Cache, other: Cache, declared: Capabilities
    ) -> None:
        """With ``negative_ttl_s``, None and NotFound are answers that are kept; each reader gets its own error."""
        gone, none = Source(NotFound("no product 5", product=5)), Source(None)
        for reader in (cache, other):
            for _ in range(2):
                with pytest.raises(NotFound, match="no product 5") as caught:
                    await reader.get_or_load("gone", gone, negative_ttl_s=30)
                assert caught.value.extra == {"product": 5}
                assert await reader.get_or_load("none", none, negative_ttl_s=30) is None
        expected = 1 if declared.shared else 2
        assert (gone.calls, none.calls) == (expected, expected)

    async def test_absence_is_not_kept_by_default(self, cache: Cache) -> None:
        """Without ``negative_ttl_s`` what does not exist is asked for again."""
        source = Source(None)
        assert [await cache.get_or_load("k", source) for _ in range(2)] == [None, None]
        assert source.calls == 2

    async def test_an_error_is_not_kept(self, cache: Cache) -> None:
        """A loader's error goes to who waits for it, and the next reader loads."""
        source = Source(ValueError("broken"))
        with pytest.raises(ValueError, match="broken"):
            await cache.get_or_load("k", source)
        source.value = "v"
        assert await cache.get_or_load("k", source) == "v"

    async def test_a_stale_value_is_served_while_one_loads(self, pair: tuple[Cache, Cache]) -> None:
        """After its life and within ``stale_s`` a value is served at once, and replaced in the background."""
        source = Source("old")
        for cache in pair:
            await cache.get_or_load("k", source, ttl_s=0.2, stale_s=60)
        calls = source.calls
        source.value = "new"
        got: list[str] = []

        async def is_replaced() -> bool:
            got.extend([await cache.get_or_load("k", source, ttl_s=30, stale_s=60) for cache in pair])
            return got[-2:] == ["new", "new"]

        await until(is_replaced, "the refresh")
        assert set(got) == {"old", "new"}
        shared = pair[0]._shared
        assert source.calls == calls + (1 if shared else 2)

    async def test_a_response_is_kept_whole(self, pair: tuple[Cache, Cache], declared: Capabilities) -> None:
        """Responses of HTTP operations come back with their headers, and with an age on this process's clock."""
        clock = SystemClock()
        response = cached_response(
            200, [(b"content-type", b"text/plain")], b"hi", cache_control=b"public", now=clock.monotonic()
        )
        stores = [ResponseStore(cache) for cache in pair]
        source = Source(response)
        answers = [await store.fill("GET /", source, pair[0].life) for store in stores]
        assert [(a.status, a.headers, a.not_modified, a.body, a.etag) for a in answers] == [
            (200, response.headers, response.not_modified, b"hi", response.etag)
        ] * 2
        assert all(0 <= clock.monotonic() - answer.stored_at < 5 for answer in answers)
        assert source.calls == (1 if declared.shared else 2)

    # ── changes ───────────────────────────────────────────────────────────────────────────────────

    @pytest.mark.parametrize("how", ["tag", "value's tag", "key", "delete", "clear"])
    async def test_what_is_invalidated_is_found_nowhere(
        self, cache: Cache, other: Cache, declared: Capabilities, how: str
    ) -> None:
        """After a change returned, its process loads anew at once, and the others within their copies' bound."""
        source = Source("old")
        options: dict[str, Any] = {"tags": ("t",), "tags_from": lambda value: (f"is:{value}",)}
        for reader in (cache, other):
            await reader.get_or_load("k", source, **options)
        source.value = "new"
        await change(cache, how)
        assert await cache.get_or_load("k", source, **options) == "new"
        if declared.shared:
            await until(
                lambda: self._reads(other, source, options, "new"),
                "the other process's reading",
                timeout_s=1.5,
            )
        else:
            assert await other.get_or_load("k", source, **options) == "old"

    @staticmethod
    async def _reads(cache: Cache, source: Source, options: dict[str, Any], value: str) -> bool:
        return bool(await cache.get_or_load("k", source, **options) == value)

    async def test_a_change_leaves_the_rest(self, cache: Cache) -> None:
        """What carries none of the names stays."""
        for key, tags in (("a", ("red",)), ("b", ("red", "blue")), ("c", ())):
            await cache.set(key, key, tags=tags)
        await cache.invalidate("blue")
        assert [await cache.get(key) for key in "abc"] == ["a", None, "c"]

    @pytest.mark.parametrize("how", ["tag", "value's tag", "key", "delete", "clear", "set"])
    @pytest.mark.parametrize("by", ["itself", "another"])
    async def test_a_slow_fill_never_overwrites_a_newer_change(
        self, pair: tuple[Cache, Cache], declared: Capabilities, how: str, by: str
    ) -> None:
        """A load that began before a change, by whichever process, is not stored after it."""
        cache, changer = pair[0], pair[0] if by == "itself" or not declared.shared else pair[1]
        source = Source("old")
        options: dict[str, Any] = {"tags": ("t",), "tags_from": lambda value: (f"is:{value}",)}
        if how == "value's tag":
            await changer.set("beside", 1, tags=("is:old",))  # the tag exists already
        source.open.clear()
        slow = asyncio.create_task(cache.get_or_load("k", source, **options))
        await until(lambda: source.calls, "the load")
        await change(changer, how)
        source.open.set()
        assert await slow == "old"
        fresh = Source("new")
        readers = pair if declared.shared else pair[:1]
        assert [await reader.get_or_load("k", fresh, **options) for reader in readers] == ["new"] * len(
            readers
        )

    async def test_who_asks_after_a_change_does_not_get_the_load_from_before(self, cache: Cache) -> None:
        """A reader joins no load that began before a change that had returned when it asked."""
        source = Source("old")
        source.open.clear()
        before = asyncio.create_task(cache.get_or_load("k", source, tags=("t",)))
        await until(lambda: source.calls, "the load")
        source.value = "new"
        await cache.invalidate("t")
        after = asyncio.create_task(cache.get_or_load("k", source, tags=("t",)))
        await until(lambda: source.calls == 2, "the second load")
        source.open.set()
        assert [await before, await after] == ["old", "new"]

    async def test_refresh_replaces_for_all(self, cache: Cache, other: Cache, declared: Capabilities) -> None:
        """``refresh`` loads whatever is stored, and everybody gets what it loaded."""
        versions = iter(range(10))

        def decorated(of: Cache) -> Any:
            @of.cached(key="v")
            async def version() -> int:
                return next(versions)

            return version

        mine, theirs = decorated(cache), decorated(other)
        assert [await mine(), await mine.refresh(), await mine()] == [0, 1, 1]
        if declared.shared:
            assert await theirs() == 1

    # ── several processes ─────────────────────────────────────────────────────────────────────────

    async def test_one_load_per_key(self, pair: tuple[Cache, Cache], declared: Capabilities) -> None:
        """However many ask in however many processes: as far as leases reach, one of them loads."""
        source = Source()
        source.open.clear()
        asked = [asyncio.create_task(c.get_or_load("k", source)) for c in pair for _ in range(100)]
        await until(lambda: source.calls, "the load")
        asyncio.get_running_loop().call_later(0.1, source.open.set)
        assert set(await together(asked)) == {"v"}
        assert source.calls == (1 if declared.leases == "fleet" else 2)

    async def test_a_load_that_gives_nothing_to_keep_holds_nobody_up(self, pair: tuple[Cache, Cache]) -> None:
        """Where the answer is not kept, who waited for it asks for itself, all at the same time."""
        source = Source(None)
        source.open.clear()
        asked = [asyncio.create_task(c.get_or_load("k", source)) for c in pair for _ in range(10)]
        await until(lambda: source.calls, "the load")
        source.open.set()
        assert set(await together(asked)) == {None}
        assert source.calls <= 2 * len(pair)

    # ── transactions ──────────────────────────────────────────────────────────────────────────────

    async def test_what_is_about_to_change_is_read_from_the_source(
        self, backends: tuple[CacheBackend, CacheBackend], pair: tuple[Cache, Cache], declared: Capabilities
    ) -> None:
        """Between announcement and end of a transaction, who asks the store loads, and nothing is stored."""
        source = Source("old")
        reader = pair[1]
        await reader.get_or_load("k", source, tags=("t",))
        ended = await backends[0].announce(["t"])
        if not declared.shared:
            assert ended is None
            return
        assert ended is not None
        await until(lambda: self._loads(reader, source), "the reader's look at the source", timeout_s=1.5)
        before = source.calls
        assert await self._loads(reader, source)
        assert source.calls == before + 1
        pair[0].forget(["t"])
        await settle(ended(True))
        source.value = "new"
        await until(
            lambda: self._reads(reader, source, {"tags": ("t",)}, "new"), "the new value", timeout_s=1.5
        )
        calls = source.calls
        await until(lambda: self._is_kept(reader, source), "the new value's keeping")
        assert source.calls <= calls + 20

    @staticmethod
    async def _loads(cache: Cache, source: Source) -> bool:
        before = source.calls
        await cache.get_or_load("k", source, tags=("t",))
        return source.calls > before

    @staticmethod
    async def _is_kept(cache: Cache, source: Source) -> bool:
        return not await CacheConformance._loads(cache, source)

    async def test_one_transaction_does_not_end_another(
        self, backends: tuple[CacheBackend, CacheBackend], pair: tuple[Cache, Cache], declared: Capabilities
    ) -> None:
        """While one of two transactions that change the same is still about to commit, nothing is stored."""
        first = await backends[0].announce(["t"])
        second = await backends[1].announce(["t"])
        if first is None or second is None:
            assert not declared.shared
            return
        await settle(first(True))
        source = Source()
        reader = pair[1]
        await asyncio.sleep(0.05)
        assert [await self._loads(reader, source) for _ in range(3)] == [True] * 3
        await settle(second(False))
        await until(lambda: self._is_kept(reader, source), "the end of both")

    # ── strict ────────────────────────────────────────────────────────────────────────────────────

    async def test_a_strict_read_is_never_older_than_an_acknowledged_change(
        self, backends: tuple[CacheBackend, CacheBackend], declared: Capabilities
    ) -> None:
        """In strict mode a change is seen by the very next read, as far as strictness reaches."""
        writer, reader = self.make_pair(backends, "strict", strict=True)
        readers = (writer, reader) if declared.strict == "fleet" else (writer,)
        version = 0

        async def load() -> int:
            return version

        for version in range(1, 101):
            await writer.invalidate("t")
            assert [await each.get_or_load("k", load, tags=("t",)) for each in readers] == [version] * len(
                readers
            )
            assert [await each.get_or_load("k", load, tags=("t",)) for each in readers] == [version] * len(
                readers
            )
        for cache in (writer, reader):
            await cache.unbind()

    async def test_a_strict_read_joins_no_load_from_before_it(
        self, backends: tuple[CacheBackend, CacheBackend], declared: Capabilities
    ) -> None:
        """A load of this process that began before another's acknowledged change answers no later strict read."""
        writer, reader = self.make_pair(backends, "strict-join", strict=True)
        if declared.strict != "fleet":
            writer = reader
        source = Source("old")
        source.open.clear()
        before = asyncio.create_task(reader.get_or_load("k", source, tags=("t",)))
        await until(lambda: source.calls, "the load")
        source.value = "new"
        await writer.invalidate("t")
        after = asyncio.create_task(reader.get_or_load("k", source, tags=("t",)))
        await asyncio.sleep(0.05)
        source.open.set()
        assert [await before, await after] == ["old", "new"]
        for cache in {writer, reader}:
            await cache.unbind()
