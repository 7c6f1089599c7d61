"""Sending to real servers on loopback: polite, flaky, slow, endless, and ones that lie about where they are."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import AsyncGenerator
from typing import Any

import httpcore2
import pytest

from support.smtp import self_signed
from support.webhooks import Receiver
from tenfold._core.clock import SystemClock
from tenfold._core.sections import WebhookSettings
from tenfold.guard.addresses import Place
from tenfold.webhooks import transport
from tenfold.webhooks.contract import Answer
from tenfold.webhooks.transport import HttpSender

pytestmark = pytest.mark.anyio

HOME = ["127.0.0.0/8", "::1"]


async def post(
    receiver: Receiver,
    *,
    host: str = "127.0.0.1",
    scheme: str = "http",
    sender: HttpSender | None = None,
    **more: Any,
) -> Answer:
    own = sender or HttpSender(WebhookSettings(**{"allow": HOME, **more}), SystemClock())
    try:
        return await own.post(Place(scheme, host, receiver.port, "/hook?a=1"), {"x-own": "yes"}, b'{"a":1}')
    finally:
        if sender is None:
            await own.stop()


async def test_a_receiver_gets_what_was_signed() -> None:
    async with Receiver().running() as receiver:
        answer = await post(receiver)
        assert answer.status == 204
        assert answer.duration_ms > 0
        [request] = receiver.requests
        assert request.startswith(b"POST /hook?a=1 HTTP/1.1\r\n")
        assert b"x-own: yes\r\n" in request
        assert b"host: 127.0.0.1:%d\r\n" % receiver.port in request
        assert request.endswith(b'\r\n\r\n{"a":1}')


async def test_connections_are_used_again() -> None:
    async with Receiver([b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"]).running() as receiver:
        sender = HttpSender(WebhookSettings(allow=HOME), SystemClock())
        for _ in range(5):
            assert (await post(receiver, sender=sender)).status == 200
        await sender.stop()
        assert (receiver.connections, len(receiver.requests)) == (1, 5)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(status: int) -> None:
    async with Receiver().running() as trap:
        moved = b"HTTP/1.1 %d Moved\r\nLocation: http://127.0.0.1:%d/\r\nContent-Length: 0\r\n\r\n"
        async with Receiver([moved % (status, trap.port)]).running() as receiver:
            assert (await post(receiver)).status == status
        assert trap.requests == []


async def test_retry_after_and_the_beginning_of_an_answer_are_told() -> None:
    said = "down for \u2028 maintenance ☺".encode()
    answer = b"HTTP/1.1 503 No\r\nRetry-After: 30\r\nContent-Length: %d\r\n\r\n%s" % (len(said), said)
    async with Receiver([answer]).running() as receiver:
        got = await post(receiver)
        assert (got.status, got.retry_after) == (503, "30")
        assert got.body == "down for   maintenance ☺"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "broke the connection off"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "broke the connection off"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\nConnection: close\r\n\r\nshort",
            "broke the connection off",
        ),
        (b"HTTP/1.1 200 OK\r\n" + b"x: " + b"y" * 300_000 + b"\r\n\r\n", "broke the connection off"),
    ],
)
async def test_a_receiver_that_breaks_off_is_a_failure_with_a_sentence(answer: bytes, said: str) -> None:
    async with Receiver([answer]).running() as receiver:
        got = await post(receiver)
        assert got.status is None
        assert said in got.error


async def test_a_receiver_that_never_answers_costs_no_more_than_the_time_out() -> None:
    async with Receiver([b"HANG"]).running() as receiver:
        got = await post(receiver, timeout_s=0.2)
        assert got.error == "There was no answer within 0.2 s."
        assert 150 < got.duration_ms < 5000


async def test_an_endless_answer_is_read_no_further_than_its_bound() -> None:
    async with Receiver([b"ENDLESS"]).running() as receiver:
        got = await post(receiver, answer_max_bytes=100_000)
        assert (got.status, len(got.body)) == (200, transport.BODY_KEPT)


async def test_nobody_there_and_no_such_name_are_sentences() -> None:
    async with Receiver().running() as receiver:
        pass
    assert "could not be connected to" in (await post(receiver)).error
    assert (
        "The name no-such-name.invalid is not known"
        in (await post(receiver, host="no-such-name.invalid")).error
    )


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "0"])
async def test_an_inner_address_is_not_connected_to_whatever_it_is_called(host: str) -> None:
    async with Receiver().running() as receiver:
        got = await post(receiver, host=host, allow=[])
        assert "calls out go to public addresses only" in got.error
        assert receiver.connections == 0


async def test_a_name_that_changes_its_address_after_the_check_leads_nowhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rebinding: the first answer is public, the second inner. There is one look-up per connection, and the
    connection goes to the very address that was judged."""
    asked: list[str] = []
    answers = ["93.184.216.34", "127.0.0.1"]

    def look_up(host: str, port: int, **_: Any) -> Any:
        asked.append(host)
        address = answers.pop(0) if len(answers) > 1 else answers[0]
        return [(2, 1, 6, "", (address, port))]

    connected: list[str] = []

    async def connect(self: Any, host: str, port: int, *_: Any) -> Any:
        connected.append(host)
        raise httpcore2.ConnectError("not in a test")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(httpcore2.AnyIOBackend, "connect_tcp", connect)
    async with Receiver().running() as receiver:
        first = await post(receiver, host="rebind.example", allow=[])
        second = await post(receiver, host="rebind.example", allow=[])
        assert connected == ["93.184.216.34"]
        assert asked == ["rebind.example"] * 2
        assert "not in a test" in first.error
        assert "this machine's own" in second.error
        assert receiver.connections == 0


async def test_of_several_addresses_only_the_public_ones_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    def look_up(host: str, port: int, **_: Any) -> Any:
        return [(2, 1, 6, "", (a, port)) for a in ("10.0.0.1", "93.184.216.34", "127.0.0.1", "93.184.216.34")]

    tried: list[str] = []

    async def connect(self: Any, host: str, port: int, *_: Any) -> Any:
        tried.append(host)
        raise httpcore2.ConnectError("not in a test")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(httpcore2.AnyIOBackend, "connect_tcp", connect)
    async with Receiver().running() as receiver:
        await post(receiver, host="many.example", allow=[])
    assert tried == ["93.184.216.34"]


async def test_certificates_are_verified_against_the_name_although_an_address_is_connected_to() -> None:
    certificate, key = self_signed("localhost")
    async with tls(certificate, key) as (receiver, trusting):
        good = HttpSender(WebhookSettings(allow=HOME), SystemClock(), context=trusting)
        assert (await post(receiver, host="localhost", scheme="https", sender=good)).status == 204
        await good.stop()
        got = await post(receiver, host="localhost", scheme="https")
        assert "CERTIFICATE_VERIFY_FAILED" in got.error
    certificate, key = self_signed("other.example")
    async with tls(certificate, key) as (receiver, trusting):
        wrong = HttpSender(WebhookSettings(allow=HOME), SystemClock(), context=trusting)
        assert "certificate" in (await post(receiver, host="localhost", scheme="https", sender=wrong)).error
        await wrong.stop()


@contextlib.asynccontextmanager
async def tls(certificate: bytes, key: bytes) -> AsyncGenerator[tuple[Receiver, ssl.SSLContext]]:
    import tempfile

    with tempfile.NamedTemporaryFile() as file:
        file.write(certificate + key)
        file.flush()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file.name)
    trusting = ssl.create_default_context(cadata=certificate.decode())
    async with Receiver().running(ssl=context) as receiver:
        yield receiver, trusting


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Receiver().running() as proxy, Receiver().running() as receiver:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{proxy.port}")
        assert (await post(receiver)).status == 204
        assert proxy.connections == 0
