"""Limits on what a client may send: each has a unit, a default in ``[http]`` and a problem of its own.

=================  ======  =================================================================
what               status  limit
=================  ======  =================================================================
headers            431     ``http.headers_max``
header bytes       431     ``http.header_max_bytes``, names and values together
address            414     8,192 bytes of path, the same of query string
query parameters   422     ``http.query_max_params``
body               413     ``http.body_max_bytes``, or the operation's ``body_max_bytes``
body, time         408     ``http.body_timeout_s`` of waiting for its pieces, and a second for each
                           ``http.bytes_per_s_min`` bytes that came
bodies, memory     503     ``http.buffered_max_bytes`` for those of all requests (:mod:`tenfold.http.memory`)
JSON depth         400     ``http.json_max_depth`` arrays and objects inside each other
=================  ======  =================================================================

Limits of connections are in :mod:`tenfold.runtime.connections`, those of forms in :mod:`tenfold.http.forms`.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from itertools import accumulate, chain
from typing import TYPE_CHECKING

from tenfold._core.text import plural
from tenfold.errors import HeadersTooLarge, MalformedBody, PayloadTooLarge, UriTooLong
from tenfold.http.memory import FREE_BYTES
from tenfold.http.request import ClientDisconnected

if TYPE_CHECKING:
    from tenfold.http.reply import Headers
    from tenfold.http.request import Request

URI_MAX_BYTES = 8_192

_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STEP = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


def header_size(raw_headers: Headers) -> int:
    """Bytes of all names and values. Written so that the work happens in C: it runs for every request."""
    return sum(map(len, chain.from_iterable(raw_headers)))


def check_headers(raw_headers: Headers, max_bytes: int, max_count: int) -> None:
    """Raises HeadersTooLarge (431)."""
    if (count := len(raw_headers)) > max_count:
        raise HeadersTooLarge(
            f"The request has {count:,} headers; this server accepts at most {max_count:,} (http.headers_max).",
            limit="http.headers_max",
            value=max_count,
        )
    if (size := header_size(raw_headers)) > max_bytes:
        raise HeadersTooLarge(
            f"The request headers have {size:,} bytes; this server accepts at most {max_bytes:,}"
            " (http.header_max_bytes).",
            limit="http.header_max_bytes",
            value=max_bytes,
        )


def uri_too_long(part: str, size: int) -> UriTooLong:
    return UriTooLong(
        f"The {part} of the address has {size:,} bytes; this server accepts at most {URI_MAX_BYTES:,}.",
        limit=part,
        value=URI_MAX_BYTES,
    )


def depth_of(body: bytes) -> int:
    """How deep arrays and objects are nested in a JSON text; brackets in strings do not count."""
    brackets = _STRINGS.sub(b"", body).translate(None, _NOT_BRACKETS)
    return max(accumulate(map(_STEP.__getitem__, brackets)), default=0)


def check_depth(body: bytes, max_depth: int) -> None:
    """Raises MalformedBody (400) when JSON is nested deeper than ``max_depth``.

    Fewer brackets than that cannot nest deeper, so the usual body costs two counts.
    """
    if body.count(b"[") + body.count(b"{") > max_depth and (depth := depth_of(body)) > max_depth:
        raise MalformedBody(
            f"The JSON body is nested {plural(depth, 'level')} deep; this server accepts at most {max_depth}."
        )


def too_large(max_bytes: int) -> PayloadTooLarge:
    # The rest of the body is not read, so the connection cannot carry another request.
    return PayloadTooLarge(
        f"The body is larger than {max_bytes:,} bytes, the most that this operation accepts.",
        headers={"Connection": "close"},
        limit="body_max_bytes",
        value=max_bytes,
    )


async def read_body(request: Request) -> bytes:
    """The whole body in one piece. Raises PayloadTooLarge, Unavailable, ClientDisconnected.

    What says that it will be too large is refused before any of it is read.
    """
    if request.consumed:
        raise consumed_before()
    try:
        announced = int(
            request.header_bytes[b"content-length"][:20]
        )  # more digits are too many, whatever they say
    except (KeyError, ValueError):
        announced = 0
    if announced > request.body_max_bytes:
        raise too_large(request.body_max_bytes)
    request.consumed = request.reading = True
    message = await request.receive()
    request.reading = False
    if message["type"] != "http.request":
        raise ClientDisconnected
    body: bytes = message.get("body", b"")
    if "more_body" in message and message["more_body"]:  # noqa: RUF019 - .get() would be a call
        body = await _whole(request, body, announced)
    request.complete = True
    if len(body) > request.body_max_bytes:
        raise too_large(request.body_max_bytes)
    return body


async def _whole(request: Request, first: bytes, announced: int) -> bytes:
    """A body of which this piece came, with room for all of it, or for what came so far and as much again."""
    pieces, size, room = [first], len(first), max(announced, FREE_BYTES)
    request.body_bytes = size
    await request.hold(room)
    async for piece in _rest(request, size):
        pieces.append(piece)
        size += len(piece)
        while size > room:
            room = min(2 * size, request.body_max_bytes)
            await request.hold(room)
    return b"".join(pieces)


async def hold_form(request: Request, memory_max_bytes: int) -> None:
    """Room for what a form keeps in memory. Raises Unavailable."""
    try:
        size = int(request.header_bytes[b"content-length"][:20])
    except (KeyError, ValueError):
        size = memory_max_bytes
    await request.hold(min(size, memory_max_bytes))


async def body_pieces(request: Request) -> AsyncIterator[bytes]:
    """The body as it arrives, empty pieces left out. Raises PayloadTooLarge, ClientDisconnected."""
    if request.consumed:
        raise consumed_before()
    request.consumed = True
    _check_announced(request)
    async for piece in _rest(request, 0):
        yield piece


def _check_announced(request: Request) -> None:
    """Refuse at once what says that it will be too large, instead of waiting for it to arrive."""
    announced = request.header_bytes.get(b"content-length", b"")
    if announced.isdigit() and int(announced[:20]) > request.body_max_bytes:
        raise too_large(request.body_max_bytes)


async def _rest(request: Request, size: int) -> AsyncIterator[bytes]:
    more = True
    while more:
        request.reading = True
        message = await request.receive()
        request.reading = False
        if message["type"] != "http.request":
            raise ClientDisconnected
        more = message.get("more_body", False)
        if piece := message.get("body", b""):
            size += len(piece)
            request.body_bytes = size
            if size > request.body_max_bytes:
                raise too_large(request.body_max_bytes)
            yield piece
    request.complete = True


def consumed_before() -> RuntimeError:
    return RuntimeError("the body of this request was streamed before; it can be read only once.")
