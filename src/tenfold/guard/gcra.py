"""The generic cell rate algorithm: what a limit decides, exactly, and nothing else.

A cell is one window of one subject. It keeps one number, the *theoretical arrival time* (TAT): the moment at which
all that it has admitted would have arrived, had it come evenly. Work of cost ``c`` is admitted when that would move
the TAT no further than the cell's room ahead of now (ITU-T I.371; ATM Forum, *Traffic Management 4.1*, annex C).
Over any time ``t`` a cell admits at most its burst and what flows in evenly during ``t``.

Times are whole microseconds, so that Python, Lua's doubles and SQL's integers decide alike to the last one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

Cell = tuple[str, int, int]
"""Key, cost and room of one window: microseconds. A plain tuple, because one is made for every request."""

LATER: Final = -(1 << 62)
"""Where a decision is one number, that of who cannot decide at once. A refusal's is negative too, but nearer to 0."""


class Taken(msgspec.Struct, frozen=True):
    """What was decided over all cells of a request."""

    admitted: bool
    at_us: int
    """Time of the decision on the store's clock; microseconds since whatever epoch that has."""
    ahead_us: tuple[int, ...]
    """How far each cell's TAT is ahead of ``at_us`` after the decision, in the order of the cells; 0 and above."""


def decide(cells: Sequence[Cell], tats_us: Sequence[int], now_us: int) -> Taken:
    """Admit by all cells, or count in none. A cell that is not known has the TAT 0.

    A TAT beyond the room can only come from a clock that was set back; it counts as the whole room, so that nobody
    waits longer than a whole period for it.
    """
    ahead: list[int] = []
    admitted = True
    for (_, cost, room), tat in zip(cells, tats_us, strict=True):
        here = tat - now_us
        if here < 0:
            here = 0
        elif here > room:
            here = room
        if here + cost > room:
            admitted = False
        ahead.append(here)
    if admitted:
        ahead = [here + cell[1] for cell, here in zip(cells, ahead, strict=True)]
    return Taken(admitted, now_us, tuple(ahead))


def wait_us(cells: Sequence[Cell], taken: Taken) -> int | None:
    """How long until the same request would be admitted, if nobody else came; None when it never would."""
    if any(cost > room for _, cost, room in cells):
        return None
    if taken.admitted:
        return 0
    return max(ahead + cost - room for (_, cost, room), ahead in zip(cells, taken.ahead_us, strict=True))
