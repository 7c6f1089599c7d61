"""Whole responses: what may be kept, the headers of 200 and 304, and who gets what."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

from tenfold._core.clock import ManualClock, SystemClock
from tenfold.cache.backends.memory import Backend
from tenfold.cache.cache import Cache
from tenfold.cache.policy import Lifetime
from tenfold.cache.response import CachedResponse, ResponseStore, cached_response, is_cacheable

JSON = (b"content-type", b"application/json")
LIFE = Lifetime(10, jitter=0)


def made(body: bytes = b"{}", *headers: tuple[bytes, bytes], now: float = 5.0) -> CachedResponse:
    return cached_response(200, [JSON, *headers], body, cache_control=b"public, max-age=10", now=now)


def test_a_response_has_length_etag_and_cache_control() -> None:
    headers = dict(made(b'{"id":1}', (b"content-length", b"99"), (b"cache-control", b"no-cache")).headers)
    assert headers[b"content-length"] == b"8"
    assert headers[b"cache-control"] == b"public, max-age=10"
    assert headers[b"etag"].startswith(b'"')
    assert headers[b"etag"] != dict(made(b'{"id":2}').headers)[b"etag"]


def test_a_304_repeats_what_the_client_must_know_again_and_nothing_of_the_body() -> None:
    vary = (b"vary", b"accept")
    assert {name for name, _ in made(b"{}", vary).not_modified} == {b"etag", b"cache-control", b"vary"}


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b'"v1"', True),
        (b'W/"v1"', True),
        (b'"v0", W/"v1"', True),
        (b" * ", True),
        (b'"v0"', False),
        (b"v1", False),
    ],
)
@pytest.mark.parametrize("etag", [b'"v1"', b'W/"v1"'])
def test_if_none_match_compares_weakly_and_takes_lists(sent: bytes, etag: bytes, expected: bool) -> None:
    assert made(b"{}", (b"etag", etag)).matches(sent) is expected


@pytest.mark.parametrize(
    ("status", "header", "expected"),
    [
        (200, JSON, True),
        (200, (b"cache-control", b"max-age=5"), True),
        (200, (b"set-cookie", b"session=1"), False),
        (200, (b"cache-control", b"max-age=5, no-store"), False),
        (200, (b"cache-control", b"private"), False),
        (201, JSON, False),
        (404, JSON, False),
        (503, JSON, False),
    ],
)
def test_only_a_plain_200_for_everybody_is_kept(
    status: int, header: tuple[bytes, bytes], expected: bool
) -> None:
    assert is_cacheable(status, [header]) is expected


@pytest.mark.anyio
async def test_one_produces_for_all_who_ask_and_the_rest_is_hits(cache: Cache, clock: ManualClock) -> None:
    store = ResponseStore(cache)
    calls = 0

    async def produce() -> CachedResponse:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0)
        return made()

    got = await asyncio.gather(*(store.fill("GET /p/5", produce, LIFE, ["product:5"]) for _ in range(9)))
    assert calls == 1
    assert all(response is got[0] for response in got)
    assert store.lookup("GET /p/5") is got[0]
    await clock.advance(10)
    assert store.lookup("GET /p/5") is None
    await store.fill("GET /p/5", produce, LIFE, ["product:5"])
    cache.forget(["product:5"])
    assert store.lookup("GET /p/5") is None


@pytest.mark.anyio
async def test_what_may_not_be_kept_goes_to_its_own_caller_alone(cache: Cache) -> None:
    """A response that sets a cookie would else log others in as the one who asked first."""
    store = ResponseStore(cache)

    async def ask(name: str) -> Any:
        async def produce() -> str:
            await asyncio.sleep(0)
            return f"session of {name}"

        return await store.fill("GET /me", produce, LIFE)

    assert await asyncio.gather(*(ask(name) for name in "abc")) == [f"session of {n}" for n in "abc"]
    assert store.lookup("GET /me") is None


def test_a_lookup_makes_three_calls() -> None:
    cache = Cache("responses")
    cache.bind(Backend(10, SystemClock()), SystemClock())
    store = ResponseStore(cache)
    asyncio.run(cache.set("k", made()))
    calls: list[str] = []

    def profiler(frame: Any, event: str, arg: Any) -> None:
        if event in ("call", "c_call"):
            calls.append(event)

    sys.setprofile(profiler)
    hit = store.lookup("k")
    sys.setprofile(None)
    assert hit is not None
    assert len(calls) - 1 == 3, "setprofile(None) counts as one"
