"""How each protocol carries a CloudEvents envelope: attributes to headers and back. Pure.

In binary mode (the default everywhere) the body is the event's data and each attribute a header with a prefix; in
structured mode the body is the whole event (:func:`~tenfold.events.envelope.structured`). Reading is tolerant: any
of the prefixes, any case, text or bytes, unknown extensions; headers that belong to something else are left alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import quote, unquote

from tenfold.events.envelope import NAME

_PREFIXES = ("ce_", "ce-", "cloudevents_", "cloudevents:")
_KEPT = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')
"""What the HTTP binding leaves as it is (§ 3.1.3.2)."""
_PLAIN = re.compile(f"[{re.escape(_KEPT)}]*")


@dataclass(frozen=True, slots=True)
class Binding:
    """One protocol."""

    prefix: str
    """Stands before the name of every attribute."""
    content_type: str | None
    """The header that is ``datacontenttype``; None where the protocol has a property of its own for it, which is for
    the caller to set and to hand in."""
    escaped: bool = False
    """Values are percent-encoded, since the protocol's are ASCII without spaces."""

    def headers(self, attributes: Mapping[str, str]) -> dict[str, str]:
        """The headers that carry an envelope."""
        found: dict[str, str] = {}
        for name, value in attributes.items():
            if name != "datacontenttype":
                plain = not self.escaped or _PLAIN.fullmatch(value) is not None
                found[self.prefix + name] = value if plain else quote(value, safe=_KEPT)
            elif self.content_type is not None:
                found[self.content_type] = value
        return found

    def attributes(self, headers: Mapping[str, Any], content_type: str | None = None) -> dict[str, str]:
        """The envelope that headers carry, as far as they do; ``content_type`` is the property of protocols that have
        one of their own."""
        found: dict[str, str] = {}
        for header, value in headers.items():
            name = _name(header)
            if name and (text := self._text(value)):
                found[name] = text
        if content_type:
            found["datacontenttype"] = content_type
        return found

    def _text(self, value: Any) -> str:
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        elif isinstance(value, bool):
            value = str(value).lower()
        text = "" if value is None else str(value)
        return unescaped(text) if self.escaped and ("%" in text or '"' in text) else text


@lru_cache(maxsize=1_000)  # every message of a producer has the same ones
def _name(header: str) -> str:
    """The attribute that a header carries, or an empty string."""
    lower = header.lower()
    if lower in ("content-type", "content_type"):
        return "datacontenttype"
    for prefix in _PREFIXES:
        name = lower.removeprefix(prefix)
        if name is not lower and NAME.fullmatch(name):
            return name
    return ""


def unescaped(value: str) -> str:
    """An HTTP header's value without its quotes and percent-encoding; empty when that is not valid UTF-8."""
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = re.sub(r"\\(.)", r"\1", value[1:-1])
    try:
        return unquote(value, errors="strict")
    except UnicodeDecodeError:
        return ""


KAFKA = Binding("ce_", "content-type")
AMQP = Binding("cloudEvents_", None)
"""AMQP and RabbitMQ: the content type is a property of the message."""
NATS = Binding("ce-", "content-type", escaped=True)
HTTP = Binding("ce-", "content-type", escaped=True)
FIELDS = Binding("ce_", "content-type")
"""Fields of a Redis stream's entry: no binding is specified for them, so they are written like Kafka's."""
