"""Paths with blanks to fill in, safely: ``/charges/{id}``. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode, urljoin

from msgspec.structs import replace

from tenfold.guard.addresses import URL_MAX, Place, place_of

if TYPE_CHECKING:
    from tenfold.guard.addresses import Network

_BLANK = re.compile(r"\{(\w+)\}")
Query = Mapping[str, object]


def filled(path: str, values: Mapping[str, object]) -> str:
    """``path`` with each ``{blank}`` replaced by its value, percent-encoded, a slash too: a value is one part of a path
    and cannot lead out of it.

    Raises ValueError with a sentence for a blank without a value, a value without a blank, and the values "", "." and
    "..", which servers take for other paths.
    """
    blanks = _BLANK.findall(path)
    if missing := [name for name in blanks if name not in values]:
        raise ValueError(f"there is no value for {{{missing[0]}}}; write {missing[0]}=….")
    if extra := [name for name in values if name not in blanks]:
        raise ValueError(f"the path has no {{{extra[0]}}}; parameters of a query go into query={{…}}.")

    def value(match: re.Match[str]) -> str:
        text = str(values[match[1]])
        if text in ("", ".", ".."):
            raise ValueError(f"{{{match[1]}}} is {text!r}, which would be another path.")
        return quote(text, safe="")

    return _BLANK.sub(value, path)


def with_query(target: str, query: Query | None) -> str:
    """``target`` with parameters behind it: a list repeats its name, None is left out, true and false are those words."""
    if not query:
        return target
    pairs = [
        (name, _text(each))
        for name, value in query.items()
        for each in (
            value if isinstance(value, Iterable) and not isinstance(value, (str, bytes)) else [value]
        )
        if each is not None
    ]
    return f"{target}{'&' if '?' in target else '?'}{urlencode(pairs)}" if pairs else target


def below(base: Place, path: str, query: Query | None) -> Place:
    """The place of ``path`` below the base of a client. Raises ValueError with a sentence."""
    if not path.startswith("/") or path.startswith("//") or "\\" in path or not path.isprintable():
        raise ValueError(
            f"the path {path[:100]!r} does not begin with one slash, or has odd characters in it."
        )
    if "#" in path:
        raise ValueError("the path has a fragment (#…), which no server would see.")
    encoded = quote(path, safe="/%:@!$&'()*+,;=~-._?")
    target = with_query(base.target.partition("?")[0].rstrip("/") + encoded, query)
    if len(target) > URL_MAX * 4:
        raise ValueError(f"the path and its query are longer than {URL_MAX * 4:,} characters.")
    return replace(base, target=target)


def redirected(place: Place, location: str, *, plain_http: bool, allowed: Iterable[Network]) -> Place:
    """Where a ``Location`` header leads from ``place``, checked like any other. Raises ValueError with a sentence.

    Never from https to http, whatever is allowed otherwise.
    """
    url = urljoin(place.url, location.strip()).partition("#")[0]
    return place_of(url, plain_http=plain_http and place.scheme == "http", allowed=allowed)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
