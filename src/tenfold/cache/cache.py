"""The cache that services hold: single flight, tags, negative answers, stale-while-revalidate.

    cache = catalog.cache(ttl_s=60)

    @cache.cached(key="product:{product_id}", tags=("products",))
    async def get_product(product_id: int) -> Product: ...

    product = await get_product(5)
    await get_product.invalidate(5)

Inside a transaction, ``tx.invalidate("product:5")`` invalidates when it commits, before the commit is
acknowledged: who sees the acknowledgement never reads the old value from this process again.

**Values are shared.** The memory backend returns the stored object itself to every reader. Treat cached
values as immutable; frozen Structs, tuples and bytes enforce it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from threading import get_ident
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from tenfold._core.clock import Clock
from tenfold.cache.contract import CacheBackend, CacheRegion, CacheStats
from tenfold.cache.decorator import CachedFunction, cached_function
from tenfold.cache.flight import Flights, LoadGate
from tenfold.cache.hot import READS, HotKeys
from tenfold.cache.load import Load, as_tags
from tenfold.cache.misses import Misses
from tenfold.cache.policy import (
    Entry,
    Lifetime,
    entry_of,
)
from tenfold.errors import NotBound

if TYPE_CHECKING:
    from typing import Never

P = ParamSpec("P")
T = TypeVar("T")
D = TypeVar("D")

log = logging.getLogger("tenfold.cache")


LOADS_MAX = 64
_NOWHERE: dict[str, Entry] = {}
"""Where strict reads look for an entry in this process."""


class Cache(Misses):
    """A named cache; unusable until the app that owns it binds it to a backend.

    ``ttl_s`` (default 60), ``stale_s`` (0), ``negative_ttl_s`` (None) and ``jitter`` (0.1) are defaults of
    its entries, described in :class:`~tenfold.cache.policy.Lifetime`; the setting ``cache.ttl_max_s`` is the
    ceiling of any life. ``load_timeout_s`` (30) bounds every load. Keys are strings; an entry's key is also
    one of its tags. All methods belong to the event loop's thread, except :meth:`get_nowait`, which any
    thread may call.

    On a store that other processes share, reads may be older than an acknowledged write by
    ``cache.near_ttl_s`` (1) at most. With ``strict=True`` they are not: every read asks the store, and a
    transaction whose invalidations cannot be told to the store fails (503). See docs/guides/caching.md.
    """

    def __init__(
        self,
        name: str,
        *,
        ttl_s: float = 60.0,
        stale_s: float = 0.0,
        negative_ttl_s: float | None = None,
        jitter: float = 0.1,
        load_timeout_s: float = 30.0,
        strict: bool = False,
    ) -> None:
        self.name = name
        self.strict = strict
        self.told_strictly = strict
        """Whether some of its reads are strict: the store must be told of changes."""
        self.load_timeout_s = load_timeout_s
        self.life = Lifetime(ttl_s, stale_s, negative_ttl_s, jitter).checked(f"cache {name}")
        self.stats = CacheStats()
        self.key_makers: dict[str, str] = {}
        """Which function makes the keys of a form; two functions must not share one."""
        self.peek: Callable[[str], Entry | None] = self._unbound
        """The region's `peek`: an attribute here too, to save hits a call."""
        self.strict_peek: Callable[[str], Entry | None] = self._unbound
        """The same for strict reads: finds nothing where other processes change what is stored."""
        self.monotonic: Callable[[], float] = self._unbound
        self.hot = HotKeys()
        """What is read most, of the reads that :meth:`sample` looks at."""
        self._looks_left = 0
        self._bound: tuple[CacheRegion, Clock, Flights, float] | None = None
        self._gate = LoadGate(LOADS_MAX)
        self._shared = False

    def bind(
        self,
        backend: CacheBackend,
        clock: Clock,
        *,
        ttl_max_s: float = 86_400.0,
        gate: LoadGate | None = None,
    ) -> None:
        """Connect to a started backend; statistics begin at 0. ``gate`` bounds the loads of several caches."""
        self.stats.reset()  # in place: decorated functions hold the object
        region = backend.region(self.name, self.stats)
        region.strict = self.told_strictly
        self._bound = (region, clock, Flights(clock), ttl_max_s)
        self._looks_left = 0
        self.hot = HotKeys()
        self._gate = gate or LoadGate(LOADS_MAX)
        self._shared = backend.capabilities.shared
        self.strict_peek = _NOWHERE.get if self._shared else region.peek
        self.peek = self.strict_peek if self.strict else region.peek
        self.monotonic = clock.monotonic

    async def unbind(self) -> None:
        """End the loads under way (their waiters get Unavailable) and let the entries go."""
        if self._bound is None:
            return
        flights = self._bound[2]
        self._bound = None
        self.peek = self.strict_peek = self.monotonic = self._unbound
        await flights.stop()

    def sample(self, reads: int = READS) -> None:
        """Look at the next reads, so many: :attr:`hot` counts their keys. The others cost what they always do."""
        if self._bound is None:
            return
        looking, self._looks_left = self._looks_left > 0, reads
        if looking:
            return  # those of the last time are not through yet
        see, peek, strict_peek = self.hot.see, self.peek, self.strict_peek
        bound, thread = self._bound, get_ident()

        def looked(key: str, real: Callable[[str], Entry | None]) -> Entry | None:
            if get_ident() == thread:  # get_nowait may be called in any, and one writes
                self._looks_left -= 1
                if self._looks_left <= 0 and self._bound is bound:
                    self.peek, self.strict_peek = peek, strict_peek
                see(key)
            return real(key)

        self.peek = lambda key: looked(key, peek)
        self.strict_peek = lambda key: looked(key, strict_peek)

    # ── reading ───────────────────────────────────────────────────────────────────────────────────

    async def get_or_load(
        self,
        key: str,
        loader: Callable[[], Awaitable[T]],
        *,
        ttl_s: float | None = None,
        tags: Iterable[str] = (),
        tags_from: Callable[[T], Iterable[str]] | None = None,
        stale_s: float | None = None,
        negative_ttl_s: float | None = None,
    ) -> T:
        """The cached value, or what ``loader()`` returns, then cached.

        Concurrent callers of one key share one load; its error goes to all of them and is not kept.
        ``tags`` are known beforehand, ``tags_from(value)`` adds those that the value tells. The loader
        reads committed data: it runs outside of the caller's transaction and deadline.

        Raises what the loader raises, DeadlineExceeded when it takes longer than ``load_timeout_s``,
        Unavailable when the app stops meanwhile.
        """
        entry = self.peek(key)
        if entry is not None and entry.fresh_until > self.monotonic():
            self.stats.hits += 1
            value: T = entry.value
            return value
        life = self.lifetime(ttl_s, stale_s, negative_ttl_s)
        loaded: T = await self.load(Load(key, loader, life, tags, tags_from))
        return loaded

    async def get(self, key: str, default: D | None = None) -> Any | D | None:
        """The value if it is fresh, else ``default``; never loads."""
        region, now = self._region(), self.monotonic()
        if self._looks_left > 0:
            self.peek(key)  # to be counted
        entry = None if self.strict and self._shared else region.look(key, now)
        if entry is None or entry.fresh_until <= now:
            entry = await region.get(key)
        if entry is None or entry.fresh_until <= self.monotonic():
            self.stats.misses += 1
            return default
        self.stats.hits += 1
        return entry.value

    def get_nowait(self, key: str) -> Any:
        """The value if it is fresh and in this process, else None. Two calls; counts hits only."""
        entry = self.peek(key)
        if entry is None or entry.fresh_until <= self.monotonic():
            return None
        self.stats.hits += 1
        return entry.value

    # ── changing ──────────────────────────────────────────────────────────────────────────────────

    async def set(
        self,
        key: str,
        value: Any,
        *,
        ttl_s: float | None = None,
        tags: Iterable[str] = (),
        stale_s: float | None = None,
    ) -> None:
        """Store a value; loads of the key that are under way will not overwrite it.

        Prefer :meth:`get_or_load` for what is read elsewhere: only it knows when the reading began, so only
        it can drop a value that was invalidated meanwhile. None is stored like any value.
        """
        region, clock, _, ceiling_s = self._parts()
        life = self.lifetime(ttl_s, stale_s, None)
        life = replace(life, negative_ttl_s=life.ttl_s)
        entry = entry_of(value, life, as_tags(tags), clock.monotonic(), ceiling_s, clock.random)
        assert entry is not None  # only None without a negative life is not kept
        await region.put(key, entry)

    async def delete(self, key: str) -> None:
        """Drop one entry; loads of it that are under way will not be stored."""
        await self._region().delete(key)

    async def invalidate(self, *tags: str) -> None:
        """Drop every entry that has one of the tags, or is named so by its key.

        When it returns, no read of this cache gives what was loaded before; loads that are under way serve
        only those who asked before.
        """
        await self._region().invalidate(tags)

    def forget(self, tags: Iterable[str]) -> None:
        """What :meth:`invalidate` does in this process, at once: for ``Database.on_invalidate``, which calls
        it between a commit and its acknowledgement. Does nothing on an unbound cache, which holds nothing."""
        if self._bound is not None:
            self._bound[0].forget(tags)

    async def clear(self) -> None:
        """Drop everything."""
        await self._region().clear()

    def __len__(self) -> int:
        return len(self._region())

    # ── the decorator ─────────────────────────────────────────────────────────────────────────────

    @overload
    def cached(self, function: Callable[P, Awaitable[T]], /) -> CachedFunction[P, T]: ...
    @overload
    def cached(
        self,
        *,
        key: str | Callable[..., str] | None = None,
        ttl_s: float | None = None,
        tags: Iterable[str] | Callable[..., Iterable[str]] = (),
        tags_from: Callable[[Any], Iterable[str]] | None = None,
        stale_s: float | None = None,
        negative_ttl_s: float | None = None,
        strict: bool = False,
    ) -> Callable[[Callable[P, Awaitable[T]]], CachedFunction[P, T]]: ...
    def cached(
        self,
        function: Callable[..., Awaitable[Any]] | None = None,
        *,
        key: str | Callable[..., str] | None = None,
        ttl_s: float | None = None,
        tags: Iterable[str] | Callable[..., Iterable[str]] = (),
        tags_from: Callable[[Any], Iterable[str]] | None = None,
        stale_s: float | None = None,
        negative_ttl_s: float | None = None,
        strict: bool = False,
    ) -> Any:
        """Cache what an async function returns, per arguments.

        ``key`` and ``tags`` are templates over the arguments (``"product:{product_id}"``) or functions of
        the same arguments. Without ``key`` the function's name and its arguments are the key; they must then
        be plain values (numbers, texts, dates, enums, tuples or Structs of them). In a key of several texts
        write ``{name!r}``, so that ("a:b", "c") and ("a", "b:c") differ.

        ``strict=True`` makes the reads of this function strict, as in a strict cache; it makes the
        transactions that invalidate fail where they would with one.

        The function gains ``.invalidate(*args)``, ``.refresh(*args)`` (load now, replace, return) and
        ``.key(*args)``.

        Raises DeclarationError for a function that is not async, a template that names no parameter, and a
        key form that another function of this cache has.
        """
        life = self.lifetime(ttl_s, stale_s, negative_ttl_s)
        strict = strict or self.strict
        if strict:
            self._tell_strictly()

        def decorate(fn: Callable[..., Awaitable[Any]]) -> CachedFunction[..., Any]:
            return cached_function(self, fn, life, key=key, tags=tags, tags_from=tags_from, strict=strict)

        return decorate if function is None else decorate(function)

    def lifetime(self, ttl_s: float | None, stale_s: float | None, negative_ttl_s: float | None) -> Lifetime:
        """This cache's defaults with what is not None replaced; raises ConfigError for impossible times."""
        if ttl_s is None and stale_s is None and negative_ttl_s is None:
            return self.life
        given = {"ttl_s": ttl_s, "stale_s": stale_s, "negative_ttl_s": negative_ttl_s}
        changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        return replace(self.life, **changes).checked(f"cache {self.name}")

    def _tell_strictly(self) -> None:
        self.told_strictly = True
        if self._bound is not None:
            self._bound[0].strict = True

    # ── binding ───────────────────────────────────────────────────────────────────────────────────

    def _parts(self) -> tuple[CacheRegion, Clock, Flights, float]:
        return self._bound or self._unbound()

    def _region(self) -> CacheRegion:
        return self._parts()[0]

    def _unbound(self, *_: object) -> Never:
        raise NotBound(
            f"The cache {self.name!r} was used before its app started; use it inside of operations, jobs or "
            "on_start functions, or bind it yourself with Cache.bind(backend, clock)."
        )
