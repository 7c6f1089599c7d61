"""What surrounds every reply: CORS, compression, security headers, trusted proxies.

Each is an object built once from the settings, or None when the settings do not ask for it, so that what is
off costs nothing. Header bytes are made at start. The pipeline applies them to its own replies;
:meth:`Edge.wrap` puts the same around any ASGI application.
"""

from __future__ import annotations

import ipaddress
import zlib
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

from tenfold._core.sections import Settings
from tenfold.errors import ConfigError
from tenfold.http.reply import Headers

Pair = tuple[bytes, bytes]
Get = Callable[[str], str | None]
"""Looks a request header up by its lower-case name."""

EXPOSED = (
    "ETag, Location, Retry-After, Link, X-Request-Id, Idempotency-Replayed, Content-Disposition, RateLimit, "
    "RateLimit-Policy, Tenfold-Causal"
)
PREFLIGHT_MAX_AGE_S = 600
COMPRESS_LEVEL = 5
COMPRESS_INLINE_MAX_BYTES = 131_072
"""Larger bodies are worth a thread: compressing them would hold the loop for milliseconds."""


def reply_headers(settings: Settings) -> Headers:
    """The headers that every reply carries, for what a handler did not set itself.

    In production also ``Strict-Transport-Security`` (browsers ignore it on plain HTTP).
    """
    headers: Headers = [
        (b"x-content-type-options", b"nosniff"),
        (b"x-frame-options", b"DENY"),
        (b"content-security-policy", b"frame-ancestors 'none'"),
        (b"referrer-policy", b"strict-origin-when-cross-origin"),
    ]
    if settings.app.env == "production":
        headers.append((b"strict-transport-security", b"max-age=31536000"))
    return headers


def add_missing(headers: Headers, defaults: Iterable[Pair]) -> None:
    """Append those of ``defaults`` whose name is not among ``headers`` yet."""
    present = {name for name, _ in headers}
    headers.extend([pair for pair in defaults if pair[0] not in present])


class Cors:
    """Answers to browsers that call from other origins (WHATWG Fetch § 3.2).

    Named origins may send cookies; ``*`` answers any origin, without credentials, as the standard demands.
    """

    def __init__(self, origins: Iterable[str]) -> None:
        origins = [_checked_origin(origin) for origin in origins]
        self.any = "*" in origins
        self._allowed = {origin: self._simple(origin) for origin in origins}

    def headers(self, origin: str | None) -> tuple[Pair, ...]:
        """What to add to a reply for a request with this ``Origin`` header (None without one)."""
        if self.any:
            return self._allowed["*"] if origin is not None else ()
        # also without an Origin: a cache must not give that reply to a browser that sends one
        return self._allowed.get(origin or "", _VARY_ORIGIN)

    def preflight(self, get: Get, methods: Iterable[str]) -> Headers | None:
        """What the 204 that answers a preflight has besides :meth:`headers`; None when it is not a preflight.

        ``methods`` are those that the path answers. An origin that is not allowed is told nothing, which is
        how a browser is refused.
        """
        origin = get("origin")
        if origin is None or get("access-control-request-method") is None:
            return None
        headers: Headers = [(b"vary", b"Access-Control-Request-Method, Access-Control-Request-Headers")]
        if not self.any and origin not in self._allowed:
            return headers
        headers.append((b"access-control-allow-methods", ", ".join(sorted(methods)).encode()))
        headers.append((b"access-control-max-age", b"%d" % PREFLIGHT_MAX_AGE_S))
        if asked := get("access-control-request-headers"):
            headers.append((b"access-control-allow-headers", _header_names(asked)))
        return headers

    def _simple(self, origin: str) -> tuple[Pair, ...]:
        allow = (b"access-control-allow-origin", origin.encode())
        expose = (b"access-control-expose-headers", EXPOSED.encode())
        if origin == "*":
            return (allow, expose)
        return (allow, (b"access-control-allow-credentials", b"true"), expose, *_VARY_ORIGIN)


_VARY_ORIGIN: tuple[Pair, ...] = ((b"vary", b"Origin"),)


def _checked_origin(origin: str) -> str:
    scheme, separator, host = origin.partition("://")
    if origin != "*" and (not separator or not scheme or not host or "/" in host):
        raise ConfigError(
            f"{origin!r} is not an origin.",
            where="http.cors_origins",
            remedy='Write scheme, host and port without a path, as "https://shop.example", or "*".',
        )
    return origin.lower()


def _header_names(asked: str) -> bytes:
    """The header names of a preflight, back to the client with whatever is not a name left out."""
    names = (name.strip() for name in asked.split(","))
    return ", ".join(n for n in names if n and n.replace("-", "").replace("_", "").isalnum()).encode(
        "latin-1", "ignore"
    )


class Gzip:
    """Compression of whole bodies of at least ``min_bytes`` bytes, of types that gain by it."""

    def __init__(self, min_bytes: int) -> None:
        self.min_bytes = min_bytes

    def applies(self, headers: Headers, size: int) -> bool:
        """Whether a reply may be compressed: by its size, its type, and whether somebody did it before."""
        if size < self.min_bytes:
            return False
        kind = b""
        for name, value in headers:
            if name == b"content-type":
                kind = value
            elif name in _ENCODED or (name == b"cache-control" and b"no-transform" in value):
                return False
        return _compressible(kind)

    def compress(self, body: bytes, headers: Headers, accept_encoding: str | None) -> bytes:
        """The body to send, with ``headers`` adapted in place; call it when :meth:`applies`.

        A strong ETag becomes weak, because the bytes differ from those it was computed over.
        """
        _add_vary(headers, b"Accept-Encoding")
        if not accepts_gzip(accept_encoding):
            return body
        packed = gzip(body)
        headers.append((b"content-encoding", b"gzip"))
        for at, (name, value) in enumerate(headers):
            if name == b"etag" and not value.startswith(b"W/"):
                headers[at] = (name, b"W/" + value)
            elif name == b"content-length":
                headers[at] = (name, b"%d" % len(packed))
        return packed


_ENCODED = frozenset({b"content-encoding", b"content-range"})


def gzip(body: bytes) -> bytes:
    """The gzip format without a timestamp, so that equal bodies give equal bytes."""
    packer = zlib.compressobj(COMPRESS_LEVEL, zlib.DEFLATED, 31)
    return packer.compress(body) + packer.flush()


@lru_cache(maxsize=256)
def accepts_gzip(accept_encoding: str | None) -> bool:
    """Whether the client takes gzip at least as gladly as the plain body (RFC 9110 § 12.5.3)."""
    if not accept_encoding:
        return False
    weights: dict[str, float] = {}
    for item in accept_encoding.lower().split(","):
        coding, _, parameters = item.partition(";")
        weights[coding.strip()] = _quality(parameters)
    weight = weights.get("gzip", weights.get("x-gzip", weights.get("*", 0.0)))
    return weight > 0 and weight >= weights.get("identity", 0.0)


def _quality(parameters: str) -> float:
    name, _, value = parameters.strip().partition("=")
    if name.strip() != "q":
        return 1.0
    try:
        return min(1.0, max(0.0, float(value)))
    except ValueError:
        return 0.0


@lru_cache(maxsize=256)
def _compressible(content_type: bytes) -> bool:
    kind = content_type.partition(b";")[0].strip().lower()
    if kind == b"text/event-stream":
        return False
    return kind.startswith(b"text/") or kind.endswith((b"json", b"xml", b"javascript", b"yaml", b"wasm"))


def _add_vary(headers: Headers, name: bytes) -> None:
    for at, (known, value) in enumerate(headers):
        if known == b"vary":
            if name.lower() not in value.lower() and value != b"*":
                headers[at] = (known, value + b", " + name)
            return
    headers.append((b"vary", name))


class TrustedProxies:
    """Who the client is when a proxy that we trust says so.

    Of the chain in ``X-Forwarded-For`` (or ``Forwarded``, RFC 7239) the last address that is not a trusted
    proxy's is the client: what stands before it was written by the client itself and may be anything.
    """

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks = [_checked_network(network) for network in networks]
        self._trusts = lru_cache(maxsize=1024)(self._in_networks)

    def trusts(self, host: str) -> bool:
        return self._trusts(host)

    def resolve(self, peer: str, get: Get) -> tuple[str, str, str]:
        """``(client, scheme, host)`` for a request from ``peer``; scheme and host empty where nobody says."""
        if not self.trusts(peer):
            return peer, "", ""
        if forwarded := get("forwarded"):
            return self._from_hops(peer, [_forwarded_element(part) for part in forwarded.split(",")])
        chain = [part.strip() for part in (get("x-forwarded-for") or "").split(",") if part.strip()]
        client = self._client(peer, chain)
        return client, _last(get("x-forwarded-proto")).lower(), _last(get("x-forwarded-host"))

    def _from_hops(self, peer: str, hops: list[dict[str, str]]) -> tuple[str, str, str]:
        client = self._client(peer, [hop.get("for", "") for hop in hops])
        return client, hops[-1].get("proto", "").lower(), hops[-1].get("host", "")

    def _client(self, peer: str, chain: list[str]) -> str:
        client = peer
        for hop in reversed(chain):
            address = _address(hop)
            if address is None:
                return client  # "unknown" or garbage: the last address that somebody vouched for
            client = address
            if not self.trusts(client):
                return client
        return client

    def _in_networks(self, host: str) -> bool:
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self._networks)


def _checked_network(network: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(network)
    except ValueError as error:
        raise ConfigError(
            f"{error}.",
            where="http.trusted_proxies",
            remedy='Write addresses or networks, as "10.0.0.0/8".',
        ) from None


def _forwarded_element(element: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for part in element.split(";"):
        name, _, value = part.partition("=")
        pairs[name.strip().lower()] = value.strip().strip('"')
    return pairs


def _address(hop: str) -> str | None:
    """The IP address of ``192.0.2.1``, ``192.0.2.1:4711``, ``2001:db8::1`` or ``[2001:db8::1]:4711``."""
    if hop.startswith("["):
        hop = hop[1:].partition("]")[0]
    elif hop.count(":") == 1:
        hop = hop.partition(":")[0]
    try:
        return str(ipaddress.ip_address(hop))
    except ValueError:
        return None


def _last(value: str | None) -> str:
    return (value or "").rpartition(",")[2].strip()


class Edge:
    """Everything of this module that the settings ask for; the parts are None when they are off."""

    def __init__(self, settings: Settings) -> None:
        http = settings.http
        self.headers = tuple(reply_headers(settings))
        self.cors = Cors(http.cors_origins) if http.cors_origins else None
        self.gzip = Gzip(http.compress_min_bytes) if http.compress_min_bytes > 0 else None
        self.proxies = TrustedProxies(http.trusted_proxies) if http.trusted_proxies else None

    def trust(self, scope: dict[str, Any]) -> dict[str, Any]:
        """The ASGI scope with client, scheme and Host as the trusted proxy tells them."""
        client = scope.get("client")
        if self.proxies is None or client is None or not self.proxies.trusts(client[0]):
            return scope
        joined: dict[str, str] = {}
        for raw, value in scope["headers"]:  # a header that repeats is one list
            name = raw.decode("latin-1")
            joined[name] = (
                f"{joined[name]}, {value.decode('latin-1')}" if name in joined else value.decode("latin-1")
            )
        address, scheme, host = self.proxies.resolve(client[0], joined.get)
        changed = {**scope, "client": (address, 0 if address != client[0] else client[1])}
        if scheme in ("http", "https"):
            secure = scheme == "https"
            plain = "wss" if secure else "ws"
            changed["scheme"] = plain if scope["type"] == "websocket" else scheme
        if host:
            others = [pair for pair in scope["headers"] if pair[0] != b"host"]
            changed["headers"] = [*others, (b"host", host.encode("latin-1", "ignore"))]
        return changed
