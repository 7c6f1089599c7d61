"""What is made once for each of the keys that come again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Made(Generic[K, V]):
    """Answers what ``make`` makes of a key, and keeps it; at most ``most`` of them, then it begins anew.

    Hot paths look into :attr:`known` themselves, and call only on a KeyError. A dictionary with ``__missing__`` would save
    them the words, and costs some 110 instructions more for each look (callgrind, three looks): CPython then looks for the
    method that looks.
    """

    __slots__ = ("_make", "_most", "_room", "known")

    def __init__(self, make: Callable[[K], V], most: int) -> None:
        self.known: dict[K, V] = {}
        self._make = make
        self._most = self._room = most

    def __call__(self, key: K) -> V:
        try:
            return self.known[key]
        except KeyError:
            made = self._make(key)
        if not self._room:
            self.known.clear()
            self._room = self._most
        self._room -= 1
        self.known[key] = made
        return made
