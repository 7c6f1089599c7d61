"""Whose entries a full region holds, and which of them have to go: one tenant's flood of keys evicts its own.

Every tenant with entries has an equal share of half the region, by its weight; the other half is the share of what was
stored for no tenant, because everybody uses that. Shares are no walls: what somebody leaves unused is everybody's,
least recently used first out. Only who holds more than its share has to give anything up before its life ends.
"""

from __future__ import annotations

from tenfold._core.fairness import Holdings, WeightOf

NOBODY = ""
"""The share of what was stored for no tenant."""


class Shares:
    """The keys of each share, and how many it may keep. Every method is O(1) (as :class:`Holdings` is)."""

    __slots__ = ("_entries_max", "_holdings", "_keys", "_total", "_weight_of", "_weights")

    def __init__(self, entries_max: int, weight_of: WeightOf | None = None) -> None:
        self._entries_max = entries_max
        self._weight_of = weight_of
        self._keys: dict[str, dict[str, None]] = {}
        """In the order in which they were stored."""
        self._weights: dict[str, float] = {}
        self._total = 0.0
        """The weights of all tenants that hold anything."""
        self._holdings = Holdings(weight_of)

    def __len__(self) -> int:
        """How many shares hold anything."""
        return len(self._keys)

    def add(self, share: str, key: str) -> None:
        """An entry was stored."""
        keys = self._keys.get(share)
        if keys is None:
            keys = self._keys[share] = {}
            if share:
                weight = self._weights[share] = 1.0 if self._weight_of is None else self._weight_of(share)
                self._total += weight
        keys[key] = None
        if share:
            self._holdings.add(share)

    def remove(self, share: str, key: str) -> None:
        """An entry is there no more."""
        keys = self._keys[share]
        del keys[key]
        if share:
            self._holdings.remove(share)
        if not keys:
            del self._keys[share]
            self._total -= self._weights.pop(share, 0.0)

    def is_over(self, share: str, more: int = 0) -> bool:
        """Whether it holds more than its share, or would with so many more."""
        held = len(self._keys.get(share, ())) + more
        if not share:
            return 2 * held > self._entries_max
        return 2 * held * self._total > self._entries_max * self._weights.get(share, 1.0)

    def oldest(self, newcomer: str) -> str:
        """The key that goes for one of the newcomer's in a full region: of the newcomer's own, where that would have
        more than its share, else of somebody who has; the one stored longest ago."""
        if newcomer in self._keys and self.is_over(newcomer, 1):
            loser = newcomer
        else:
            heaviest = self._holdings.heaviest()
            loser = NOBODY if heaviest is None or self.is_over(NOBODY) else heaviest
        return next(iter(self._keys[loser]))
