"""Events as entries of a Redis stream, and back. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tenfold.events.bindings import FIELDS
from tenfold.events.contract import Incoming, Outgoing

DATA, KEY = "data", "key"
"""Fields of the body and of the key; the others carry the envelope."""

# One script adds a whole batch, or nothing: were it one command per event, a server that runs out of memory could refuse
# one event of a key and take the next. First come the streams: "1" where somebody subscribes for sure, so that one
# which is gone is an answer (its number) and not made anew without its groups. Then each event: the number of its
# stream, that of its fields, and these. A stream that does not exist and has no subscriber takes nothing.
ADD = """
local there = {}
for k = 1, #KEYS do
  there[k] = redis.call('EXISTS', KEYS[k]) == 1
  if ARGV[k] == '1' and not there[k] then return k end
end
local i, n = #KEYS + 1, #ARGV
while i <= n do
  local stream, count = tonumber(ARGV[i]), tonumber(ARGV[i + 1])
  if there[stream] then redis.call('XADD', KEYS[stream], '*', unpack(ARGV, i + 2, i + 1 + count)) end
  i = i + 2 + count
end
return 0
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
