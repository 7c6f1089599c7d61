"""Which place a call goes to: of those that are well, the one with the fewest calls under way. Pure.

A place that took no connection is left out for a while, which doubles with each failure; then one call tries it. When
all are left out, the one that is due first is tried: a call that may fail is better than none.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Final

from msgspec import Struct

AWAY_FIRST_S: Final = 0.5
AWAY_MOST_S: Final = 15.0


class Away(Struct):
    """A place that took no connection."""

    until: float
    failures: int


class Chooser:
    """Remembers which places are away. Times are those of a monotonic clock."""

    def __init__(self) -> None:
        self._away: dict[str, Away] = {}
        self._turn = 0

    def choose(
        self, places: Sequence[str], now: float, busy: Callable[[str], float], avoid: Collection[str] = ()
    ) -> str:
        """One of ``places`` (one at least). ``busy`` answers how many calls a place has, infinity for one whose breaker
        is open; ``avoid`` are those that this call has tried."""
        self._away = {place: away for place, away in self._away.items() if place in places}
        fit = [place for place in places if not self.is_away(place, now) and place not in avoid]
        if not fit:
            rest = [place for place in places if place not in avoid] or list(places)
            return min(rest, key=lambda place: self._away[place].until if place in self._away else now)
        self._turn += 1
        turned = fit[self._turn % len(fit) :] + fit[: self._turn % len(fit)]
        chosen = min(turned, key=busy)
        if chosen in self._away:  # due: this call tries it, the others wait for how that ends
            self._away[chosen].until = now + _pause_s(self._away[chosen].failures)
        return chosen

    def is_away(self, place: str, now: float) -> bool:
        """Whether it is left out."""
        return place in self._away and now < self._away[place].until

    def failed(self, place: str, now: float) -> None:
        """It took no connection."""
        failures = self._away[place].failures + 1 if place in self._away else 1
        self._away[place] = Away(now + _pause_s(failures), failures)

    def answered(self, place: str) -> None:
        """It is there."""
        self._away.pop(place, None)


def _pause_s(failures: int) -> float:
    doubled: float = AWAY_FIRST_S * 2 ** min(failures - 1, 10)
    return min(AWAY_MOST_S, doubled)
