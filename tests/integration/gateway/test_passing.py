"""Requests through a gateway on sockets: what goes through unchanged, what does not, and what is told when it cannot."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from integration.gateway.conftest import Front, Fronts, listening
from support.callee import Callee, Got, never, reply
from tenfold import App, Service, public
from tenfold.errors import DependencyUnavailable
from tenfold.http.stream import EventStream
from tenfold.rpc.discovery import Places
from tenfold.security.authenticator import Authenticator
from tenfold.security.principal import Principal

pytestmark = pytest.mark.anyio


async def told(got: Got) -> bytes:
    return reply({"method": got.method, "target": got.target, "body": len(got.body), "headers": got.headers})


def closed_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


async def test_each_path_goes_to_its_service_with_everything_it_had(fronts: Fronts) -> None:
    async with Callee(told).running() as orders, Callee(told).running() as web:
        routes = {"orders": {"path": "/orders"}, "web": {"path": "/shop", "strip": True}}
        async with fronts({"orders": orders.url, "web": web.url}, routes) as front:
            answer = await front.client.put(
                "/orders/a%2Fb?x=1&y=%20", content=b"12345", headers={"x-own": "1"}
            )
            seen = answer.json()
            assert (seen["method"], seen["target"], seen["body"]) == ("PUT", "/orders/a%2Fb?x=1&y=%20", 5)
            assert seen["headers"]["x-own"] == "1"
            assert (await front.client.get("/shop/cart")).json()["target"] == "/cart"
            assert (len(orders.got), len(web.got)) == (1, 1)


async def test_the_service_learns_of_the_way_and_of_the_time_that_is_left(fronts: Fronts) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    given = {
        "tenfold-timeout-ms": "2000",
        "traceparent": trace,
        "x-request-id": "mine",
        "x-forwarded-for": "10.9.9.9",
    }
    async with Callee(told).running() as orders, fronts({"orders": orders.url}, {"orders": {}}) as front:
        seen = (await front.client.get("/", headers=given)).json()["headers"]
    assert 0 < int(seen["tenfold-timeout-ms"]) < 2000
    assert seen["traceparent"].split("-")[1] == trace.split("-")[1]
    assert (seen["x-request-id"], seen["x-forwarded-for"]) == ("mine", "127.0.0.1")
    assert seen["x-forwarded-host"] == front.url.removeprefix("http://")


async def test_an_answer_goes_back_as_it_is_with_its_status_and_cookies(fronts: Fronts) -> None:
    async def strange(_: Got) -> bytes:
        return (
            b"HTTP/1.1 418 X\r\nContent-Length: 3\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Encoding: br\r\n"
            b"Keep-Alive: 5\r\n\r\nabc"
        )

    async with (
        Callee(strange).running() as orders,
        fronts({"orders": orders.url}, {"orders": {}}) as front,
        front.client.stream("GET", "/") as answer,
    ):
        raw = b"".join([piece async for piece in answer.aiter_raw()])
    assert (answer.status_code, raw, answer.headers["content-encoding"]) == (418, b"abc", "br")
    assert answer.headers.get_list("set-cookie") == ["a=1", "b=2"]
    assert "keep-alive" not in answer.headers


@pytest.mark.parametrize("status", [204, 304])
async def test_answers_without_a_body_end(fronts: Fronts, status: int) -> None:
    async def bare(_: Got) -> bytes:
        return f'HTTP/1.1 {status} X\r\nETag: "1"\r\n\r\n'.encode()

    async with Callee(bare).running() as orders, fronts({"orders": orders.url}, {"orders": {}}) as front:
        assert [(await front.client.get("/")).status_code for _ in range(2)] == [status, status]


async def test_head_has_the_length_and_no_body(fronts: Fronts) -> None:
    async def head(got: Got) -> bytes:
        return b"HTTP/1.1 200 X\r\nContent-Length: 7\r\n\r\n" + (b"" if got.method == "HEAD" else b"1234567")

    async with Callee(head).running() as orders, fronts({"orders": orders.url}, {"orders": {}}) as front:
        answer = await front.client.head("/")
        assert (answer.status_code, answer.headers["content-length"], answer.content) == (200, "7", b"")
        assert (await front.client.get("/")).content == b"1234567"


async def test_bodies_of_any_size_go_through_in_pieces(fronts: Fronts) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield b"x" * 4096

    async with Callee(told).running() as orders:
        routes = {"orders": {"body_max_bytes": 300_000}}
        async with fronts({"orders": orders.url}, routes) as front:
            told_length = await front.client.post("/", content=b"y" * 200_000)
            assert told_length.json()["headers"]["content-length"] == "200000"
            assert "transfer-encoding" not in told_length.json()["headers"]
            too_large = await front.client.post("/", content=b"z" * 300_001)
            assert (too_large.status_code, len(orders.got)) == (413, 1)


async def test_events_come_as_they_are_made(fronts: Fronts) -> None:
    service, go_on = Service("events", auth=public), asyncio.Event()
    app = _events(service, go_on)
    app.configure(None, environ={}, http__port=0, log__access=False)
    async with (
        listening(app) as url,
        fronts({"events": url}, {"events": {}}) as front,
        front.client.stream("GET", "/events") as answer,
    ):
        lines = answer.aiter_lines()
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert await anext(lines) == "data: 1"
        go_on.set()
        assert [line async for line in lines if line][:1] == ["data: 2"]


def _events(service: Service, go_on: asyncio.Event) -> App:
    async def made() -> AsyncIterator[int]:
        yield 1
        await go_on.wait()
        yield 2

    @service.get("/events")
    async def events() -> EventStream[int]:
        return EventStream(made())

    return App("events", [service])


# ── what cannot be passed on ──


def problem_of(answer: httpx2.Response) -> tuple[int, str, bool]:
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["detail"], "retry-after" in answer.headers


async def test_a_service_that_nobody_answers_for_is_named(fronts: Fronts) -> None:
    async with fronts({"orders": f"http://127.0.0.1:{closed_port()}"}, {"orders": {}}) as front:
        assert problem_of(await front.client.get("/")) == (503, "The service orders cannot be reached.", True)


class Nowhere(Places):
    async def places(self, service: str) -> list[str]:
        raise DependencyUnavailable("the name server is away", dependency=service, reason="place")


async def test_a_service_whose_place_nobody_knows_is_named(fronts: Fronts) -> None:
    async with fronts({}, {"orders": {}}, places=Nowhere()) as front:
        assert problem_of(await front.client.get("/")) == (503, "The service orders cannot be reached.", True)
        with pytest.raises(InvalidStatus) as refused:
            await connect(front.url.replace("http", "ws", 1))
    assert refused.value.response.status_code == 503


async def test_a_service_that_is_slow_is_named(fronts: Fronts) -> None:
    async with Callee(never).running() as orders, fronts({"orders": orders.url}, {"orders": {}}) as front:
        answer = await front.client.get("/", headers={"tenfold-timeout-ms": "150"})
        assert problem_of(answer) == (504, "The service orders did not answer in time.", True)
        assert len(orders.got) == 1


async def broken(_: Got) -> bytes:
    return b""


async def test_a_service_that_breaks_off_is_asked_again_where_that_is_harmless(fronts: Fronts) -> None:
    async with Callee(broken).running() as orders, fronts({"orders": orders.url}, {"orders": {}}) as front:
        said = (502, "The service orders broke the connection off before it answered.", True)
        assert problem_of(await front.client.post("/", content=b"1")) == said
        assert len(orders.got) == 1
        assert problem_of(await front.client.get("/")) == said
        assert len(orders.got) == 4


async def test_what_is_no_answer_is_not_passed_on(fronts: Fronts) -> None:
    async def odd(_: Got) -> bytes:
        return b"HTTP/1.1 700 Odd\r\nContent-Length: 0\r\n\r\n"

    async with Callee(odd).running() as orders, fronts({"orders": orders.url}, {"orders": {}}) as front:
        said = (502, "The service orders gave an answer that cannot be passed on.", True)
        assert problem_of(await front.client.get("/")) == said
        assert front.gateway.upstream("orders").state.places.in_flight == 0


async def test_what_no_address_may_have_is_passed_on_encoded(fronts: Fronts) -> None:
    async with Callee(told).running() as orders, fronts({"orders": orders.url}, {"orders": {}}) as front:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(front.url.rpartition(":")[2]))
        writer.write(b'GET /a"b?q=%C3%A9"&r={} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n')
        assert (await reader.read()).startswith(b"HTTP/1.1 200")
        writer.close()
    assert [got.target for got in orders.got] == ["/a%22b?q=%C3%A9%22&r=%7B%7D"]


async def test_what_no_service_should_answer_is_no_fault_of_a_service(fronts: Fronts) -> None:
    async with (
        Callee(told).running() as orders,
        fronts({"orders": orders.url}, {"orders": {"path": "/o"}}) as front,
    ):
        paths = ("/other", "/o/%2e%2e/x", "/_tenfold/call/x")
        assert [(await front.client.get(path)).status_code for path in paths] == [404, 400, 404]
        assert (await front.client.post("/_tenfold/call/orders.one", json={})).status_code == 404
        assert (await front.client.request("PROPFIND", "/o")).status_code == 405
        assert (await front.client.get("/o", headers={"tenfold-timeout-ms": "soon"})).status_code == 400
        assert not orders.got


async def test_a_dead_instance_is_passed_over(fronts: Fronts) -> None:
    async with Callee(told).running() as orders:
        urls = [f"http://127.0.0.1:{closed_port()}", orders.url]
        async with fronts({"orders": urls}, {"orders": {}}) as front:
            answers = [await front.client.post("/", content=b"1") for _ in range(12)]
    assert [answer.status_code for answer in answers] == [200] * 12


async def test_an_unwell_service_is_left_alone_and_clients_that_give_up_do_not_make_it_so(
    fronts: Fronts,
) -> None:
    async with Callee(never).running() as orders, fronts({"orders": orders.url}, {"orders": {}}) as front:
        host = orders.url.removeprefix("http://")
        gets = [front.client.get("/", timeout=0.2) for _ in range(12)]
        gave_up = await asyncio.gather(*gets, return_exceptions=True)
        assert all(isinstance(each, httpx2.ReadTimeout) for each in gave_up)
        breaker = front.gateway.upstream("orders").state.hosts.of(host).breaker
        now = front.app.clock.monotonic
        assert breaker.state(now()) == "closed"
        short = {"tenfold-timeout-ms": "20"}
        await asyncio.gather(*[front.client.get("/", headers=short) for _ in range(12)])
        assert breaker.state(now()) == "open"
        said = "The service orders did not answer before and is left alone for a while."
        assert problem_of(await front.client.get("/"))[:2] == (503, said)


# ── callers ──


class Keys(Authenticator):
    async def authenticate(self, headers: Any, cookies: Any, /) -> Principal | None:
        key = headers.get("x-api-key")
        return Principal(id=key, via="api-key") if key else None


async def test_the_edge_lets_known_callers_through_and_passes_on_their_credential_alone(
    fronts: Fronts,
) -> None:
    async with Callee(told).running() as orders:
        routes = {"orders": {"auth": "required", "limit": "2/minute per principal"}}
        async with fronts({"orders": orders.url}, routes, app=App("front", [], auth=Keys())) as front:
            assert (await front.client.get("/", headers={"tenfold-principal": "admin"})).status_code == 401
            seen = (await front.client.get("/", headers={"x-api-key": "ann"})).json()["headers"]
            assert seen["x-api-key"] == "ann"
            assert not [name for name in seen if "principal" in name]
            statuses = [
                (await front.client.get("/", headers={"x-api-key": "ann"})).status_code for _ in range(2)
            ]
            assert statuses == [200, 429]
            assert (await front.client.get("/", headers={"x-api-key": "ben"})).status_code == 200


async def test_callers_stay_with_their_canary_and_weights_change_while_it_runs(fronts: Fronts) -> None:
    async def new(_: Got) -> bytes:
        return reply({"new": True})

    async def asked(front: Front) -> list[bool]:
        return [
            "new" in (await front.client.get("/", headers={"x-api-key": f"c{n}"})).json() for n in range(14)
        ]

    async with Callee(told).running() as orders, Callee(new).running() as fresh:
        routes = {"orders": {"auth": "required", "canary": {"next": 30.0}}}
        services = {"orders": orders.url, "next": fresh.url}
        async with fronts(services, routes, app=App("front", [], auth=Keys())) as front:
            before = await asked(front)
            assert 1 <= sum(before) < 14
            assert await asked(front) == before
            overrides = front.app.assembly.overrides
            await overrides.set("gateway.orders.canary.next", 100, by="ann", why="it is well")
            assert all(await asked(front))
            await overrides.set("gateway.orders.limit", "1/minute", by="ann", why="a test")
            statuses = [
                (await front.client.get("/", headers={"x-api-key": "x"})).status_code for _ in range(2)
            ]
            assert statuses == [200, 429]


async def test_answers_are_kept_for_as_long_as_the_service_says(fronts: Fronts) -> None:
    async def news(got: Got) -> bytes:
        return reply(
            {"n": len(orders.got)}, Cache_Control="max-age=60" if got.target == "/news" else "private"
        )

    orders = Callee(news)
    async with orders.running(), fronts({"orders": orders.url}, {"orders": {"cache": True}}) as front:
        first, again = [await front.client.get("/news") for _ in range(2)]
        assert (first.json(), again.json(), again.headers["age"]) == ({"n": 1}, {"n": 1}, "0")
        same = await front.client.get("/news", headers={"if-none-match": again.headers["etag"]})
        assert (same.status_code, same.content) == (304, b"")
        assert (await front.client.get("/news", headers={"authorization": "Bearer x"})).json() == {"n": 2}
        assert [(await front.client.get("/mine")).json() for _ in range(2)] == [{"n": 3}, {"n": 4}]
