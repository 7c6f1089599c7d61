"""Whole answers as the bytes of HTTP/1.1."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from tenfold.http.reply import SharedHeaders

if TYPE_CHECKING:
    from tenfold.http.reply import Answer, Headers

_NO_LENGTH = frozenset({204, 304})
_JOIN = b": ".join


def lines(headers: Headers) -> bytes:
    """Headers as they are sent. Their characters were checked where they were made (:mod:`tenfold.http.reply`)."""
    return b"\r\n".join([*map(_JOIN, headers), b""])


def rendered(answer: Answer, method: str, dated: Headers, *, keep_alive: bool) -> bytes:
    """The bytes of any whole answer."""
    status, headers, body, _ = answer
    if isinstance(headers, SharedHeaders):
        block = headers.block
        if block is None:
            block = headers.block = lines(headers)
    else:
        block = lines(headers)
    parts = [STATUS_LINE[status], lines(dated), block]
    if status not in _NO_LENGTH and b"content-length" not in [name for name, _ in headers]:
        parts.append(b"content-length: %d\r\n" % len(body))
    if not keep_alive and not closes(headers):
        parts.append(b"connection: close\r\n")
    parts.append(b"\r\n")
    if method != "HEAD":
        parts.append(body)
    return b"".join(parts)


def closes(headers: Headers) -> bool:
    """Whether an answer ends its connection."""
    return b"close" in [token for name, value in headers if name == b"connection" for token in _tokens(value)]


def _tokens(value: bytes) -> list[bytes]:
    return [token.strip() for token in value.lower().split(b",")]
