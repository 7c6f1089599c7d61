"""Which keys are read most, found by looking at a few reads of every second.

Counting every read would cost each hit a call. So the first :data:`READS` reads of a second are looked at, and the
others go as ever: where little is read everything is seen, where much is read a sample that is as good. What is kept
of them is a *stream summary* (Metwally, Agrawal, El Abbadi, "Efficient computation of frequent and top-k elements in
data streams", ICDT 2005) of a few hundred keys, however many there are, that forgets half of it every half minute.
"""

from __future__ import annotations

from typing import NamedTuple

READS = 64
"""Reads of each cache that are looked at in a second."""
KEYS_MAX = 256
"""Keys that are kept. Every key that had more than one of so many reads is among them."""
FADE_S = 30.0
"""After so many seconds, what was seen counts half."""


class HotKey(NamedTuple):
    """One key, and its share of the reads that were looked at (0 to 1), at most a little too high."""

    key: str
    share: float


class HotKeys:
    """The summary. Pure: told of reads and of time."""

    def __init__(self, keys_max: int = KEYS_MAX) -> None:
        self._keys_max = keys_max
        self._counts: dict[str, float] = {}
        self.seen = 0.0
        """Reads looked at, those of long ago counted less."""

    def see(self, key: str) -> None:
        """A read of ``key``."""
        self.seen += 1
        counts = self._counts
        if key in counts:
            counts[key] += 1
        elif len(counts) < self._keys_max:
            counts[key] = 1
        else:  # it takes the place of the rarest, with its count: it may have been as often before
            rarest = min(counts, key=counts.__getitem__)
            counts[key] = counts.pop(rarest) + 1

    def fade(self) -> None:
        """What was seen so far counts half from now on; what is left of nothing is forgotten."""
        self._counts = {key: count / 2 for key, count in self._counts.items() if count >= 1}
        self.seen = self.seen / 2 if self._counts else 0.0

    def top(self, most: int) -> list[HotKey]:
        """The keys with the most reads, first."""
        ordered = sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))[:most]
        return [HotKey(key, min(1.0, count / self.seen)) for key, count in ordered]
