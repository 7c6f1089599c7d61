"""Hits of the response cache that are answered without a request."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from http_calls import acall, app_of, operation

from tenfold._core.clock import SystemClock
from tenfold.cache.backends.memory import Backend
from tenfold.cache.cache import Cache
from tenfold.cache.response import ResponseStore
from tenfold.http.asgi import HttpApp
from tenfold.http.operation import ResponseCache
from tenfold.telemetry.operations import OperationStats


class Tracer:
    """As far as compiling goes."""

    samples = True
    recorder = None
    origin = "0" * 16
    at = 0

    def pick(self, number: int) -> Any: ...

    def begin(self, traceparent: str | None = None) -> Any: ...

    def root(self, name: str, **attributes: Any) -> Any: ...


class Telemetry:
    def __init__(self, access: Any = None, tracer: Any = None) -> None:
        self.access, self.tracer, self.one = access, tracer, OperationStats("", "", "")

    def stats(self, *_: str) -> OperationStats:
        return self.one


async def read(number: int) -> dict[str, int]:
    return {"id": number}


def served(telemetry: Telemetry, policy: ResponseCache = ResponseCache(ttl_s=60)) -> tuple[HttpApp, Cache]:  # noqa: B008
    cache, clock = Cache("responses"), SystemClock()
    cache.bind(Backend(100, clock), clock)
    cached = operation(read, path="/items/{number}", cache=policy)
    return app_of(cached, telemetry=telemetry, response_cache=ResponseStore(cache), clock=clock), cache


def test_a_hit_is_counted_by_the_operation_and_by_the_cache() -> None:
    telemetry = Telemetry()
    app, cache = served(telemetry)

    async def main() -> list[int]:
        quick = app.endpoints[0].quick
        assert quick is not None
        assert quick(("5",), b"", {}) is None  # nothing is kept yet, and nothing counted
        assert not any(telemetry.one.statuses)
        await acall(app, "GET", "/items/5")
        answer = quick(("5",), b"", {})
        assert answer is not None
        assert answer[2] == b'{"id":5}'
        return telemetry.one.statuses

    assert asyncio.run(main())[2] == 2
    assert cache.stats.hits == 1


def test_a_client_that_may_have_it_or_is_traced_goes_the_long_way() -> None:
    app, _ = served(Telemetry())

    async def main() -> list[Any]:
        await acall(app, "GET", "/items/5")
        quick = app.endpoints[0].quick
        assert quick is not None
        return [quick(("5",), b"", {name: b"x"}) for name in (b"if-none-match", b"traceparent")]

    assert asyncio.run(main()) == [None, None]


@pytest.mark.parametrize(
    ("telemetry", "policy"),
    [
        (Telemetry(access=SimpleNamespace(waiting=None)), ResponseCache()),
        (Telemetry(tracer=Tracer()), ResponseCache()),
        (Telemetry(), ResponseCache(vary=("accept-language",))),
    ],
    ids=["access log", "sampled traces", "headers that vary"],
)
def test_what_somebody_looks_at_goes_the_long_way(telemetry: Telemetry, policy: ResponseCache) -> None:
    app, _ = served(telemetry, policy)
    assert app.endpoints[0].quick is None
