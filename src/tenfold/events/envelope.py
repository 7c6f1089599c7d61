"""The CloudEvents 1.0 envelope of an event that goes to a broker, and of one that comes from it. Pure.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md. An envelope is a flat mapping of attribute names
to text; :mod:`~tenfold.events.bindings` says how each protocol carries one. What is ours to add travels in extension
attributes: the trace, the tenant, the priority and the causal token of who published, and until when the event is of
use (``expirytime``, of the documented extension for that).

What other producers send is taken as it comes: an attribute that is missing, or not what it should be, is left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import msgspec

from tenfold._core.context import Priority
from tenfold.errors import UndecodableEvent
from tenfold.queue.expiry import UNTIL
from tenfold.telemetry.propagation import format_traceparent, parse_traceparent

SPEC_VERSION: Final = "1.0"
JSON: Final = "application/json"
STRUCTURED: Final = "application/cloudevents+json"
"""Media type of a message whose body is the whole event, attributes and data."""

NAME = re.compile(r"[a-z0-9]{1,20}")
"""Of attributes (§ 3.1): lower-case letters and digits, and not longer than 20 of them."""

_REFUSED = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
"""Characters that a String must not contain (§ 3.2)."""
_TYPE = re.compile(r"(?P<topic>.+)\.v(?P<version>[1-9]\d{0,8})", re.ASCII)


class Opened(NamedTuple):
    """What is in a message, whatever mode it was sent in."""

    attributes: dict[str, str]
    """Names to text; those that the message does not have are not there."""
    body: bytes
    """The event's data, as ``datacontenttype`` says."""


# ── to a broker ──


def attributes_of(
    *,
    app: str,
    topic: str,
    version: int,
    event_id: str,
    key: str | None,
    published_at: float,
    context: str | None,
    priority: int | None = None,
    schema_url: str = "",
) -> dict[str, str]:
    """The envelope of an event.

    ``published_at`` is in seconds since the epoch, ``context`` the JSON text that a message row carries, and
    ``schema_url`` an absolute URL below which the schema is found (empty: no ``dataschema``).
    """
    given = {"id": event_id, "subject": key or "", **_extensions(context)}
    if priority is not None:
        given["priority"] = str(int(priority))
    return {
        **_alike(app, topic, version, schema_url),
        "time": _time(published_at),
        **_allowed(given),
    }


@lru_cache(maxsize=1_000)
def _alike(app: str, topic: str, version: int, schema_url: str) -> Mapping[str, str]:
    """The attributes that all events of a topic and version share."""
    service = topic.partition(".")[0]
    return _allowed(
        {
            "specversion": SPEC_VERSION,
            "source": f"/{quote(app)}/{quote(service)}",
            "type": type_of(topic, version),
            "datacontenttype": JSON,
            "dataschema": f"{schema_url.rstrip('/')}/{quote(topic)}/{version}" if schema_url else "",
        }
    )


def _allowed(attributes: Mapping[str, str]) -> dict[str, str]:
    """Those that have a value which may be sent."""
    return {name: value for name, value in attributes.items() if value and not _REFUSED.search(value)}


def type_of(topic: str, version: int) -> str:
    """``orders.order-placed.v2``."""
    return f"{topic}.v{version}"


def _time(moment: float) -> str:
    """Seconds since the epoch as the format writes times (RFC 3339)."""
    return datetime.fromtimestamp(moment, UTC).isoformat().replace("+00:00", "Z")


def _extensions(context: str | None) -> dict[str, str]:
    """The extension attributes of a sender's context."""
    if not context:
        return {}
    wire: dict[str, Any] = msgspec.json.decode(context)
    found = {
        "tracestate": wire.get("tracestate", ""),
        "requestid": wire.get("request_id", ""),
        "tenant": wire.get("tenant", ""),
        "causaltoken": wire.get("causal", ""),
        "expirytime": _time(wire[UNTIL]) if UNTIL in wire else "",
    }
    if wire.get("trace_id") and wire.get("span_id"):
        found["traceparent"] = format_traceparent(
            wire["trace_id"], wire["span_id"], wire.get("sampled", False)
        )
    return found


# ── from a broker ──


def topic_of(attributes: Mapping[str, str]) -> tuple[str, int]:
    """Topic and version that the ``type`` names; ``("", 1)`` for that of a foreign producer, whose data are then
    version 1."""
    match = _TYPE.fullmatch(attributes.get("type", ""))
    return (match["topic"], int(match["version"])) if match else ("", 1)


def context_of(attributes: Mapping[str, str]) -> str | None:
    """The context that a message row carries, as JSON text; None when the envelope says nothing of it."""
    wire: dict[str, Any] = {}
    parent = parse_traceparent(attributes.get("traceparent", ""))
    if parent is not None:
        wire |= {"trace_id": parent.trace_id, "span_id": parent.span_id}
        if parent.sampled:
            wire["sampled"] = True
        if state := attributes.get("tracestate"):
            wire["tracestate"] = state
    for name, field in (("requestid", "request_id"), ("tenant", "tenant"), ("causaltoken", "causal")):
        if value := attributes.get(name):
            wire[field] = value
    if (until := _moment(attributes.get("expirytime", ""))) is not None:
        wire[UNTIL] = until
    return msgspec.json.encode(wire).decode() if wire else None


def priority_of(attributes: Mapping[str, str]) -> Priority | None:
    """How urgent the publisher's work was, or None."""
    text = attributes.get("priority", "")
    known = {str(int(priority)): priority for priority in Priority}
    return known.get(text)


def published_at(attributes: Mapping[str, str], otherwise: float) -> float:
    """Seconds since the epoch at which it was published; ``otherwise`` where the envelope does not say."""
    moment = _moment(attributes.get("time", ""))
    return otherwise if moment is None else moment


def _moment(text: str) -> float | None:
    """Seconds since the epoch; None for what is no time, or one without a zone."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.timestamp() if moment.tzinfo is not None else None


# ── structured mode ──


def is_structured(attributes: Mapping[str, str]) -> bool:
    """Whether the body of a message with these attributes is the whole event."""
    return attributes.get("datacontenttype", "").partition(";")[0].strip().lower() == STRUCTURED


def structured(attributes: Mapping[str, str], body: bytes) -> bytes:
    """The JSON format of an event: attributes and data in one document."""
    envelope: dict[str, Any] = {**attributes, "data": msgspec.Raw(body)}
    return msgspec.json.encode(envelope)


def opened(attributes: Mapping[str, str], body: bytes) -> Opened:
    """Attributes and data of a message in either mode. What stands in a structured body counts.

    Raises :class:`UndecodableEvent` for a structured body that is none, or whose data are not JSON.
    """
    if not is_structured(attributes):
        return Opened(dict(attributes), body)
    try:
        members = _structured.decode(body)
        data = members.pop("data", None)
        inner = {name: text for name, raw in members.items() if (text := _text(raw)) and NAME.fullmatch(name)}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UndecodableEvent(f"it says that it is a CloudEvent in JSON, and is not: {error}.") from None
    if "data_base64" in members:
        raise UndecodableEvent("its data are binary (data_base64); Tenfold reads JSON.")
    outer = {name: value for name, value in attributes.items() if name != "datacontenttype"}
    return Opened({**outer, **inner}, b"null" if data is None else bytes(data))


_structured = msgspec.json.Decoder(dict[str, msgspec.Raw])


def _text(raw: msgspec.Raw) -> str:
    """The canonical text form of an attribute's value (§ 3.2); empty for what is none."""
    value = msgspec.json.decode(raw)
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, (str, int)) else ""
