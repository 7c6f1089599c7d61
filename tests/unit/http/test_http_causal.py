"""The causal token at the edge of HTTP: costs nothing where there are no replicas, and is taken from where it may be."""

from __future__ import annotations

from typing import Any

import pytest
from http_calls import app_of, operation

from tenfold.http.asgi import HttpApp
from tenfold.http.causal import Tokens, token_in
from tenfold.http.reply import SharedHeaders
from tenfold.http.request import Request

TOKEN = "1.c1-1-16b3748"
LATER = "1.c1-1-16b3750"


async def hello() -> str:
    return "hello"


def request(*headers: tuple[bytes, bytes], **scope: Any) -> Request:
    return Request("GET", "/", (), b"", list(headers), dict(headers), None, scope)  # type: ignore[arg-type]


def test_without_replicas_endpoints_know_nothing_of_tokens() -> None:
    app: HttpApp = app_of(operation(hello, "GET", "/"))
    assert "token" not in app.endpoints[0].source
    assert "causal" not in app.endpoints[0].source


@pytest.mark.parametrize(
    ("headers", "token"),
    [
        ([], ""),
        ([(b"tenfold-causal", b" 1.c1-1-16b3748 ")], TOKEN),
        ([(b"cookie", b"a=1; tenfold_causal=1.c1-1-16b3748; b=2")], TOKEN),
        ([(b"cookie", b'tenfold_causal="1.c1-1-16b3748"')], TOKEN),
        ([(b"cookie", b"tenfold_causal=1.c1-1-16b3748"), (b"cookie", b"b=2")], TOKEN),
        ([(b"tenfold-causal", TOKEN.encode()), (b"cookie", b"tenfold_causal=1.c1-1-16b3750")], LATER),
        ([(b"tenfold-causal", b"\xff\xfe"), (b"cookie", b"tenfold_causal=1.c1-1-16b3750")], LATER),
        ([(b"cookie", b"tenfold_causal=rubbish")], ""),
    ],
)
def test_a_token_comes_in_the_header_the_cookie_or_both(
    headers: list[tuple[bytes, bytes]], token: str
) -> None:
    assert token_in(request(*headers)) == token


@pytest.mark.parametrize(("scheme", "secure"), [("https", True), ("http", False)])
def test_the_cookie_is_secure_where_the_request_was(scheme: str, secure: bool) -> None:
    asked = request(scheme=scheme, root_path="/shop")
    asked.context.causal = TOKEN
    _, headers, _, _ = Tokens(10.0).tell((200, SharedHeaders([]), b"", None), asked)
    cookie = dict(headers)[b"set-cookie"].decode()
    assert cookie.startswith(f"tenfold_causal={TOKEN}; Max-Age=300; Path=/shop;")
    assert ("Secure" in cookie) is secure


def test_the_cookie_lives_until_no_replica_that_is_read_from_lacks_the_write() -> None:
    asked = request()
    asked.context.causal = TOKEN
    _, headers, _, _ = Tokens(3600.0).tell((200, [], b"", None), asked)
    assert b"Max-Age=7200" in dict(headers)[b"set-cookie"]


def test_headers_that_others_share_stay_as_they_are() -> None:
    shared = SharedHeaders([(b"a", b"1")])
    asked = request((b"tenfold-causal", b""))
    asked.context.causal = TOKEN
    answer = Tokens(10.0).tell((200, shared, b"", None), asked)
    assert list(shared) == [(b"a", b"1")]
    assert answer[1] == [(b"a", b"1"), (b"tenfold-causal", TOKEN.encode())]
