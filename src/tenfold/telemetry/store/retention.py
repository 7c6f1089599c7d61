"""What has to go: by age, and by size, each kind against its own share, so that a flood of one does not wash away
the others. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

SHARES: Final[Mapping[str, float]] = {"request": 0.35, "trace": 0.30, "log": 0.17, "job": 0.10, "point": 0.08}
"""Of the size, when all want more than there is. Who needs less leaves the rest to the others."""
ROOM: Final = 0.05
"""So much is freed at a time, so that it is not done for every row."""
AHEAD_S: Final = 86_400.0
"""Rows of a clock that was further ahead than this are taken for what they are, wrong."""
JUMP_S: Final = 60.0
"""What the wall clock may gain or lose at once and still be followed."""
BELIEVED_S: Final = 600.0
"""A jump that lasts is no jump."""


class Kept(Struct, frozen=True):
    """How many rows of a kind there are, and about how many bytes they take with their share of the indexes."""

    rows: int
    bytes: int


def to_free(kept: Mapping[str, Kept], size: int, keep: int) -> dict[str, int]:
    """How many of the oldest rows of each kind go, so that ``size`` bytes become fewer than ``keep``."""
    if size <= keep:
        return {}
    excess = size - keep + int(keep * ROOM)
    total = sum(one.bytes for one in kept.values()) or 1
    # What is measured is the file; what is known per kind are estimates. Only their proportion is used.
    scale = size / total
    over = {
        kind: max(0.0, one.bytes * scale - SHARES.get(kind, 0.0) * keep)
        for kind, one in kept.items()
        if one.rows
    }
    over_all = sum(over.values())
    if not over_all:  # all within their shares: they add up to less than what the file takes
        over = {kind: one.bytes * scale for kind, one in kept.items() if one.rows}
        over_all = sum(over.values())
    if not over_all:
        return {}
    out: dict[str, int] = {}
    for kind, extra in over.items():
        one = kept[kind]
        freed = min(excess, over_all) * extra / over_all
        rows = int(one.rows * freed / max(1.0, one.bytes * scale)) + 1 if extra else 0
        if rows:
            out[kind] = min(one.rows, rows)
    return out


class Steady:
    """The time by which age is judged. It follows the wall clock, but not its jumps: until one has lasted for ten
    minutes, the monotonic clock goes on where the wall clock was, and so nothing gets old all at once.
    """

    def __init__(self, wall: float, monotonic: float) -> None:
        self._offset = wall - monotonic
        self._since: float | None = None
        self.jumped_s = 0.0
        """How far the wall clock is ahead of what is believed; below zero: behind. 0: no jump."""

    def now(self, wall: float, monotonic: float) -> float:
        """What time it is, now that the clocks show this."""
        ahead = wall - monotonic - self._offset
        if abs(ahead) <= JUMP_S or (self._since is not None and monotonic - self._since >= BELIEVED_S):
            self._offset, self._since, self.jumped_s = wall - monotonic, None, 0.0
            return wall
        self._since = monotonic if self._since is None else self._since
        self.jumped_s = ahead
        return self._offset + monotonic
