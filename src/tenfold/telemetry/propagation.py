"""W3C Trace Context (https://www.w3.org/TR/trace-context/): headers to ids and back. Pure."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"
TRACESTATE_MAX_CHARS: Final = 512
TRACESTATE_MAX_MEMBERS: Final = 32

_TRACEPARENT = re.compile(
    r"(?!ff)(?P<version>[0-9a-f]{2})-(?!0{32})(?P<trace>[0-9a-f]{32})-(?!0{16})(?P<span>[0-9a-f]{16})"
    r"-(?P<flags>[0-9a-f]{2})(?P<more>-.*)?",
    re.ASCII,
)
_KEY = r"(?:[a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})"
_MEMBER = re.compile(
    rf"({_KEY})=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{{0,255}}[\x21-\x2b\x2d-\x3c\x3e-\x7e]", re.ASCII
)


class Parent(NamedTuple):
    """The caller's span, as its ``traceparent`` names it."""

    trace_id: str
    span_id: str
    sampled: bool


def parse_traceparent(header: str) -> Parent | None:
    """The parent, or None when the header is not valid (the trace then starts here, § 3.2.2.5).

    Later versions are read like version 00 as far as they go (§ 4.3).
    """
    match = _TRACEPARENT.fullmatch(header)
    if match is None or (match["version"] == "00" and match["more"]):
        return None
    return Parent(match["trace"], match["span"], bool(int(match["flags"], 16) & 1))


def format_traceparent(trace_id: str, span_id: str, sampled: bool) -> str:
    """The header for a call that ``span_id`` makes."""
    return f"00-{trace_id}-{span_id}-{'01' if sampled else '00'}"


def clean_tracestate(header: str) -> str:
    """The header as it may be passed on: empty when invalid, else at most 32 members and 512 characters.

    Whole members are dropped from the right, first those longer than 128 characters (§ 3.3.1.5).
    """
    members = [member.strip(" \t") for member in header.split(",")]
    members = [member for member in members if member]
    keys: set[str] = set()
    for member in members:
        match = _MEMBER.fullmatch(member)
        if match is None or match[1] in keys:
            return ""
        keys.add(match[1])
    if len(members) > TRACESTATE_MAX_MEMBERS:
        return ""
    return ",".join(_shortened(members))


def _shortened(members: list[str]) -> list[str]:
    def too_long() -> bool:
        return sum(map(len, members)) + len(members) - 1 > TRACESTATE_MAX_CHARS

    for index in range(len(members) - 1, -1, -1):
        if too_long() and len(members[index]) > 128:
            del members[index]
    while members and too_long():
        members.pop()
    return members
