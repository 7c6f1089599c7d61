"""Whole HTTP responses in a cache: encoded once, answered without decoding, handler or encoding.

store = ResponseStore(cache)                       # one per app
hit = store.lookup(key)                            # three calls
if hit is not None:
    headers = hit.not_modified if hit.matches(if_none_match) else hit.headers
else:
    answer = await store.fill(key, produce, life, tags)
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

import msgspec

from tenfold.cache.cache import Cache
from tenfold.cache.codec import portable
from tenfold.cache.contract import CacheStats
from tenfold.cache.load import Load, Unshared
from tenfold.cache.policy import Lifetime

T = TypeVar("T")
Headers = list[tuple[bytes, bytes]]

# RFC 9110 § 15.4.5: what a 304 repeats of the headers that the 200 would have had.
_KEPT_BY_304 = frozenset(
    {b"cache-control", b"content-location", b"date", b"etag", b"expires", b"last-modified", b"vary"}
)
_FOR_ONE_CLIENT = frozenset({b"set-cookie", b"www-authenticate"})
_UNCACHED_DIRECTIVES = (b"no-store", b"private", b"no-cache")


class CachedResponse(msgspec.Struct, frozen=True):
    """A response with the header lists of its 200 and of its 304 made beforehand. Do not change the lists."""

    status: int
    headers: Headers
    not_modified: Headers
    """Headers of the answer to a client that has this response already."""
    body: bytes
    etag: bytes
    stored_at: float
    """Monotonic seconds; the ``Age`` header is what passed since."""
    shown: tuple[int, Any] | None = None
    """The age that the HTTP layer last gave this response out with, and the whole answer as it did."""

    def matches(self, if_none_match: bytes) -> bool:
        """Whether ``If-None-Match`` names this response (weak comparison, RFC 9110 § 13.1.2)."""
        if if_none_match == self.etag:
            return True
        tags = (tag.strip().removeprefix(b"W/") for tag in if_none_match.split(b","))
        return if_none_match.strip() == b"*" or self.etag in tags


def cached_response(
    status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes, *, cache_control: bytes, now: float
) -> CachedResponse:
    """A response ready to be kept: with ETag (of the body, unless there is one), length and Cache-Control."""
    kept = [(name, value) for name, value in headers if name not in (b"content-length", b"cache-control")]
    etag = next((value for name, value in kept if name == b"etag"), b"")
    if not etag:
        etag = b'"%s"' % hashlib.blake2b(body, digest_size=12).hexdigest().encode()
        kept.append((b"etag", etag))
    kept += [(b"cache-control", cache_control), (b"content-length", b"%d" % len(body))]
    not_modified = [pair for pair in kept if pair[0] in _KEPT_BY_304]
    return CachedResponse(status, kept, not_modified, body, etag.removeprefix(b"W/"), now)


def is_cacheable(status: int, headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a response may be given to others: a plain 200 that sets no cookie and forbids no storing."""
    return status == 200 and not any(
        name in _FOR_ONE_CLIENT
        or (name == b"cache-control" and any(word in value for word in _UNCACHED_DIRECTIVES))
        for name, value in headers
    )


def _dump(response: CachedResponse) -> Any:
    return (response.status, response.headers, response.not_modified, response.body, response.etag)


def _load(fields: Any, made_at: float) -> CachedResponse:
    status, headers, not_modified, body, etag = fields
    pairs = [[(name, value) for name, value in some] for some in (headers, not_modified)]
    return CachedResponse(status, pairs[0], pairs[1], body, etag, made_at)


portable(CachedResponse, "response", _dump, _load)  # its age is counted by each process's own clock


class ResponseStore:
    """The responses kept in one cache."""

    __slots__ = ("_cache",)

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def lookup(self, key: str) -> CachedResponse | None:
        """The response if it is fresh, else None; three calls, this one included."""
        cache = self._cache
        entry = cache.peek(key)
        if entry is None or entry.fresh_until <= cache.monotonic():
            return None
        cache.stats.hits += 1
        response: CachedResponse = entry.value
        return response

    @property
    def stats(self) -> CacheStats:
        """What :meth:`lookup` counts."""
        return self._cache.stats

    def peek(self, key: str, now: float) -> CachedResponse | None:
        """The response if it is fresh at ``now`` (monotonic), not counted; two calls."""
        entry = self._cache.peek(key)
        if entry is None or entry.fresh_until <= now:
            return None
        response: CachedResponse = entry.value
        return response

    async def keep(self, key: str, response: CachedResponse, ttl_s: float) -> None:
        """Store a response that was made already, for as long as its maker says."""
        await self._cache.set(key, response, ttl_s=ttl_s)

    async def fill(
        self,
        key: str,
        produce: Callable[[], Awaitable[CachedResponse | T]],
        life: Lifetime,
        tags: Iterable[str] = (),
    ) -> CachedResponse | T:
        """The stored response, stale ones within ``life.stale_s`` included, or what ``produce()`` makes.

        One ``produce`` per key runs at a time. What it returns is kept and shared only if it is a
        CachedResponse; anything else (an error, a response with a cookie) goes to its own caller alone, and
        those who waited make their own. It runs in a task of its own, without the caller's deadline.
        """

        async def load() -> CachedResponse | Unshared:
            made = await produce()
            return made if isinstance(made, CachedResponse) else Unshared(made)

        answer: CachedResponse | T = await self._cache.load(Load(key, load, life, tags))
        return answer
