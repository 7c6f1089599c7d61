"""The causal token: how far each database had come when somebody last wrote, as text that travels.

``Context.causal`` holds it. A commit raises it, and it goes along with replies (header and cookie), calls between
services, events and jobs; whoever reads with it sees at least what it has seen. The text is
``1.<cluster>-<timeline>-<offset>``, one such part per database, in hexadecimal::

    1.6b02c1d29f8e7d6c-1-16b3748

It is not signed. A forged token can only make its own bearer's reads go to the primary, or let them miss its own
writes, both of which a client can have without forging.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final, NamedTuple


class Position(NamedTuple):
    """A place in a database's log of changes. Of two writes the later compares as greater, also across a promotion,
    which begins a new timeline at the place where the promoted copy had come to."""

    timeline: int
    offset: int


BEYOND: Final = Position(0xFFFF_FFFF, 0xFFFF_FFFF_FFFF_FFFF)
"""A place that no copy has reached: only the primary will do. Where a commit's outcome is not known, for one."""

ORIGIN: Final = Position(0, 0)
"""A place that every copy has reached."""

NEWEST: Final = "*"
"""The token of work that may read nothing but the newest state, on every database: that of a load into a cache."""

CLUSTERS_MAX: Final = 8
"""Databases in one token; with more it becomes :data:`NEWEST`, which is always right."""

_PART = r"[0-9a-z]{1,16}-[0-9a-f]{1,8}-[0-9a-f]{1,16}"
_TOKEN = re.compile(rf"1\.{_PART}(?:\.{_PART}){{0,{CLUSTERS_MAX - 1}}}")
_LENGTH_MAX = 2 + CLUSTERS_MAX * 43

_NOTHING: Mapping[str, Position] = MappingProxyType({})


def received(text: str) -> str:
    """A token from outside, or "" for what is none: a wrong token must not make a request fail."""
    if len(text) > _LENGTH_MAX or not (text == NEWEST or _TOKEN.fullmatch(text)):
        return ""
    return text


def position_of(token: str, cluster: str) -> Position:
    """How far a copy of ``cluster`` must have come for the bearer of ``token``."""
    return BEYOND if token == NEWEST else _decoded(token).get(cluster, ORIGIN)


def raised(token: str, cluster: str, position: Position) -> str:
    """The token of somebody who had ``token`` and then wrote to ``cluster``, up to ``position``.

    What was beyond every copy because nobody knew where it was is before ``position`` now.
    """
    if token == NEWEST:
        return NEWEST
    positions = dict(_decoded(token))
    known = positions.get(cluster, ORIGIN)
    positions[cluster] = position if known == BEYOND else max(known, position)
    return _encoded(positions)


def merged(token: str, other: str) -> str:
    """The token of somebody who has seen what the bearers of both have."""
    if token == other or not other:
        return token
    if not token:
        return other
    if NEWEST in (token, other):
        return NEWEST
    positions = dict(_decoded(token))
    for cluster, position in _decoded(other).items():
        positions[cluster] = max(position, positions.get(cluster, ORIGIN))
    return _encoded(positions)


@lru_cache(maxsize=4096)
def _decoded(token: str) -> Mapping[str, Position]:
    if not token:
        return _NOTHING
    parts = (part.split("-") for part in token[2:].split("."))
    return {cluster: Position(int(timeline, 16), int(offset, 16)) for cluster, timeline, offset in parts}


def _encoded(positions: Mapping[str, Position]) -> str:
    if len(positions) > CLUSTERS_MAX:
        return NEWEST
    return "1." + ".".join(f"{cluster}-{at.timeline:x}-{at.offset:x}" for cluster, at in positions.items())
