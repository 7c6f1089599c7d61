"""What a handler may return besides a plain value, and what the entries (ASGI, RSGI) send.

A plain value is encoded as JSON with the operation's status. :class:`Reply` adds status, headers and cookies
to a typed value; :class:`Response` is a finished answer; :class:`StreamingResponse` one whose body is made
while it is sent. ``Stream``, ``EventStream`` and ``File`` are streaming responses.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable, Mapping
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, cast
from urllib.parse import quote

import msgspec

if TYPE_CHECKING:
    from datetime import datetime
    from typing import Self

    from tenfold.http.request import Request

T = TypeVar("T")

Headers = list[tuple[bytes, bytes]]
SameSite = Literal["lax", "strict", "none"]


class SharedHeaders(list[tuple[bytes, bytes]]):
    """Headers of answers that are given out many times; nobody changes them."""

    __slots__ = ("block", "texts")

    texts: list[tuple[str, str]] | None
    """What the RSGI entry made of them, once it did."""
    block: bytes | None
    """What our HTTP/1.1 protocol made of them, once it did."""

    def __init__(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        super().__init__(headers)
        self.texts = self.block = None


class WrittenHeader(tuple[bytes, bytes]):
    """A header of many answers, with the lines that it and the one in front of it are sent as."""

    lines: bytes


JSON = b"application/json"

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110 § 5.6.2
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")  # no CR, LF or NUL: they would split the response
_COOKIE_VALUE = re.compile(r"[!#-+\--:<-\[\]-~]*")  # RFC 6265 § 4.1.1
_COOKIE_ATTRIBUTE = re.compile(r"[ -:<-~]*")


def header(name: str | bytes, value: str | bytes) -> tuple[bytes, bytes]:
    """One response header as servers take it: lower-case name, checked value.

    Raises ValueError for a name that is not a token and for a value with control characters.
    """
    raw_name = name.encode("latin-1") if isinstance(name, str) else name
    raw_value = value.encode("latin-1") if isinstance(value, str) else value
    if not _TOKEN.fullmatch(raw_name):
        raise ValueError(f"{name!r} is not a header name.")
    if not _VALUE.fullmatch(raw_value):
        raise ValueError(f"the value of header {name!r} has a line break or another control character in it.")
    return raw_name.lower(), raw_value


def header_list(headers: Mapping[str, str] | Iterable[tuple[str, str]] | None) -> Headers:
    """Headers from a mapping, or from pairs where a name repeats."""
    if not headers:
        return []
    pairs = cast("Iterable[tuple[str, str]]", headers.items() if isinstance(headers, Mapping) else headers)
    return [header(name, value) for name, value in pairs]


def cookie_header(
    name: str,
    value: str,
    *,
    max_age_s: int | None = None,
    expires: datetime | None = None,
    path: str = "/",
    domain: str = "",
    secure: bool = True,
    http_only: bool = True,
    same_site: SameSite = "lax",
) -> tuple[bytes, bytes]:
    """One ``Set-Cookie`` header (RFC 6265). Raises ValueError for a name or value that cannot be a cookie's."""
    if not _TOKEN.fullmatch(name.encode("latin-1")):
        raise ValueError(f"{name!r} is not a cookie name.")
    if not _COOKIE_VALUE.fullmatch(value):
        raise ValueError(
            f"the value of cookie {name!r} has characters that cookies may not carry; encode it first."
        )
    parts = [f"{name}={value}"]
    if max_age_s is not None:
        parts.append(f"Max-Age={max_age_s}")
    if expires is not None:
        parts.append(f"Expires={format_datetime(expires, usegmt=True)}")
    for attribute, text in (("Domain", domain), ("Path", path)):
        if not _COOKIE_ATTRIBUTE.fullmatch(text):
            raise ValueError(f"{attribute} of cookie {name!r} has characters that cookies may not carry.")
        if text:
            parts.append(f"{attribute}={text}")
    parts.extend(["Secure"] * secure)
    parts.extend(["HttpOnly"] * http_only)
    parts.append(f"SameSite={same_site.capitalize()}")
    return b"set-cookie", "; ".join(parts).encode("ascii")


def final(status: int) -> int:
    """``status`` when an answer may have it: 1xx only announce one (RFC 9110 § 15). Raises ValueError."""
    if 200 <= status <= 599:
        return status
    raise ValueError(f"{status} is not the status of an answer: those are from 200 to 599.")


class _Cookies:
    """Setting cookies, shared by both kinds of reply."""

    __slots__ = ()
    headers: Headers

    def set_cookie(
        self,
        name: str,
        value: str,
        *,
        max_age_s: int | None = None,
        expires: datetime | None = None,
        path: str = "/",
        domain: str = "",
        secure: bool = True,
        http_only: bool = True,
        same_site: SameSite = "lax",
    ) -> Self:
        """Add a ``Set-Cookie`` header; the defaults are the careful ones. Returns itself, for chaining."""
        self.headers.append(
            cookie_header(
                name,
                value,
                max_age_s=max_age_s,
                expires=expires,
                path=path,
                domain=domain,
                secure=secure,
                http_only=http_only,
                same_site=same_site,
            )
        )
        return self

    def delete_cookie(self, name: str, *, path: str = "/", domain: str = "") -> Self:
        """Ask the browser to forget a cookie; ``path`` and ``domain`` must be those it was set with."""
        return self.set_cookie(name, "", max_age_s=0, path=path, domain=domain)


class Reply(_Cookies, Generic[T]):
    """A typed value with a status, headers or cookies of its own::

        async def place(order: NewOrder) -> Reply[Order]:
            return Reply(created, 201, headers={"Location": f"/orders/{created.id}"})

    ``status`` defaults to the operation's; raises ValueError unless it is from 200 to 599.
    """

    __slots__ = ("headers", "status", "value")

    def __init__(
        self,
        value: T,
        status: int | None = None,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
    ) -> None:
        self.value = value
        self.status = None if status is None else final(status)
        self.headers = header_list(headers)


class Response(_Cookies):
    """A finished answer, sent as it is.

    ``content``: bytes as they are, text as UTF-8, None for no body, anything else as JSON. ``media_type``
    defaults accordingly (``text/plain; charset=utf-8``, ``application/octet-stream`` for bytes).
    ``body`` is None only in a :class:`StreamingResponse`. Raises ValueError for a status below 200 or above 599.
    """

    __slots__ = ("body", "headers", "status")

    body: bytes | None

    def __init__(
        self,
        content: Any = None,
        status: int = 200,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
        media_type: str | None = None,
    ) -> None:
        self.status = final(status)
        self.headers = header_list(headers)
        self.body, default = _encode(content)
        if media_type is not None:
            self._default_header("content-type", media_type)
        elif default:
            self._default_header("content-type", default)

    def _default_header(self, name: str, value: str) -> None:
        pair = header(name, value)
        if not any(known == pair[0] for known, _ in self.headers):
            self.headers.append(pair)


class StreamingResponse(Response):
    """A response whose body is made while it is sent.

    The endpoint calls :meth:`prepare` (may still change status and headers, for one to answer a range request);
    the entry then sends status and headers, then every chunk of :meth:`chunks` (none for HEAD), and at last calls
    :meth:`close`, also when the client went away. No ``content-length`` is added: set it in ``prepare``
    when it is known.
    """

    __slots__ = ()

    def __init__(
        self,
        status: int = 200,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
        media_type: str | None = None,
    ) -> None:
        super().__init__(None, status, headers, media_type)
        self.body = None

    async def prepare(self, request: Request) -> None:
        """Look at the request before the head is sent; raise a Problem to answer with it instead.

        :meth:`close` is called then too."""

    def chunks(self, request: Request) -> AsyncIterator[bytes]:
        """The body, piece by piece; empty pieces are skipped."""
        raise NotImplementedError

    async def close(self) -> None:
        """Free what the response holds; called once, whatever happened."""


Answer = tuple[int, Headers, bytes, StreamingResponse | None]
"""What an endpoint returns: status, headers (with content-length), body, and the stream that makes the body when
it is one."""


class Redirect(Response):
    """Send the client to ``url``: 303 by default, so that it follows with GET."""

    __slots__ = ()

    def __init__(
        self,
        url: str,
        status: Literal[301, 302, 303, 307, 308] = 303,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
    ) -> None:
        super().__init__(None, status, headers)
        self.headers.append(header("location", quote(url, safe=":/?#[]@!$&'()*+,;=%-._~")))


def _encode(content: Any) -> tuple[bytes, str]:
    if content is None:
        return b"", ""
    if isinstance(content, (bytes, bytearray, memoryview)):
        return bytes(content), "application/octet-stream"
    if isinstance(content, str):
        return content.encode(), "text/plain; charset=utf-8"
    return msgspec.json.encode(content), "application/json"
