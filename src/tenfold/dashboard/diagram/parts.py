"""What a picture is of: boxes, and arrows between them."""

from __future__ import annotations

from typing import Literal, NamedTuple

Mood = Literal["", "busy", "warn", "bad"]
Kind = Literal["call", "data", "events"]
Lane = Literal["first", "middle", "last"]


class Box(NamedTuple):
    """A part. ``lines`` stand below its name; ``lane`` is where it stands, ``middle`` ones as their arrows say."""

    id: str
    name: str
    kind: str = "service"
    lines: tuple[str, ...] = ()
    lane: Lane = "middle"
    mood: Literal["", "hot", "down"] = ""
    href: str = ""


class Arrow(NamedTuple):
    """What flows from one box to another. ``flows``: there is traffic now; ``title`` says all of it."""

    source: str
    target: str
    kind: Kind = "call"
    label: str = ""
    title: str = ""
    mood: Mood = ""
    flows: bool = False
