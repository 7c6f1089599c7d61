"""Calls of an HttpApp without a server: one ASGI call, its messages gathered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec

from tenfold.http.asgi import HttpApp
from tenfold.http.operation import Operation, Policies
from tenfold.security.policy import public

JSON = (b"content-type", b"application/json")


def operation(
    fn: Callable[..., Any], method: str = "GET", path: str = "/", **policies: Any
) -> Operation[..., Any]:
    policies.setdefault("auth", public)
    return Operation(fn, service="shop", method=method, path=path, policies=Policies(**policies))


def app_of(*operations: Operation[..., Any], **options: Any) -> HttpApp:
    return HttpApp(operations, **options)


class Answer:
    """What the client would see."""

    def __init__(self, messages: list[dict[str, Any]]) -> None:
        self.messages = messages
        starts = [m for m in messages if m["type"] == "http.response.start"]
        assert len(starts) == 1, messages
        self.status: int = starts[0]["status"]
        self.raw_headers: list[tuple[bytes, bytes]] = list(starts[0]["headers"])
        self.headers = {name.decode(): value.decode() for name, value in self.raw_headers}
        self.body = b"".join(m.get("body", b"") for m in messages if m["type"] == "http.response.body")

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def errors(self) -> list[tuple[str, str, str]]:
        """``(in, path, message)`` of every wrong field."""
        return [(e["in"], e["path"], e["message"]) for e in self.json["errors"]]


class Client:
    """Sends the pieces of a body one by one; then waits for ``gone`` to be set before it disconnects."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self.pieces = list(pieces)
        self.sent: list[dict[str, Any]] = []
        self.gone = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        if self.pieces:
            return {"type": "http.request", "body": self.pieces.pop(0), "more_body": bool(self.pieces)}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.sent.append(message)


def scope_of(
    method: str, target: str, headers: Iterable[tuple[bytes, bytes]] = (), **extra: Any
) -> dict[str, Any]:
    raw, _, query = target.partition("?")
    return {
        "type": "http",
        "method": method,
        "path": unquote_to_bytes(raw).decode("utf-8", "replace"),
        "raw_path": raw.encode(),
        "query_string": query.encode("latin-1"),
        "headers": list(headers),
        "root_path": "",
        **extra,
    }


async def acall(
    app: Any,
    method: str,
    target: str,
    body: Any = None,
    headers: Iterable[tuple[bytes, bytes]] = (),
    pieces: Sequence[bytes] = (),
    **extra: Any,
) -> Answer:
    """``body``: bytes as they are, anything else as JSON; or ``pieces``, which arrive one by one."""
    headers = list(headers)
    if body is not None and not isinstance(body, bytes):
        body = msgspec.json.encode(body)
        headers.append(JSON)
    client = Client(pieces or [body or b""])
    await app(scope_of(method, target, headers, **extra), client.receive, client.send)
    return Answer(client.sent)


def call(app: Any, method: str, target: str, body: Any = None, headers: Any = (), **extra: Any) -> Answer:
    async def once() -> Answer:
        try:
            return await acall(app, method, target, body, headers, **extra)
        finally:
            if isinstance(app, HttpApp):
                await app.stop()

    return asyncio.run(once())


def run(main: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(main)
