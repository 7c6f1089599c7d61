"""The hot path's price in calls, Python's and C's, over one whole ASGI call."""
# ruff: noqa: A002 - parameters are named as on the wire

from __future__ import annotations

import asyncio
import gc
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import msgspec
import sqlalchemy as sa
from http_calls import JSON, app_of, operation, scope_of
from msgspec import Meta

from tenfold._core.clock import SystemClock
from tenfold._core.sections import LogSettings
from tenfold.app import App
from tenfold.assembly import Assembly
from tenfold.cache.backends.memory import Backend
from tenfold.cache.cache import Cache
from tenfold.cache.response import ResponseStore
from tenfold.http.asgi import HttpApp
from tenfold.http.operation import ResponseCache
from tenfold.security.accounts import Accounts
from tenfold.security.policy import authenticated, public
from tenfold.service import Service
from tenfold.telemetry.log import configure
from tenfold.telemetry.operations import OperationStats


class Item(msgspec.Struct):
    id: int
    q: str | None


class Order(msgspec.Struct):
    customer: str
    quantity: Annotated[int, Meta(ge=1)]


async def get_item(id: int, q: str | None = None) -> Item:
    return Item(id, q)


async def place(order: Order) -> Order:
    return order


class Metrics:
    tracer = None
    access = None

    def stats(self, operation: str, method: str, route: str) -> OperationStats:
        return OperationStats(operation, method, route)


HEADERS = [(b"host", b"localhost"), (b"user-agent", b"wrk"), (b"accept", b"*/*"), JSON]


async def calls_of(
    app: HttpApp | App, method: str, target: str, body: bytes = b"", token: Callable[[], Any] | None = None
) -> list[str]:
    """The calls of the third of three equal requests, with those of our receive and send."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    calls: list[str] = []

    def profile(frame: Any, event: str, arg: Any) -> None:
        if event == "call":
            calls.append(frame.f_code.co_qualname)
        elif event == "c_call":
            calls.append(arg.__qualname__)

    await app.start()
    headers = [*HEADERS]
    if token is not None:
        headers.append((b"authorization", b"Bearer " + (await token()).encode()))
    for _ in range(2):
        await app(scope_of(method, target, headers), receive, send)
    scope = scope_of(method, target, headers)
    work = app(scope, receive, send)
    gc.disable()  # Hypothesis is told of each collection, and in the middle of a request that would be four calls more
    sys.setprofile(profile)
    try:
        await work
    finally:
        sys.setprofile(None)
        gc.enable()
        await app.stop()
    assert [m["status"] for m in sent if "status" in m] == [200, 200, 200]
    return [name for name in calls if "setprofile" not in name]


def test_a_typed_get_costs_at_most_35_calls() -> None:
    app = app_of(operation(get_item, path="/items/{id}"), telemetry=Metrics())
    calls = asyncio.run(calls_of(app, "GET", "/items/5?q=abc"))
    assert len(calls) <= 35, calls


def test_a_validated_post_costs_at_most_45_calls() -> None:
    app = app_of(operation(place, "POST", "/orders"), telemetry=Metrics())
    calls = asyncio.run(calls_of(app, "POST", "/orders", b'{"customer":"a","quantity":2}'))
    assert len(calls) <= 45, calls


def test_a_hit_of_the_response_cache_costs_at_most_25_calls() -> None:
    async def main() -> list[str]:
        clock = SystemClock()
        cache = Cache("http")
        cache.bind(Backend(100, clock), clock)
        cached = operation(get_item, path="/items/{id}", cache=ResponseCache(ttl_s=60))
        app = app_of(cached, telemetry=Metrics(), response_cache=ResponseStore(cache), clock=clock)
        return await calls_of(app, "GET", "/items/5?q=abc")

    calls = asyncio.run(main())
    assert "get_item" not in calls
    assert len(calls) <= 25, calls


def test_a_whole_app_with_its_defaults_keeps_the_budgets(tmp_path: Path) -> None:
    """Metrics, trace ids, admission, deadline and security headers on, as ``tenfold run`` serves them."""
    service = Service("shop", auth=public)
    service.get("/items/{id}")(get_item)
    service.post("/orders")(place)
    app = App("shop", [service])
    app.configure(environ={}, app__data_dir=str(tmp_path))
    get = asyncio.run(calls_of(app, "GET", "/items/42?q=abc"))
    post = asyncio.run(calls_of(app, "POST", "/orders", b'{"customer":"ann","quantity":2}'))
    source = Assembly(app).http.endpoints[0].source
    assert all(part in source for part in ("trace_id=", "gate.in_flight += 1", "stats.sum_s +=", "inflight["))
    assert len(get) <= 31, get
    assert len(post) <= 31, post


def test_everything_that_a_service_in_production_has_on_costs_at_most_45_calls(tmp_path: Path) -> None:
    """Rate limit, admission, deadline, metrics, traces of 1 %, access log, telemetry store and authentication. Of the three
    requests, the first is the one that the store keeps in this second, and records."""
    service = Service("shop", auth=authenticated)
    people = Accounts(service.database(sa.MetaData()))
    service.get("/items/{id}", limit="1000/second per principal")(get_item)
    app = App("shop", [service], auth=people)
    app.configure(
        environ={},
        app__data_dir=str(tmp_path),
        guard__url="memory:",
        trace__ratio=0.01,
        telemetry__requests_per_s=1,
        telemetry__traces_per_s=1,
        worker__enabled=False,
    )

    async def token() -> str:
        await people.register("ann@example.com", "correct-horse-battery")
        return (await people.login("ann@example.com", "correct-horse-battery")).access_token

    app.logging = configure(LogSettings(format="json"), app.clock, stream=io.StringIO())
    try:
        calls = asyncio.run(calls_of(app, "GET", "/items/42?q=abc", token=token))
    finally:
        app.logging.close()
    source = Assembly(app).http.endpoints[0].source
    parts = (
        "access_waiting.append((",
        "keep(request",
        "number & recording.mask",
        "= take_one(",
        "begin_trace(",
        "stats.sum_s +=",
        "inflight[",
        "principal = fast(",
    )
    assert all(part in source for part in parts), source
    assert "Keeper.keep" not in calls
    assert len(calls) <= 45, calls
