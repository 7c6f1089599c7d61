"""The RSGI entry answers as the ASGI entry does."""
# ruff: noqa: A002 - parameters are named as on the wire

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from http_calls import app_of, operation

from tenfold.http.rsgi import RsgiApp
from tenfold.http.stream import Stream


class Protocol:
    """Granian's side of one request."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces
        self.status = 0
        self.headers: list[tuple[str, str]] = []
        self.body: bytes | None = None
        self.gone = asyncio.Event()

    async def __call__(self) -> bytes:
        return b"".join(self.pieces)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            yield piece

    async def client_disconnect(self) -> None:
        await self.gone.wait()

    def response_empty(self, status: int, headers: Any) -> None:
        self.status, self.headers = status, headers

    def response_bytes(self, status: int, headers: Any, body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    def response_stream(self, status: int, headers: Any) -> Any:
        self.status, self.headers, self.body = status, headers, b""
        return self

    async def send_bytes(self, data: bytes) -> None:
        assert self.body is not None
        self.body += data


async def read(id: int, q: str = "") -> list[Any]:
    return [id, q]


async def place(order: dict[str, int]) -> int:
    return sum(order.values())


async def stream() -> Stream:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"a"
        yield b"b"

    return Stream(pieces(), media_type="text/plain")


def ask(method: str, path: str, query: str = "", pieces: Any = (), **headers: str) -> Protocol:
    async def main() -> Protocol:
        app = app_of(
            operation(read, path="/items/{id}"),
            operation(place, "POST", "/orders", body_max_bytes=100_000),
            operation(stream, path="/stream"),
        )
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        scope: Any = SimpleNamespace(
            proto="http", method=method, path=path, query_string=query, client="127.0.0.1:5000", scheme="http",
            headers=named,
        )  # fmt: skip
        protocol = Protocol(list(pieces))
        await RsgiApp(app).__rsgi__(scope, protocol)
        await app.stop()
        return protocol

    return asyncio.run(main())


def test_a_get_is_answered() -> None:
    protocol = ask("GET", "/items/5", "q=a%20b")
    assert (protocol.status, protocol.body) == (200, b'[5,"a b"]')
    assert protocol.headers == [("content-type", "application/json")]


def test_a_body_is_read_whole_or_in_pieces() -> None:
    whole = msgspec.json.encode({"a": 1, "b": 2})
    kind = {"content_type": "application/json"}
    assert ask("POST", "/orders", pieces=[whole], content_length=str(len(whole)), **kind).body == b"3"
    assert ask("POST", "/orders", pieces=[whole[:4], whole[4:]], **kind).body == b"3"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nope", 404), ("PUT", "/orders", 405), ("GET", "/items/x", 422), ("GET", "/items/\ufffd", 400)],
)
def test_wrong_requests_get_problem_documents(method: str, path: str, status: int) -> None:
    protocol = ask(method, path)
    assert protocol.status == status
    assert ("content-type", "application/problem+json") in protocol.headers


def test_a_body_beyond_the_limit_is_413_before_it_is_read_whole() -> None:
    protocol = ask("POST", "/orders", pieces=[b" " * 60_000] * 3, content_type="application/json")
    assert protocol.status == 413


def test_head_has_the_length_and_no_body() -> None:
    protocol = ask("HEAD", "/items/5")
    assert (protocol.status, protocol.body) == (200, None)
    assert ("content-length", "6") in protocol.headers


def test_a_stream_is_sent_as_one() -> None:
    protocol = ask("GET", "/stream")
    assert (protocol.status, protocol.body) == (200, b"ab")
