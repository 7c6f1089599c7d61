"""What requests and answers look like behind a real balancer of each kind."""

from __future__ import annotations

import asyncio
import gzip
import json
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from integration.balance.conftest import ALONE, plan_for
from support.balanced import Client, Instance, read_message
from support.certificates import Authority
from support.servers import free_port, program
from tenfold.runtime.balance import Balancer, Listener, Plan, StaticFiles
from tenfold.runtime.balance.nginx import Nginx

pytestmark = pytest.mark.anyio

KEPT = msgspec.structs.replace(ALONE, micro_cache_bytes=1_048_576)


@pytest.fixture
async def instance() -> AsyncIterator[Instance]:
    async with Instance("only") as found:
        yield found


@pytest.fixture
async def client(port: int) -> AsyncIterator[Client]:
    found = Client(port)
    yield found
    found.close()


async def behind(balancer: Balancer, folder: Path, port: int, *instances: Instance, **differs: Any) -> Plan:
    """Start ``balancer`` in front of ``instances``."""
    plan = plan_for(port, *(each.port for each in instances), options=differs.pop("options", ALONE))
    plan = msgspec.structs.replace(plan, **differs)
    await balancer.apply(plan, folder)
    return plan


async def test_the_app_learns_who_asks_and_nobody_can_pretend(
    balancer: Balancer, folder: Path, port: int, instance: Instance, client: Client
) -> None:
    await behind(balancer, folder, port, instance)
    claims = {
        "Forwarded": "for=9.9.9.9", "X-Forwarded-For": "9.9.9.9", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil",
    }  # fmt: skip
    await client.ask("GET", "/a%2Fb?c=%20", headers=claims)
    (asked,) = (each for each in instance.asked if each.path.startswith("/a"))
    assert asked.path == "/a%2Fb?c=%20"
    assert "forwarded" not in asked.headers
    assert asked.headers["x-forwarded-for"] == "9.9.9.9, 127.0.0.1"  # the last one is the balancer's word
    assert asked.headers["x-forwarded-proto"] == "http"
    assert asked.headers["x-forwarded-host"] == asked.headers["host"] == "shop.example"


async def test_where_no_pool_has_the_rest_of_the_paths_the_others_are_served(
    balancer: Balancer, folder: Path, port: int
) -> None:
    async with Instance("a") as instance:
        await balancer.apply(plan_for(port, instance.port, paths=("/orders",)), folder)
        client = Client(port)
        statuses = [(await client.ask("GET", path))[0] for path in ("/orders", "/orders/7", "/other", "/")]
        client.close()
    assert statuses == [200, 200, 404, 404]


async def test_an_idempotent_request_is_tried_elsewhere(balancer: Balancer, folder: Path, port: int) -> None:
    async with Instance("a") as breaks, Instance("b") as answers:
        breaks.breaks_off = True
        await behind(balancer, folder, port, breaks, answers)
        methods = ["GET", "PUT", "OPTIONS", "DELETE"]
        assert [await _asked(port, method, "/") for method in methods] == [200] * 4
        assert any(each.path == "/" for each in breaks.asked)


async def test_a_post_is_not_sent_twice(balancer: Balancer, folder: Path, port: int) -> None:
    async with Instance("a") as breaks, Instance("b") as answers:
        breaks.breaks_off = True
        await behind(balancer, folder, port, breaks, answers)
        statuses = [await _asked(port, "POST", f"/{number}") for number in range(4)]
        posts = [each.path for each in (*breaks.asked, *answers.asked) if each.method == "POST"]
        assert sorted(posts) == ["/0", "/1", "/2", "/3"]
        assert sorted({*statuses}) == [200, 502]


async def test_a_post_goes_elsewhere_when_nobody_took_it(
    balancer: Balancer, folder: Path, port: int, instance: Instance
) -> None:
    gone = Instance("gone")
    await behind(balancer, folder, port, gone, instance)
    assert [await _asked(port, "POST", "/") for _ in range(6)] == [200] * 6


async def _asked(port: int, method: str, path: str) -> int:
    client = Client(port)
    status, _, _ = await client.ask(method, path, b"x" if method == "POST" else b"")
    client.close()
    return status


async def test_connections_to_instances_are_kept(
    balancer: Balancer, folder: Path, port: int, instance: Instance, client: Client
) -> None:
    await behind(balancer, folder, port, instance)
    before = instance.connections
    for _ in range(20):
        await client.ask("GET", "/")
    assert client.connections == 1
    assert instance.connections - before <= 4  # a few for each worker, and for looking whether it is there


async def test_events_and_websockets_pass_unbuffered(
    balancer: Balancer, folder: Path, port: int, instance: Instance
) -> None:
    await behind(balancer, folder, port, instance)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /stream HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n")
    await reader.readuntil(b"data: 1\n\n")
    instance.first_was_read.set()
    await reader.readuntil(b"data: 2\n\n")
    writer.close()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
    assert await reader.readexactly(5) == b"hello"
    writer.close()


async def test_answers_are_compressed(
    balancer: Balancer, folder: Path, port: int, instance: Instance, client: Client
) -> None:
    instance.body = json.dumps(["the same"] * 1000).encode()
    await behind(balancer, folder, port, instance)
    _, headers, body = await client.ask("GET", "/", headers={"Accept-Encoding": "gzip"})
    assert headers["content-encoding"] == "gzip"
    assert gzip.decompress(body) == instance.body


async def test_what_the_balancer_refuses_is_a_problem_document(
    balancer: Balancer, folder: Path, port: int, instance: Instance, client: Client
) -> None:
    small = msgspec.structs.replace(ALONE, body_max_bytes=1000)
    await behind(balancer, folder, port, instance, options=small)
    for path, body, expected in (
        ("/", b"x" * 2000, 413),
        ("/_tenfold/call/a", b"", 404),
        ("/%5Ftenfold/x", b"", 404),
    ):
        client.close()  # a body that was refused is not read
        status, headers, said = await client.ask("POST", path, body)
        assert (status, headers["content-type"]) == (expected, "application/problem+json")
        assert json.loads(said)["status"] == expected
    assert instance.asked == [] or {each.method for each in instance.asked} <= {"GET", "HEAD"}
    client.close()
    await balancer.apply(plan_for(port), folder)
    status, headers, _ = await client.ask("GET", "/")
    assert (status, headers["retry-after"], headers["content-type"]) == (503, "1", "application/problem+json")


ANSWERS: list[tuple[dict[str, str], dict[str, str], int]] = [
    ({"Cache-Control": "max-age=60"}, {}, 1),
    ({}, {}, 3),
    ({"ETag": '"1"'}, {}, 3),
    ({"Cache-Control": "private, max-age=60"}, {}, 3),
    ({"Cache-Control": "max-age=60", "Set-Cookie": "a=b"}, {}, 3),
    ({"Cache-Control": "max-age=60"}, {"Authorization": "Bearer x"}, 3),
    ({"Cache-Control": "max-age=60"}, {"Cookie": "session=x"}, 3),
]
"""Headers of the answer, headers of the request, and how often of three times an instance is asked."""


async def test_the_micro_cache_obeys_the_headers_of_answers(
    balancer: Balancer, folder: Path, port: int, instance: Instance, client: Client
) -> None:
    await behind(balancer, folder, port, instance, options=KEPT)
    for number, (answered, asks, times) in enumerate(ANSWERS):
        instance.answer_headers = answered
        for _ in range(3):
            assert (await client.ask("GET", f"/{number}", headers=asks))[0] == 200
        assert sum(each.path == f"/{number}" for each in instance.asked) == times, (answered, asks)


async def test_nginx_serves_a_folder(
    folder: Path, port: int, instance: Instance, client: Client, tmp_path: Path
) -> None:
    program("nginx")
    nginx = Nginx()
    (tmp_path / "public").mkdir()
    (tmp_path / "public" / "site.css").write_text("body {}")
    try:
        await behind(
            nginx, folder, port, instance, static=(StaticFiles("/assets", str(tmp_path / "public")),)
        )
        status, headers, body = await client.ask("GET", "/assets/site.css")
        assert (status, headers["content-type"], body) == (200, "text/css", b"body {}")
        for path in (
            "/assets/../nginx.conf",
            "/assets/%2e%2e/b/nginx.conf",
        ):  # not what lies beside the folder
            assert (await client.ask("GET", path))[2].startswith(b'{"instance"')
    finally:
        await nginx.stop()


async def test_a_client_stays_with_one_instance_when_asked_for(
    balancer: Balancer, folder: Path, port: int, client: Client
) -> None:
    async with Instance("a") as one, Instance("b") as two:
        await behind(balancer, folder, port, one, two, options=msgspec.structs.replace(ALONE, sticky=True))
        _, headers, first = await client.ask("GET", "/")
        cookie = {"Cookie": headers.get("set-cookie", "").partition(";")[0]}
        for _ in range(5):
            client.close()
            assert (await client.ask("GET", "/", headers=cookie))[2] == first


async def test_tls_with_http2_and_certificates_of_clients(
    balancer: Balancer, folder: Path, port: int, instance: Instance, tmp_path: Path
) -> None:
    authority = Authority(tmp_path, time.time())
    server, caller = authority.issue("shop.example"), authority.issue("worker")
    server = msgspec.structs.replace(server, client_ca=str(authority.path))
    plain = free_port()
    listeners = (
        Listener("public", "127.0.0.1", port, server),
        Listener("redirect", "127.0.0.1", plain, redirect=port),
    )
    await behind(balancer, folder, port, instance, listeners=listeners)
    status, headers, _ = await Client(plain).ask("POST", "/a?b=%20c", b"x", {"Host": f"shop.example:{plain}"})
    assert (status, headers["location"]) == (308, f"https://shop.example:{port}/a?b=%20c")
    context = ssl.create_default_context(cafile=authority.path)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.set_alpn_protocols(["h2", "http/1.1"])
    context.load_cert_chain(caller.certificate, caller.key)
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="shop.example")
    assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
    assert writer.get_extra_info("ssl_object").version() == "TLSv1.3"
    writer.close()
    context.set_alpn_protocols(["http/1.1"])
    assert (await _over(context, port))[0] == "HTTP/1.1 200 OK"
    assert instance.asked[-1].headers["x-forwarded-proto"] == "https"
    nobody = ssl.create_default_context(cafile=authority.path)
    nobody.verify_flags &= ~ssl.VERIFY_X509_STRICT
    try:
        first, _, _ = await _over(nobody, port)
    except (OSError, asyncio.IncompleteReadError):
        first = "refused in the handshake"
    assert " 200 " not in first


async def _over(context: ssl.SSLContext, port: int) -> tuple[str, dict[str, str], bytes]:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname="shop.example"
    )
    try:
        writer.write(b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n")
        return await read_message(reader)
    finally:
        writer.close()


async def test_a_renewed_certificate_is_taken(
    balancer: Balancer, folder: Path, port: int, instance: Instance, tmp_path: Path
) -> None:
    authority = Authority(tmp_path, time.time())
    tls = authority.issue("shop.example")
    plan = await behind(
        balancer, folder, port, instance, listeners=(Listener("public", "127.0.0.1", port, tls),)
    )
    context = ssl.create_default_context(cafile=authority.path)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    before = await _certificate(context, port)
    authority.issue("shop.example")
    assert await balancer.apply(plan, folder)
    assert await _certificate(context, port) != before


async def _certificate(context: ssl.SSLContext, port: int) -> Any:
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="shop.example")
    found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return found
