"""Requests made by hand, for tests of what reads them."""

from __future__ import annotations

from typing import Any

from tenfold.http.reply import StreamingResponse
from tenfold.http.request import Request


async def nothing() -> dict[str, Any]:
    return {"type": "http.disconnect"}


def request(method: str = "GET", path: str = "/", **headers: str) -> Request:
    """A request with headers given as ``if_none_match="…"``."""
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request(method, path, (), b"", pairs, dict(pairs), nothing, {"type": "http"})


async def sent(response: StreamingResponse, to: Request | None = None) -> bytes:
    """The whole body, with the calls in the order of an entry."""
    to = to or request()
    try:
        await response.prepare(to)
        return b"".join([chunk async for chunk in response.chunks(to)])
    finally:
        await response.close()


def header_of(response: StreamingResponse, name: str) -> str | None:
    return next((value.decode() for known, value in response.headers if known == name.encode()), None)
