"""Cross-site request forgery: a page of another site must not act with the visitor's cookie.

Browsers say where a request comes from in ``Sec-Fetch-Site`` and ``Origin`` (Fetch standard), headers that a page
cannot set. Clients that are no browsers send neither, and nobody can make *them* send a cookie unknowingly.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol
from urllib.parse import urlsplit

from tenfold.errors import Forbidden

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""Methods that change nothing (RFC 9110 § 9.2.1)."""

_PORTS = {"http": 80, "https": 443}


class Headers(Protocol):
    """What is read of a request's headers; names are given in lower case."""

    def get(self, name: str, /) -> str | None: ...


def check_same_origin(method: str, headers: Headers, trusted: Collection[str] = ()) -> None:
    """Return when the request is safe, not from a browser, or from a page of this origin or a trusted one.

    Raises :class:`Forbidden` otherwise. The scheme is not compared for the own origin: behind a proxy that ends
    TLS it is not known; ``SameSite`` and ``Secure`` on the cookie cover that case.
    """
    if method in SAFE_METHODS:
        return
    origin = headers.get("origin")
    if origin in trusted:
        return
    site = headers.get("sec-fetch-site")
    # "same-site" is another subdomain, which may belong to somebody else: not enough.
    foreign_site = site is not None and site not in ("same-origin", "none")
    foreign_origin = origin is not None and not _is_own(origin, headers.get("host"))
    if foreign_site or foreign_origin:
        raise Forbidden(
            f"This request came from another site ({origin or site}) with this site's cookie and was refused."
        )


def _is_own(origin: str, host: str | None) -> bool:
    try:
        page, own = urlsplit(origin), urlsplit(f"//{host}")
        default = _PORTS.get(page.scheme)
        return (
            page.hostname is not None
            and page.hostname == own.hostname
            and (page.port or default) == (own.port or default)
        )
    except ValueError:  # a port that is no number
        return False
