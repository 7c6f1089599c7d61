"""Which headers go through a gateway, and which it writes itself. Pure.

What is said between two neighbours ends here (RFC 9110 § 7.6.1). What a service is to believe of the way and of the
caller, the gateway writes; what the client says of it is dropped. Credentials go on as they came, and nothing is put
beside them: who calls is the service's to find out.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

from msgspec import Struct

from tenfold.client.outward import REQUEST_ID, RETRIES

Pair = tuple[bytes, bytes]

HOP: Final = frozenset(
    {
        b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te",
        b"trailer", b"transfer-encoding", b"upgrade", b"http2-settings",
    }
)  # fmt: skip
_OURS: Final = frozenset(
    {
        b"host", b"content-length", b"expect", b"forwarded", b"x-real-ip", b"x-request-id", b"traceparent",
        b"tracestate", b"accept-encoding", b"via",
    }
)  # fmt: skip
_LET_THROUGH: Final = frozenset({b"tenfold-causal", b"tenfold-retries"})
"""Of the framework's own headers, what anybody may say."""
_NAMES: Final = {b"tenfold-retries": RETRIES}
_OF_HANDSHAKES: Final = b"sec-websocket-"
_OF_ANSWERS: Final = frozenset({b"date", b"server"})
"""The gateway's own server writes them."""
VIA: Final = "1.1 tenfold"
REQUEST_ID_MAX: Final = 128
_REQUEST_ID: Final = re.compile(rb"[!-~]{1,%d}" % REQUEST_ID_MAX)
_NONE: Final[frozenset[bytes]] = frozenset()


class Way(Struct, frozen=True):
    """How a request came here."""

    client: str
    """Address, behind trusted proxies that of the client; empty when nobody knows."""
    scheme: str
    host: str
    """As the client wrote it."""
    prefix: str = ""
    """What of the path the service does not see."""


def onward(given: Sequence[Pair], way: Way, request_id: str) -> dict[str, str]:
    """The headers of the request to a service; a name that came twice is a list. Names are in lower case but for those
    that the client (:mod:`tenfold.client.outward`) may write too."""
    dropped = HOP | _OURS | named(given)
    found: dict[str, str] = {}
    for raw, value in given:
        if raw in dropped or raw.startswith((b"x-forwarded-", _OF_HANDSHAKES)):
            continue
        if raw.startswith(b"tenfold-") and raw not in _LET_THROUGH:
            continue
        name, text = _NAMES.get(raw) or raw.decode("latin-1"), value.decode("latin-1")
        between = "; " if raw == b"cookie" else ", "
        found[name] = f"{found[name]}{between}{text}" if name in found else text
    return (
        found
        | _way(way)
        | {
            "Accept-Encoding": joined(given, b"accept-encoding") or "identity",
            REQUEST_ID: _request_id(given) or request_id,
            "Via": ", ".join(filter(None, (joined(given, b"via"), VIA))),
        }
    )


def back(given: Iterable[tuple[str, str]], *, cors: bool) -> list[Pair]:
    """The headers of the answer to the client. ``cors``: the gateway itself says what other origins may do."""
    pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in given]
    dropped = HOP | _OF_ANSWERS | named(pairs)
    return [
        pair
        for pair in pairs
        if pair[0] not in dropped and not (cors and pair[0].startswith(b"access-control-"))
    ]


def named(given: Iterable[Pair]) -> frozenset[bytes]:
    """The headers that ``Connection`` names: they are for the neighbour, too."""
    lists = [value for name, value in given if name == b"connection"]
    if not lists:
        return _NONE
    return frozenset(part.strip().lower() for value in lists for part in value.split(b","))


def joined(given: Iterable[Pair], name: bytes) -> str:
    """All values of a header that is a list."""
    return b", ".join([value for known, value in given if known == name]).decode("latin-1")


def _way(way: Way) -> dict[str, str]:
    host = way.host if way.host.isascii() and way.host.isprintable() and '"' not in way.host else ""
    found = {"X-Forwarded-Proto": way.scheme, "X-Forwarded-Host": host, "X-Forwarded-For": way.client}
    element = {"for": _node(way.client), "host": f'"{host}"' if host else "", "proto": way.scheme}
    found["Forwarded"] = ";".join(f"{name}={value}" for name, value in element.items() if value)
    if way.prefix:
        found["X-Forwarded-Prefix"] = way.prefix
    return {name: value for name, value in found.items() if value}


@lru_cache(maxsize=4096)
def _node(client: str) -> str:
    """As RFC 7239 § 6 writes it."""
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return "unknown"
    return f'"[{address}]"' if address.version == 6 else str(address)


def _request_id(given: Iterable[Pair]) -> str:
    """The caller's own, where it is fit for a log."""
    said = [value for name, value in given if name == b"x-request-id"]
    return said[0].decode("ascii") if said and _REQUEST_ID.fullmatch(said[0]) else ""
