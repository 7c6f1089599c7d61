"""What is made once for each of the keys that come again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Made(Generic[K, V]):
    """Answers what ``make`` makes of a key, and keeps it; at most ``most`` of them, then it begins anew.

    Hot paths look into :attr:`known` themselves, and call only on a KeyError. A dictionary with ``__missing__`` would save
    them the words, and costs five times as much to look into: CPython then looks for the method that looks.
    """

    __slots__ = ("_make", "_most", "known")

    def __init__(self, make: Callable[[K], V], most: int) -> None:
        self.known: dict[K, V] = {}
        self._make, self._most = make, most

    def __call__(self, key: K) -> V:
        try:
            return self.known[key]
        except KeyError:
            if len(self.known) >= self._most:
                self.known.clear()
            made = self.known[key] = self._make(key)
            return made
