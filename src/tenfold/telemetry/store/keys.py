"""Rows are keyed by time: microseconds since the epoch, then some bits that tell apart what ended in the same one.

So a page of the newest, a time range and "the oldest first" are ranges of the primary key, an index on anything else
is in the order of time by itself, and no index of times is kept. A clock that jumps puts rows where it says they
belong; nothing depends on their coming in order. Pure.
"""

from __future__ import annotations

from typing import Final

BITS: Final = 10
"""So many bits below the microsecond: 62 bits last until the year 2112."""
MASK: Final = (1 << BITS) - 1
LAST: Final = (1 << 62) - 1
"""Above every key."""


def key_of(at: float, number: int) -> int:
    """The key of what happened at ``at``; of ``number`` the lowest bits count."""
    return (int(at * 1e6) << BITS) | (number & MASK)


def at_of(key: int) -> float:
    """When what has this key happened."""
    return (key >> BITS) / 1e6


def bounds(since: float, until: float | None, before: str) -> tuple[int, int]:
    """First key, and the one after the last, of a time range below the page mark ``before``.

    A mark that is none, whoever made it up, counts as the beginning of time: the page is empty.
    """
    low = key_of(max(0.0, since), 0)
    high = LAST if until is None else min(LAST, key_of(max(0.0, until), 0))
    if before:
        marked = int(before) if before.isascii() and before.isdigit() and len(before) < 20 else 0
        high = min(high, marked)
    return low, high
