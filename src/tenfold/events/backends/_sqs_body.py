"""The text of a message: a CloudEvent in JSON, with the key besides. Pure.

A message may have ten attributes, fewer than an envelope has, so envelope and data travel as one document (the JSON
format of CloudEvents, in *structured mode*). SQS takes only characters that XML has; in JSON the others are escaped.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import msgspec

from tenfold.errors import UndecodableEvent
from tenfold.events.contract import Outgoing
from tenfold.events.envelope import opened, structured

CONTENT_TYPE = "application/cloudevents+json; charset=UTF-8"
KEY = "tenfoldkey"
"""An extension attribute of our own, since ``partitionkey`` need not be the key."""
_NOT_XML = re.compile("[\x7f\ufffe\uffff]")


class Opened(NamedTuple):
    """What a message says."""

    attributes: dict[str, str]
    body: bytes
    key: str | None


def written(event: Outgoing) -> str:
    """The text that carries an event. Raises ValueError for data that are not UTF-8."""
    attributes = dict(event.attributes)
    if event.key is not None:
        attributes[KEY] = msgspec.json.encode(event.key).decode()
    text = structured(attributes, event.body).decode()
    return _NOT_XML.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def read(text: str) -> Opened:
    """What :func:`written` made; anything else is a body without an envelope, as other producers send it."""
    body = text.encode("utf-8", "surrogatepass")
    try:
        attributes, data = opened({"datacontenttype": CONTENT_TYPE}, body)
    except UndecodableEvent:
        return Opened({}, body, None)
    if "specversion" not in attributes:
        return Opened({}, body, None)
    mark: Any = attributes.pop(KEY, None)
    return Opened(dict(attributes), data, None if mark is None else msgspec.json.decode(mark, type=str))
