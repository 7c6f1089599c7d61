"""Events as entries of a Redis stream, and back. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tenfold.events.bindings import FIELDS
from tenfold.events.contract import Incoming, Outgoing

DATA, KEY = "data", "key"
"""Fields of the body and of the key; the others carry the envelope."""

# One script adds a whole batch: were it one command per event, a server that runs out of memory could refuse one event
# of a key and take the next. Each event is the number of its stream, that of its fields, and these.
ADD = """
local i, n = 1, #ARGV
while i <= n do
  local count = tonumber(ARGV[i + 1])
  redis.call('XADD', KEYS[tonumber(ARGV[i])], '*', unpack(ARGV, i + 2, i + 1 + count))
  i = i + 2 + count
end
return n
"""


def fields_of(event: Outgoing) -> list[str | bytes]:
    """Names and values in turn."""
    fields: list[str | bytes] = [DATA, event.body]
    if event.key is not None:
        fields += (KEY, event.key)
    for name, value in FIELDS.headers(event.attributes).items():
        fields += (name, value)
    return fields


def incoming_of(topic: str, id_: bytes, fields: Any) -> Incoming:
    """An entry, of ours or of another producer; what has no field ``data`` is taken as an empty body."""
    place = id_.decode()
    raw: Mapping[bytes, bytes] = (
        fields if isinstance(fields, Mapping) else dict(zip(fields[::2], fields[1::2], strict=False))
    )
    named = {name.decode(errors="replace"): value for name, value in raw.items()}
    body, key = named.pop(DATA, b""), named.pop(KEY, None)
    attributes = FIELDS.attributes(named)
    id_of_event = attributes.get("id") or f"{topic}@{place}"
    return Incoming(
        topic, None if key is None else key.decode(errors="replace"), id_of_event, body, attributes, place
    )


def group_end(id_: bytes) -> tuple[int, int]:
    """The order of entries' ids."""
    milliseconds, _, number = id_.partition(b"-")
    return int(milliseconds), int(number or 0)
