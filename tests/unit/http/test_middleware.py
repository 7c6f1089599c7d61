"""CORS, compression, security headers and trusted proxies, from the settings alone."""

from __future__ import annotations

import asyncio
import zlib
from typing import Any

import pytest

from tenfold._core.sections import AppSettings, HttpSettings, Settings
from tenfold.errors import ConfigError
from tenfold.http.asgi import HttpApp
from tenfold.http.middleware import (
    Cors,
    Edge,
    Gzip,
    TrustedProxies,
    accepts_gzip,
    add_missing,
    gzip,
    reply_headers,
)
from tenfold.http.operation import Operation, Policies
from tenfold.http.reply import Headers
from tenfold.security.policy import public

SHOP = "https://shop.example"


def edge(**http: Any) -> Edge:
    return Edge(Settings(http=HttpSettings(**http)))


def test_what_is_not_configured_does_not_exist() -> None:
    bare = edge(compress_min_bytes=0)
    assert (bare.cors, bare.gzip, bare.proxies) == (None, None, None)


def test_every_reply_is_protected_and_https_is_pinned_in_production_only() -> None:
    names = {name for name, _ in reply_headers(Settings())}
    assert names == {
        b"x-content-type-options",
        b"x-frame-options",
        b"content-security-policy",
        b"referrer-policy",
    }
    production = reply_headers(Settings(app=AppSettings(env="production")))
    assert dict(production)[b"strict-transport-security"] == b"max-age=31536000"


def test_a_handlers_own_header_wins() -> None:
    headers: Headers = [(b"x-frame-options", b"SAMEORIGIN")]
    add_missing(headers, reply_headers(Settings()))
    assert [v for n, v in headers if n == b"x-frame-options"] == [b"SAMEORIGIN"]
    assert (b"x-content-type-options", b"nosniff") in headers


def test_a_named_origin_may_call_with_credentials() -> None:
    headers = dict(Cors([SHOP]).headers(SHOP))
    assert headers[b"access-control-allow-origin"] == SHOP.encode()
    assert headers[b"access-control-allow-credentials"] == b"true"
    assert headers[b"vary"] == b"Origin"


def test_another_origin_gets_nothing_but_caches_are_told() -> None:
    assert Cors([SHOP]).headers("https://evil.example") == ((b"vary", b"Origin"),)
    assert Cors([SHOP]).headers(None) == ((b"vary", b"Origin"),)


def test_any_origin_may_call_without_credentials() -> None:
    headers = dict(Cors(["*"]).headers("https://any.example"))
    assert headers[b"access-control-allow-origin"] == b"*"
    assert b"access-control-allow-credentials" not in headers


def test_a_preflight_names_methods_and_headers() -> None:
    asked = {
        "origin": SHOP,
        "access-control-request-method": "PUT",
        "access-control-request-headers": "content-type, x-a\r\n, authorization",
    }
    headers = dict(Cors([SHOP]).preflight(asked.get, {"PUT", "GET"}) or [])
    assert headers[b"access-control-allow-methods"] == b"GET, PUT"
    assert headers[b"access-control-allow-headers"] == b"content-type, x-a, authorization"
    assert headers[b"access-control-max-age"] == b"600"


def test_a_preflight_of_a_stranger_is_answered_without_permission() -> None:
    asked = {"origin": "https://evil.example", "access-control-request-method": "PUT"}
    assert [name for name, _ in Cors([SHOP]).preflight(asked.get, ["PUT"]) or []] == [b"vary"]


def test_options_without_the_preflight_headers_is_not_a_preflight() -> None:
    assert Cors([SHOP]).preflight({"origin": SHOP}.get, ["GET"]) is None


@pytest.mark.parametrize("origin", ["shop.example", "https://shop.example/", "https://", "://x"])
def test_a_wrong_origin_is_found_at_start(origin: str) -> None:
    with pytest.raises(ConfigError, match="is not an origin"):
        edge(cors_origins=[origin])


@pytest.mark.parametrize(
    ("accept", "yes"),
    [
        ("gzip", True),
        ("gzip, deflate, br", True),
        ("GZIP;q=0.5", True),
        ("*", True),
        ("x-gzip", True),
        ("gzip;q=0", False),
        ("*, gzip;q=0", False),
        ("identity, gzip;q=0.5", False),
        ("gzip;q=nonsense", False),
        ("br", False),
        ("", False),
        (None, False),
    ],
)
def test_accept_encoding_is_weighed(accept: str | None, yes: bool) -> None:
    assert accepts_gzip(accept) is yes


JSON: Headers = [(b"content-type", b"application/json")]


@pytest.mark.parametrize(
    ("headers", "size", "yes"),
    [
        (JSON, 1_000, True),
        (JSON, 999, False),
        ([(b"content-type", b"text/html; charset=utf-8")], 5_000, True),
        ([(b"content-type", b"application/problem+json")], 5_000, True),
        ([(b"content-type", b"image/svg+xml")], 5_000, True),
        ([(b"content-type", b"image/png")], 5_000, False),
        ([(b"content-type", b"text/event-stream")], 5_000, False),
        ([*JSON, (b"content-encoding", b"br")], 5_000, False),
        ([*JSON, (b"cache-control", b"no-transform")], 5_000, False),
        ([], 5_000, False),
    ],
)
def test_only_what_gains_by_it_is_compressed(headers: Headers, size: int, yes: bool) -> None:
    assert Gzip(1_000).applies(headers, size) is yes


def test_a_compressed_body_says_so_and_weakens_its_etag() -> None:
    headers: Headers = [*JSON, (b"etag", b'"a"'), (b"vary", b"Origin"), (b"content-length", b"5000")]
    packed = Gzip(1).compress(b"x" * 5_000, headers, "gzip")
    assert zlib.decompress(packed, 31) == b"x" * 5_000
    assert dict(headers) == {
        b"content-type": b"application/json",
        b"etag": b'W/"a"',
        b"vary": b"Origin, Accept-Encoding",
        b"content-length": b"%d" % len(packed),
        b"content-encoding": b"gzip",
    }


def test_a_plain_reply_still_tells_caches_that_it_varies() -> None:
    headers: Headers = list(JSON)
    assert Gzip(1).compress(b"plain", headers, None) == b"plain"
    assert headers == [*JSON, (b"vary", b"Accept-Encoding")]


def test_equal_bodies_compress_to_equal_bytes() -> None:
    assert gzip(b"a" * 99) == gzip(b"a" * 99)


PROXIES = TrustedProxies(["10.0.0.0/8", "2001:db8::/32"])


@pytest.mark.parametrize(
    ("peer", "headers", "result"),
    [
        ("203.0.113.9", {"x-forwarded-for": "1.2.3.4"}, ("203.0.113.9", "", "")),
        ("10.0.0.1", {}, ("10.0.0.1", "", "")),
        ("10.0.0.1", {"x-forwarded-for": "198.51.100.7"}, ("198.51.100.7", "", "")),
        ("10.0.0.1", {"x-forwarded-for": "6.6.6.6, 198.51.100.7, 10.0.0.2"}, ("198.51.100.7", "", "")),
        ("10.0.0.1", {"x-forwarded-for": "10.0.0.3, 10.0.0.2"}, ("10.0.0.3", "", "")),
        ("10.0.0.1", {"x-forwarded-for": "6.6.6.6, nonsense, 10.0.0.2"}, ("10.0.0.2", "", "")),
        ("10.0.0.1", {"x-forwarded-for": "198.51.100.7:4711"}, ("198.51.100.7", "", "")),
        ("::ffff:10.0.0.1", {"x-forwarded-for": "198.51.100.7"}, ("198.51.100.7", "", "")),
        (
            "10.0.0.1",
            {"x-forwarded-for": "1.1.1.1", "x-forwarded-proto": "HTTPS", "x-forwarded-host": "shop.example"},
            ("1.1.1.1", "https", "shop.example"),
        ),
        (
            "10.0.0.1",
            {
                "forwarded": 'for="[2001:db9::1]:4711";proto=https;host=shop.example, for=10.0.0.2;proto=https;host=shop.example'
            },
            ("2001:db9::1", "https", "shop.example"),
        ),
        ("10.0.0.1", {"forwarded": "for=unknown"}, ("10.0.0.1", "", "")),
        ("unix", {"x-forwarded-for": "1.1.1.1"}, ("unix", "", "")),
    ],
)
def test_the_client_is_the_last_address_that_is_not_a_trusted_proxy(
    peer: str, headers: dict[str, str], result: tuple[str, str, str]
) -> None:
    assert PROXIES.resolve(peer, headers.get) == result


def test_the_scope_tells_what_the_proxy_told() -> None:
    scope = {
        "type": "http",
        "scheme": "http",
        "client": ("10.0.0.1", 5),
        "headers": [
            (b"host", b"internal"),
            (b"x-forwarded-for", b"6.6.6.6"),
            (b"x-forwarded-for", b"198.51.100.7"),
            (b"x-forwarded-proto", b"https"),
            (b"x-forwarded-host", b"shop.example"),
        ],
    }
    told = edge(trusted_proxies=["10.0.0.0/8"]).trust(scope)
    assert (told["client"], told["scheme"]) == (("198.51.100.7", 0), "https")
    assert [v for n, v in told["headers"] if n == b"host"] == [b"shop.example"]
    assert edge().trust(scope) is scope
    assert edge(trusted_proxies=["192.168.0.0/16"]).trust(scope) is scope
    assert edge(trusted_proxies=["10.0.0.0/8"]).trust({**scope, "type": "websocket"})["scheme"] == "wss"


def test_a_wrong_network_is_found_at_start() -> None:
    with pytest.raises(ConfigError, match=r"http\.trusted_proxies"):
        edge(trusted_proxies=["10.0.0.1/8"])


def test_the_app_answers_a_preflight_with_each_header_once() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request"}

    async def hello() -> None: ...

    operation = Operation(hello, service="s", method="PUT", path="/x", policies=Policies(auth=public))
    settings = HttpSettings(cors_origins=[SHOP])
    app = HttpApp([operation], settings=settings, edge=Edge(Settings(http=settings)))
    headers = [(b"origin", SHOP.encode()), (b"access-control-request-method", b"PUT")]
    scope = {"type": "http", "method": "OPTIONS", "path": "/x", "query_string": b"", "headers": headers}

    async def ask() -> None:
        await app(scope, receive, send)
        await app.stop()

    asyncio.run(ask())
    names = [name for name, _ in sent[0]["headers"] if name.startswith(b"access-control")]
    assert sorted(names) == sorted(set(names))
    assert dict(sent[0]["headers"])[b"access-control-allow-origin"] == SHOP.encode()
    assert dict(sent[0]["headers"])[b"access-control-allow-methods"] == b"PUT"
