"""Answers of services that are kept and given to others, for as long as their ``Cache-Control`` allows.

What may be kept is decided as for the app's own responses (:mod:`tenfold.cache.response`); how long, by the service alone
(RFC 9111 § 4.2.1). A gateway is a shared cache: whoever shows a credential is neither given what is kept nor makes
anything be kept, whatever the answer says.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from tenfold.cache.response import cached_response, is_cacheable
from tenfold.gateway.headers import Pair, joined
from tenfold.http.reply import Response

if TYPE_CHECKING:
    from tenfold.cache.response import CachedResponse, ResponseStore
    from tenfold.http.request import Request

CHOOSING: Final = (b"accept", b"accept-encoding", b"accept-language", b"origin")
"""Headers by which answers may differ; each combination has an entry of its own."""
_CREDENTIALS: Final = frozenset({b"authorization", b"cookie", b"x-api-key"})
_SECONDS: Final = re.compile(r"(?:^|[\s,])(s-maxage|max-age)=\"?(\d{1,10})")


def key_of(route: str, service: str, host: str, request: Request, credentials: Iterable[str] = ()) -> str:
    """Where the answer is kept; empty for a request that has no part in it. ``credentials`` are headers that carry them
    besides the usual ones."""
    headers = request.header_bytes
    asked = joined(request.raw_headers, b"cache-control").lower()
    if request.method != "GET" or b"range" in headers or "no-store" in asked:
        return ""
    if _CREDENTIALS & headers.keys() or any(name.encode() in headers for name in credentials):
        return ""
    chosen = [joined(request.raw_headers, name) for name in CHOOSING]
    target = request.scope.get("raw_path") or request.path.encode()
    return f"gateway {route} {service} {host} {target!r} {request.query_string!r} {chosen!r}"


def may_look(request: Request) -> bool:
    """Whether the caller takes an answer that is kept."""
    asked = joined(request.raw_headers, b"cache-control").lower()
    return "no-cache" not in asked and "max-age=0" not in asked


def lifetime_s(status: int, headers: Sequence[Pair]) -> float:
    """Seconds for which the answer may be given to others; 0: not at all."""
    lowered = [(name, value.lower()) for name, value in headers]
    if not is_cacheable(status, lowered) or not _varies_as_known(headers):
        return 0.0
    said: dict[str, str] = dict(reversed(_SECONDS.findall(joined(lowered, b"cache-control"))))
    seconds = said.get("s-maxage") or said.get("max-age") or "0"
    age = joined(headers, b"age")
    return max(0.0, float(seconds) - (float(age) if age.isdigit() else 0.0))


def length_of(headers: Sequence[Pair]) -> int | None:
    """What ``Content-Length`` says."""
    said = joined(headers, b"content-length")
    return int(said) if said.isdigit() and len(said) < 20 else None


async def keep(
    store: ResponseStore, key: str, headers: Sequence[Pair], body: bytes, life_s: float, now: float
) -> CachedResponse:
    """Keep a whole 200."""
    control = joined(headers, b"cache-control").encode("latin-1")
    plain = [pair for pair in headers if pair[0] != b"age"]
    made = cached_response(200, plain, body, cache_control=control, now=now)
    await store.keep(key, made, life_s)
    return made


def shown(kept: CachedResponse, request: Request, now: float) -> Response:
    """A kept answer with its age; 304 when the client has it."""
    wanted = request.header_bytes.get(b"if-none-match")
    same = wanted is not None and kept.matches(wanted)
    response = Response(b"" if same else kept.body, 304 if same else kept.status)
    response.headers = [
        *(kept.not_modified if same else kept.headers),
        (b"age", b"%d" % (now - kept.stored_at)),
    ]
    return response


def _varies_as_known(headers: Iterable[Pair]) -> bool:
    names = joined(headers, b"vary").lower().split(",")
    return all(name.strip().encode() in CHOOSING for name in names if name.strip())
