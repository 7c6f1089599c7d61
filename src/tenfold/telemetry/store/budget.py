"""How much is recorded of how much there is: bounded per second, without a call where nothing is recorded. Pure.

A piece of work is recorded where the lowest bits of its number (of its trace id) are zero in the mask: a comparison.
Every second the mask is widened or narrowed by one bit, so that about as much is recorded as the budget says. Masks of
all processes are nested, and so a trace that a process with much traffic records is recorded by those with less, too.
"""

from __future__ import annotations

from typing import Final

SHUT: Final = (1 << 63) - 1
"""The mask of a budget that is used up: no number but 0 passes."""


class Budget:
    """``per_s`` pieces of work a second, and no more: when they are used up, nothing until the next :meth:`tick`.

    Held by the loop's thread. ``mask`` is what the hot path reads.
    """

    __slots__ = ("_mask", "_per_s", "left", "mask", "refused")

    def __init__(self, per_s: int) -> None:
        self._per_s = per_s
        self._mask = 0
        self.left = per_s
        self.mask = 0 if per_s else SHUT
        self.refused = 0
        """Asked for when nothing was left."""

    def take(self) -> bool:
        """Use one, if one is left."""
        if self.left <= 0:
            self.refused += 1
            self.mask = SHUT
            return False
        self.left -= 1
        if not self.left:
            self.mask = SHUT
        return True

    def tick(self, seconds: float = 1.0) -> None:
        """``seconds`` have passed since the last one."""
        if not self._per_s:
            return
        used_up = self.left <= 0
        if used_up:
            self._mask = min(self._mask << 1 | 1, SHUT >> 1)
        elif self.left > self._per_s * 3 / 4:
            self._mask >>= 1
        self.mask = self._mask
        # Never more than two seconds' worth: a process that was stopped owes nothing.
        self.left = max(1, int(self._per_s * min(max(seconds, 0.0), 2.0)))


class Bucket:
    """``per_s`` tokens a second, ``burst`` of them saved up at most. Time is monotonic."""

    __slots__ = ("_at", "_burst", "_per_s", "_tokens")

    def __init__(self, per_s: float, burst: float) -> None:
        self._per_s, self._burst = per_s, burst
        self._tokens = burst
        self._at: float | None = None

    def take(self, now: float) -> bool:
        """Use one, if there is one."""
        if self._at is not None:
            self._tokens = min(self._burst, self._tokens + max(0.0, now - self._at) * self._per_s)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
