"""The judge of a limit that knows no algorithm of ours: what was admitted, and when, by a clock that all share."""

from __future__ import annotations

from collections.abc import Iterable


def over(admitted: Iterable[tuple[int, int]], room_us: int) -> int:
    """By how much the worst moment of ``(at_us, cost_us)`` exceeds a limit with this room; 0 when none does.

    A bucket that leaks one microsecond per microsecond overflows if and only if over some time ``t`` more than
    ``room + t`` was admitted, which is what a limit promises.
    """
    level = last = worst = 0
    for at, cost in sorted(admitted):
        level = max(level - (at - last), 0) + cost
        last = at
        worst = max(worst, level - room_us)
    return worst


def allowed(wanted: Iterable[tuple[int, int]], room_us: int) -> int:
    """How much of ``(at_us, cost_us)`` the limit admits when one decides everything."""
    level = last = taken = 0
    for at, cost in sorted(wanted):
        level = max(level - (at - last), 0)
        last = at
        if level + cost <= room_us:
            level += cost
            taken += cost
    return taken
