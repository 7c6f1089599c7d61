"""``limit=`` on operations, services and apps: who is counted, what clients are told, what it costs."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tenfold._core.clock import ManualClock
from tenfold.app import App
from tenfold.errors import DeclarationError, StoreUnavailable
from tenfold.guard.backends._memory_limits import MemoryLimits
from tenfold.guard.gcra import LATER
from tenfold.guard.rates import Limit, as_limit
from tenfold.http.limiting import (
    CALLERS_MAX,
    HEADERS_MAX,
    address_of,
    headers_of_one,
    keys_of,
    left_headers,
    step_of,
)
from tenfold.http.request import Request
from tenfold.runtime.rendering import lines
from tenfold.security.authenticator import Authenticator
from tenfold.security.policy import authenticated, public
from tenfold.security.principal import Principal
from tenfold.service import Service

pytestmark = pytest.mark.anyio


class ByHeader(Authenticator):
    async def authenticate(
        self, headers: Mapping[str, str], cookies: Mapping[str, str], /
    ) -> Principal | None:
        key = headers.get("x-api-key")
        if key is not None:
            return Principal(id="robot", via="api-key")
        user = headers.get("x-user")
        return Principal(id=user, tenant=headers.get("x-tenant"), via="test") if user else None


def app_of(service: Service, **options: Any) -> App:
    return App("shop", [service], auth=ByHeader(), clock=ManualClock(), **options)


async def statuses(app: App, *requests: tuple[str, dict[str, str]]) -> list[int]:
    async with app.test() as t:
        return [(await t.client.get(path, headers=headers)).status for path, headers in requests]


def serve(service: Service, path: str = "/x", **options: Any) -> None:
    async def handler() -> dict[str, int]:
        return {"a": 1}

    handler.__name__ = f"get_{path.strip('/')}"
    service.get(path, **options)(handler)


ANN, BOB = {"x-user": "ann"}, {"x-user": "bob"}


async def test_a_client_is_told_what_is_left_and_when_to_come_back() -> None:
    service = Service("shop", auth=public)
    serve(service, limit="2/minute per address")
    async with app_of(service).test() as t:
        first, second, third = [await t.client.get("/x") for _ in range(3)]
        headers: list[Any] = [r.headers for r in (first, second, third)]
        assert [h["ratelimit-policy"] for h in headers] == ['"2/minute per address";q=2;w=60'] * 3
        assert [h["ratelimit"] for h in headers] == [
            '"2/minute per address";r=1;t=30', '"2/minute per address";r=0;t=60', '"2/minute per address";r=0;t=30',
        ]  # fmt: skip
        assert third.status == 429
        assert third.headers["retry-after"] == "30"
        told = third.json()
        assert told["limit"] == "2/minute per address"
        assert told["retry_after_s"] == 30
        assert told["violated-policies"] == ["2/minute per address"]
        assert "come back in 30 s" in told["detail"]
        await t.clock.advance(30)
        assert (await t.client.get("/x")).status == 200


async def test_principals_are_counted_each_and_anonymous_callers_by_address() -> None:
    service = Service("shop", auth=public)
    serve(service, limit="1/minute")
    got = await statuses(app_of(service), *[("/x", who) for who in (ANN, ANN, BOB, {}, {})])
    assert got == [200, 429, 200, 200, 429]


async def test_a_tenant_shares_its_count_and_who_has_none_counts_alone() -> None:
    service = Service("shop", auth=authenticated)
    serve(service, limit="2/minute per tenant")
    one, two = {**ANN, "x-tenant": "t"}, {**BOB, "x-tenant": "t"}
    got = await statuses(app_of(service), *[("/x", who) for who in (one, two, one, ANN, BOB)])
    assert got == [200, 200, 429, 200, 200]


async def test_api_keys_are_counted_each() -> None:
    service = Service("shop", auth=public)
    serve(service, limit="1/minute per api key")
    one, two = {"x-api-key": "1"}, {"x-api-key": "2"}
    assert await statuses(app_of(service), *[("/x", who) for who in (one, one, two)]) == [200, 429, 200]


async def test_an_operation_as_a_whole_can_be_limited() -> None:
    service = Service("shop", auth=public)
    serve(service, limit="2/minute per operation")
    assert await statuses(app_of(service), *[("/x", who) for who in (ANN, BOB, {})]) == [200, 200, 429]


async def test_app_service_and_operation_limit_together_and_none_lifts_them() -> None:
    service = Service("shop", auth=public, limit="3/minute per address")
    serve(service, "/x", limit="2/minute per address")
    serve(service, "/y")
    serve(service, "/free", limit=None)
    asked = [("/x", ANN), ("/x", ANN), ("/x", ANN), ("/y", ANN), ("/y", ANN), ("/free", ANN)]
    assert await statuses(app_of(service), *asked) == [200, 200, 429, 200, 429, 200]
    shared = Service("shop", auth=public)
    serve(shared, "/x")
    serve(shared, "/y")
    app = app_of(shared, limit="2/minute per address")
    assert await statuses(app, ("/x", {}), ("/y", {}), ("/x", {})) == [200, 200, 429]


async def test_a_cost_may_depend_on_the_request() -> None:
    def pages(request: Request) -> int:
        return int(request.headers.get("x-pages", "1"))

    service = Service("shop", auth=public)
    serve(service, limit=Limit("10/minute per address", cost=pages))
    asked = [{"x-pages": "8"}, {"x-pages": "5"}, {"x-pages": "2"}, {"x-pages": "11"}]
    async with app_of(service).test() as t:
        got = [await t.client.get("/x", headers=h) for h in asked]
    assert [r.status for r in got] == [200, 429, 200, 429]
    assert got[1].headers["retry-after"] == "18"
    assert "retry-after" not in got[3].headers


async def test_all_windows_of_a_limit_hold_at_once_and_cost_is_counted_in_each() -> None:
    service = Service("shop", auth=public)
    serve(service, limit=Limit("10/second per address, 30/minute per operation", cost=5))
    async with app_of(service).test() as t:
        got = []
        for pause in (0, 0, 1, 0, 1, 0, 0):
            await t.clock.advance(pause)
            got.append(await t.client.get("/x"))
        assert [r.status for r in got] == [200] * 6 + [429]
        assert got[0].headers["ratelimit-policy"] == (
            '"10/second per address";q=10;w=1, "30/minute per operation";q=30;w=60'
        )
        assert got[1].headers["ratelimit"] == (
            '"10/second per address";r=0;t=1, "30/minute per operation";r=20;t=20'
        )
        refused = got[-1].json()
        assert refused["violated-policies"] == ["10/second per address", "30/minute per operation"]
        assert refused["limit"] == "10/second per address, 30/minute per operation"


async def test_nobody_is_told_to_come_back_before_the_end_of_a_window_it_is_told_of() -> None:
    """As the draft has it for Retry-After beside RateLimit."""
    service = Service("shop", auth=public)
    serve(service, limit="2/second per address, 100/hour per address")
    async with app_of(service).test() as t:
        for _ in range(2):
            await t.client.get("/x")
        refused = await t.client.get("/x")
        assert refused.headers["retry-after"] == "1"
        assert refused.headers["ratelimit"] == (
            '"2/second per address";r=0;t=1, "100/hour per address";r=98;t=1'
        )


async def test_equal_windows_of_two_owners_are_two_policies() -> None:
    service = Service("shop", auth=public, limit="5/minute per address")
    serve(service, limit="5/minute per address")
    async with app_of(service).test() as t:
        policy = (await t.client.get("/x")).headers["ratelimit-policy"]
    assert policy == (
        '"service shop: 5/minute per address";q=5;w=60, "shop.get_x: 5/minute per address";q=5;w=60'
    )


async def test_units_taken_ahead_count_as_used_in_what_is_told() -> None:
    """On a store that others share. What is left may be more than what is told, never less."""
    service = Service("shop", auth=public)
    service.database(sa.MetaData())
    serve(service, limit="6000/minute per operation")
    app = app_of(service)
    async with app.test() as t:
        left = []
        for done in range(1, 61):
            told = (await t.client.get("/x")).headers["ratelimit"]
            left.append(int(told.split(";r=")[1].split(";")[0]))
            assert left[-1] <= 6_000 - done
        numbers = app.assembly.guards.limiter.numbers()
    assert sorted(left, reverse=True) == left
    assert numbers["local_total"] >= 45
    assert numbers["local_total"] + numbers["asked_total"] == numbers["admitted_total"] == 60


async def test_a_refused_request_is_neither_decoded_nor_run() -> None:
    service = Service("shop", auth=public)
    ran = 0

    @service.post("/x", limit="1/minute per address")
    async def place(n: dict[str, int]) -> dict[str, int]:
        nonlocal ran
        ran += 1
        return n

    async with app_of(service).test() as t:
        assert (
            await t.client.post("/x", content=b"{}", headers={"content-type": "application/json"})
        ).status == 200
        assert (await t.client.post("/x", content=b"not json")).status == 429
    assert ran == 1


async def test_limits_survive_the_loss_of_their_store(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service("shop", auth=public)
    serve(service, "/x", limit="1/minute per address")
    serve(service, "/y", limit=Limit("1/minute per address", away="closed"))
    app = app_of(service)
    monkeypatch.setattr(MemoryLimits, "take_one", lambda self, key, cost, room: LATER)
    async with app.test() as t:
        store = app.assembly.guards.limiter.store

        async def away(cells: object) -> None:
            raise StoreUnavailable("gone")

        monkeypatch.setattr(store, "take", away)
        assert [(await t.client.get("/x")).status for _ in range(2)] == [200, 429]
        refused = await t.client.get("/y")
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")


def test_an_operation_without_a_limit_has_no_line_of_it() -> None:
    service = Service("shop", auth=public)
    serve(service, "/x")
    serve(service, "/y", limit="1/minute per address")
    app = app_of(service)
    from tenfold.assembly import Assembly

    free, limited = Assembly(app).http.endpoints[:2]
    assert "limit" not in free.source
    assert "limit" in limited.source
    assert ("429" in app.openapi()["paths"]["/x"]["get"]["responses"]) is False
    assert ("429" in app.openapi()["paths"]["/y"]["get"]["responses"]) is True


def test_a_wrong_limit_names_the_operation_and_the_position() -> None:
    service = Service("shop", auth=public)
    serve(service, limit="20/minut")
    (sentence,) = app_of(service).check()
    assert "test_limiting.py" in sentence
    assert "character 4: 'minut'" in sentence
    with pytest.raises(DeclarationError, match="character 1"):
        Service("other", limit="lots")


def test_production_without_a_database_asks_where_to_count(tmp_path: Path) -> None:
    service = Service("shop", auth=public, limit="5/second per address")
    serve(service)
    app = app_of(service)
    production = {"TENFOLD_APP_ENV": "production", "TENFOLD_APP_SECRET_KEY": "k" * 40}
    app.configure(environ=production, app__data_dir=str(tmp_path))
    assert any("guard.url" in sentence for sentence in app.check())
    app.configure(environ={**production, "TENFOLD_GUARD_URL": "memory:"}, app__data_dir=str(tmp_path))
    assert app.check() == []


@pytest.mark.parametrize(
    ("host", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("fe80::1%eth0", "fe80::/64"),
        ("testclient", "testclient"),
    ],
)
def test_an_address_counts_as_what_one_household_has(host: str, counted: str) -> None:
    async def receive() -> dict[str, Any]:
        raise AssertionError

    request = Request("GET", "/", (), b"", [], {}, receive, {"client": (host, 1)})
    assert address_of(request) == counted


def test_what_is_remembered_of_callers_and_headers_is_bounded_and_the_same_as_what_is_made() -> None:
    keys, headers = keys_of("orders 5/minute per principal "), left_headers(["a", "b"], b"the policy")
    for number in range(max(CALLERS_MAX, HEADERS_MAX) + 10):
        assert keys(f"p{number}") == f"orders 5/minute per principal principal p{number}"
        left = (number, 1, 2, 3)
        assert headers(left) == (b"ratelimit", b'"a";r=%d;t=1, "b";r=2;t=3' % number)
        assert headers(left) is headers.known[left]
    shown = headers((9, 1, 2, 3))
    assert shown.lines == lines([(b"ratelimit-policy", b"the policy"), shown]), (
        "as the protocol would write both"
    )
    assert len(keys.known) <= CALLERS_MAX
    assert len(headers.known) <= HEADERS_MAX


@pytest.mark.parametrize("rule", ["100000/second", "7/second", "20/minute", "7/minute", "3/hour", "1/day"])
def test_the_header_of_one_window_tells_the_same_as_those_of_several(rule: str) -> None:
    window = as_limit(rule).windows[0]
    exact = left_headers(["it"], b"the policy")
    headers = headers_of_one(window, exact)
    chosen = random.Random(5)
    near = [edge + by for edge in range(0, window.room_us, window.interval_us) for by in (-1, 0, 1)][:20_000]
    for ahead in [*near, *(chosen.randint(0, window.room_us) for _ in range(20_000))]:
        if 0 <= ahead <= window.room_us:
            left = (window.room_us - ahead) // window.interval_us, math.ceil(ahead / 1_000_000)
            assert headers(-ahead // step_of(window)) is exact(left), ahead
    assert len(headers.known) <= HEADERS_MAX
