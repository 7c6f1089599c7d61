"""From what is written in a call to what is sent. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import msgspec

from tenfold.client.retrying import IDEMPOTENT
from tenfold.client.trying import Call
from tenfold.client.urls import below, filled, with_query
from tenfold.errors import AddressRefused
from tenfold.guard.addresses import Place, place_of

if TYPE_CHECKING:
    from tenfold.client.state import State
    from tenfold.client.urls import Query

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OURS = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "expect", "te", "trailer", "upgrade"}
)
_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
_NOTHING = object()


def call_of(
    state: State,
    method: str,
    path: str,
    given: dict[str, Any],
    *,
    now: float,
    timeout_s: float,
    streams: bool,
) -> Call:
    """Raises ValueError with a sentence for what cannot be sent, AddressRefused for where it may not go."""
    where = state.request(method, path)
    if method not in _METHODS:
        raise ValueError(f"{where}: the method is not one of {', '.join(sorted(_METHODS))}.")
    query, headers = given.pop("query", None), given.pop("headers", None)
    key = given.pop("idempotency_key", "")
    content, kind = _content(where, given)
    place = _place(state, path, given, query, where)
    sent = {"Accept": "application/json, */*;q=0.5", "User-Agent": f"{state.caller} tenfold"}
    if place.authority == (state.base.authority if state.base else ""):
        sent |= state.headers
    if kind:
        sent["Content-Type"] = kind
    if key:
        sent |= checked_headers({"Idempotency-Key": key}, where)
    sent = _merged(sent, checked_headers(headers or {}, where))
    return Call(
        method=method,
        place=place,
        path=path if state.base else f"{place.scheme}://{place.authority}",
        headers=sent,
        content=content,
        idempotent=method in IDEMPOTENT or bool(key),
        timeout_s=timeout_s,
        ends=now + timeout_s,
        streams=streams,
    )


def checked_headers(headers: Mapping[str, str], where: str) -> dict[str, str]:
    """Headers that can be sent. Raises ValueError for others: a line break would begin a header of its own."""
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name) or name.lower() in _OURS:
            raise ValueError(f"{where}: {name!r} is no header that a call may have.")
        if not value.isascii() or not value.isprintable():
            raise ValueError(f"{where}: the value of {name} has characters that no header can carry.")
    return dict(headers)


def _merged(under: dict[str, str], over: dict[str, str]) -> dict[str, str]:
    """Names of headers count in any case."""
    said = {name.lower() for name in over}
    return {name: value for name, value in under.items() if name.lower() not in said} | over


def _place(state: State, path: str, values: Mapping[str, object], query: Query | None, where: str) -> Place:
    if state.base is not None:
        try:
            return below(state.base, filled(path, values), query)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
    if values:
        raise ValueError(f"{where}: a whole URL has no blanks; {next(iter(values))}= is not known.")
    try:
        return place_of(with_query(path, query), plain_http=state.plain_http, allowed=state.allowed)
    except ValueError as error:
        raise AddressRefused(f"{state.name}: calls do not go there: {error}", dependency=state.name) from None


def _content(where: str, given: dict[str, Any]) -> tuple[bytes, str]:
    """The body and its content type."""
    json, form, content = given.pop("json", _NOTHING), given.pop("form", None), given.pop("content", None)
    if (json is not _NOTHING) + (form is not None) + (content is not None) > 1:
        raise ValueError(f"{where}: a body is one of json, form and content.")
    if json is not _NOTHING:
        try:
            return msgspec.json.encode(json, enc_hook=_pydantic), "application/json"
        except (TypeError, NotImplementedError, OverflowError, UnicodeEncodeError, RecursionError) as error:
            raise ValueError(f"{where}: the body cannot be written as JSON: {error}.") from None
    if form is not None:
        return urlencode(form, doseq=True).encode(), "application/x-www-form-urlencoded"
    return (b"" if content is None else bytes(content)), ("application/octet-stream" if content else "")


def _pydantic(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    raise NotImplementedError(f"a {type(value).__name__} is no JSON")
