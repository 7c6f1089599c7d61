"""The RSGI entry: Granian's own protocol, with less between the socket and the endpoint than ASGI.

The same endpoints answer. What RSGI cannot do: it hands over the path decoded, so an encoded slash is a slash
here, and it has no place for mounted ASGI applications and WebSockets: apps with those are served over ASGI.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol

from tenfold.errors import BadRequest, Problem
from tenfold.http.dispatch import Asked, Routed, Target
from tenfold.http.encoding import PLAIN_TYPE
from tenfold.http.limits import check_headers
from tenfold.http.reply import SharedHeaders
from tenfold.http.request import Message, Request
from tenfold.http.streaming import run_stream

if TYPE_CHECKING:
    from tenfold.http.asgi import HttpApp
    from tenfold.http.reply import Answer

flatten = chain.from_iterable

Hook = Callable[[], Awaitable[None]]

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
        self._static = app.static
        self._header_max = app.settings.header_max_bytes
        self._headers_max = app.settings.headers_max
        # The headers of every plain answer, as text; Granian takes no bytes.
        edge = app.wiring.edge
        fixed = (PLAIN_TYPE, *(() if edge is None else edge.headers))
        self._plain = header_texts(fixed)
        self._plain_count = len(fixed) + 1  # and content-length
        self._plain_last = fixed[-1] if len(fixed) > 1 else None

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.run_until_complete(self._start())

    def __rsgi_del__(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.run_until_complete(self._stop())

    async def __rsgi__(self, scope: RsgiScope, protocol: Any) -> None:
        if scope.proto != "http":
            protocol.close(404)
            return
        # Every look at the scope copies out of Rust, so each member is taken once; what few handlers ask for
        # (client, scheme) is taken when they do.
        path, method = scope.path, scope.method
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in scope.headers.items()]
        query = scope.query_string.encode("latin-1", "replace")
        app, static = self._app, self._static
        segments: tuple[str, ...] = ()
        try:
            if sum(map(len, flatten(raw))) > self._header_max or len(raw) > self._headers_max:
                check_headers(raw, self._header_max, self._headers_max)
            if path in static and method in static[path]:
                endpoint = static[path][method]
            else:
                routed = app.route(path, b"")
                if routed is not None and method in routed[0] and "\ufffd" not in path:
                    endpoint, segments = routed[0][method], routed[1]
                else:
                    target = self._elsewhere(Asked(method, path, b"", "", query, raw), routed)
                    if target.endpoint is None:
                        assert target.answer is not None
                        self._send(protocol, target.answer, method)
                        return
                    endpoint, segments = target.endpoint, target.segments
        except Problem as problem:
            self._send(protocol, app.dispatcher.problem(problem, path, raw), method)
            return
        by_name = dict(raw)
        if endpoint.quick is not None and (hit := endpoint.quick(segments, query, by_name)) is not None:
            self._send(protocol, hit, method)
            return
        request = Request(
            method, path, segments, query, raw, by_name, Body(protocol, by_name).receive, Members(scope),
            body_max_bytes=endpoint.body_max_bytes, names=endpoint.names, memory=app.memory,
        )  # fmt: skip
        answer = await endpoint.call(request)
        if answer[3] is not None:
            await run_stream(answer[3], request, Sender(protocol).send)
        else:
            self._send(protocol, answer, method)

    def _elsewhere(self, asked: Asked, routed: Routed | None) -> Target:
        """For a path that no operation has, not with this method, or that is no text."""
        if "\ufffd" in asked.path:
            raise BadRequest("The path is not valid UTF-8.")
        return self._app.dispatcher.target(asked, routed)

    def _send(self, protocol: Any, answer: Answer, method: str) -> None:
        """A whole answer. Granian adds content-length by itself."""
        status, headers, body, _ = answer
        if method == "HEAD" or not body:
            protocol.response_empty(status, header_texts(headers, keep_length=True))
        elif headers[0] is PLAIN_TYPE and len(headers) == self._plain_count:
            protocol.response_bytes(status, self._plain, body)
        elif headers[0] is PLAIN_TYPE and headers[-1] is self._plain_last:
            added = header_texts(headers[2 : 2 + len(headers) - self._plain_count])
            protocol.response_bytes(status, [*self._plain, *added], body)
        elif isinstance(headers, SharedHeaders):
            texts = headers.texts
            if texts is None:
                texts = headers.texts = header_texts(headers)
            protocol.response_bytes(status, texts, body)
        else:
            protocol.response_bytes(status, header_texts(headers), body)


def header_texts(
    headers: Sequence[tuple[bytes, bytes]], *, keep_length: bool = False
) -> list[tuple[str, str]]:
    return [
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in headers
        if keep_length or name != b"content-length"
    ]


class Members(Mapping[str, Any]):
    """The members of an ASGI scope that a :class:`Request` looks at, made of Granian's when it does."""

    __slots__ = ("_scope",)

    def __init__(self, scope: RsgiScope) -> None:
        self._scope = scope

    def __getitem__(self, name: str) -> Any:
        if name == "client":
            host, _, port = self._scope.client.rpartition(":")
            return (host.strip("[]"), int(port)) if port.isdigit() else None
        if name == "scheme":
            return self._scope.scheme
        if name == "type":
            return "http"
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(("type", "client", "scheme"))

    def __len__(self) -> int:
        return 3


class Body:
    """The request's body as ASGI messages; after its end, the client's disconnection."""

    __slots__ = ("_done", "_headers", "_pieces", "_protocol")

    def __init__(self, protocol: Any, headers: Mapping[bytes, bytes]) -> None:
        self._protocol = protocol
        self._headers = headers
        self._pieces: AsyncIterator[bytes] | None = None
        self._done = False

    async def receive(self) -> Message:
        if self._done:
            await self._protocol.client_disconnect()
            return {"type": "http.disconnect"}
        size = self._headers.get(b"content-length", b"")
        if self._pieces is None and size.isdigit() and int(size) <= _WHOLE_BYTES:
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
