"""The RSGI entry: Granian's own protocol, with less between the socket and the endpoint than ASGI.

The same endpoints answer. What RSGI cannot do: it hands over the path decoded, so an encoded slash is a slash
here, and it has no place for mounted ASGI applications and WebSockets: apps with those are served over ASGI.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol

from tenfold.errors import BadRequest, Problem
from tenfold.http.dispatch import Asked
from tenfold.http.encoding import JSON_TYPE
from tenfold.http.limits import check_headers
from tenfold.http.request import Message, Request
from tenfold.http.streaming import run_stream

if TYPE_CHECKING:
    from tenfold.http.asgi import HttpApp
    from tenfold.http.compiler import Answer, Endpoint
    from tenfold.http.reply import Headers

Hook = Callable[[], Awaitable[None]]

_JSON_TEXT = [("content-type", "application/json")]
_WHOLE_BYTES = 65_536
"""Announced bodies up to this size are taken in one piece."""


class RsgiScope(Protocol):
    """What Granian tells of a request."""

    proto: str
    method: str
    path: str
    query_string: str
    client: str
    scheme: str
    headers: Any


class RsgiApp:
    """Serves an :class:`HttpApp` over RSGI. ``start`` and ``stop`` are run around the server's life."""

    def __init__(self, app: HttpApp, *, start: Hook | None = None, stop: Hook | None = None) -> None:
        self._app = app
        self._start = start or app.start
        self._stop = stop or app.stop
        self._starting: asyncio.Task[None] | None = None

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.run_until_complete(self._start())

    def __rsgi_del__(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.run_until_complete(self._stop())

    async def __rsgi__(self, scope: RsgiScope, protocol: Any) -> None:
        if scope.proto != "http":
            protocol.close(404)
            return
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in scope.headers.items()]
        query = scope.query_string.encode("latin-1", "replace")
        try:
            endpoint, segments, answer = self._target(scope, raw, query)
        except Problem as problem:
            send(protocol, self._app.dispatcher.problem(problem, scope.path, raw), scope.method)
            return
        if endpoint is None:
            assert answer is not None
            send(protocol, answer, scope.method)
            return
        request = Request(
            scope.method, scope.path, segments, query, raw, dict(raw), Body(protocol, raw).receive, as_asgi(scope),
            body_max_bytes=endpoint.body_max_bytes, names=endpoint.names,
        )  # fmt: skip
        answer = await endpoint.call(request)
        if answer[3] is not None:
            await run_stream(answer[3], request, Sender(protocol).send)
        else:
            send(protocol, answer, scope.method)

    def _target(
        self, scope: RsgiScope, raw: Headers, query: bytes
    ) -> tuple[Endpoint | None, tuple[str, ...], Answer | None]:
        path, method = scope.path, scope.method
        check_headers(raw, self._app.settings.header_max_bytes)
        if "\ufffd" in path:
            raise BadRequest("The path is not valid UTF-8.")
        routed = self._app.route(path, b"")
        if routed is not None and method in routed[0]:
            return routed[0][method], routed[1], None
        return self._app.dispatcher.target(Asked(method, path, b"", "", query, raw), routed)


def send(protocol: Any, answer: Answer, method: str) -> None:
    """A whole answer. Granian adds content-length by itself."""
    status, headers, body, _ = answer
    if method == "HEAD" or not body:
        protocol.response_empty(status, header_texts(headers, keep_length=True))
    elif len(headers) == 2 and headers[0] is JSON_TYPE:
        protocol.response_bytes(status, _JSON_TEXT, body)
    else:
        protocol.response_bytes(status, header_texts(headers), body)


def header_texts(headers: Headers, *, keep_length: bool = False) -> list[tuple[str, str]]:
    return [
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in headers
        if keep_length or name != b"content-length"
    ]


def as_asgi(scope: RsgiScope) -> dict[str, Any]:
    """The members of an ASGI scope that a :class:`Request` looks at."""
    host, _, port = scope.client.rpartition(":")
    client = (host.strip("[]"), int(port)) if port.isdigit() else None
    return {"type": "http", "client": client, "scheme": scope.scheme}


class Body:
    """The request's body as ASGI messages; after its end, the client's disconnection."""

    __slots__ = ("_done", "_pieces", "_protocol", "_size")

    def __init__(self, protocol: Any, headers: Headers) -> None:
        self._protocol = protocol
        self._size = next((value for name, value in headers if name == b"content-length"), b"")
        self._pieces: AsyncIterator[bytes] | None = None
        self._done = False

    async def receive(self) -> Message:
        if self._done:
            await self._protocol.client_disconnect()
            return {"type": "http.disconnect"}
        if self._pieces is None and self._size.isdigit() and int(self._size) <= _WHOLE_BYTES:
            self._done = True
            return {"type": "http.request", "body": await self._protocol(), "more_body": False}
        if self._pieces is None:
            self._pieces = aiter(self._protocol)
        try:
            return {"type": "http.request", "body": await anext(self._pieces), "more_body": True}
        except StopAsyncIteration:
            self._done = True
            return {"type": "http.request", "body": b"", "more_body": False}


class Sender:
    """ASGI's two kinds of message as an RSGI stream."""

    __slots__ = ("_protocol", "_transport")

    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol
        self._transport: Any = None

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self._transport = self._protocol.response_stream(
                message["status"], header_texts(message["headers"], keep_length=True)
            )
        elif message.get("body"):
            await self._transport.send_bytes(message["body"])
