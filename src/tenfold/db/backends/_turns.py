"""Who waits for a connection, and who of them is next: by priority, within one priority in turns between tenants."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Generic, NamedTuple, TypeVar

from tenfold._core.context import Context, Priority
from tenfold._core.fairness import FairLine, WeightOf

OWN = "\0own"
"""The share of the framework's own work, beside those of tenants: no tenant's name begins like this."""

L = TypeVar("L")


class Place(NamedTuple, Generic[L]):
    """Of one who waits."""

    priority: int
    share: str
    waiter: asyncio.Future[L | None]
    """Gets a connection, or None: the right to open one."""
    until: float
    """On the loop's clock."""
    patience_s: float


class Turns(Generic[L]):
    """Places in the order in which they are served. Costs nothing while nobody waits: look at ``size``."""

    __slots__ = ("_lines", "size")

    def __init__(self, weight_of: WeightOf | None) -> None:
        self.size = 0
        self._lines: list[FairLine[Place[L]]] = [FairLine(weight_of) for _ in Priority]

    def __iter__(self) -> Iterator[Place[L]]:
        for line in self._lines:
            yield from line

    def push(self, place: Place[L]) -> None:
        """Stand in line."""
        self._lines[place.priority].push(place.share, place)
        self.size += 1

    def pop(self) -> Place[L]:
        """The next one leaves the line. Raises IndexError when nobody waits."""
        for line in self._lines:
            if line.size:
                self.size -= 1
                return line.pop()
        raise IndexError("nobody waits")

    def any_before(self, priority: int, share: str) -> bool:
        """Whether somebody waits who goes before more work of this priority and share: more urgent, or another share."""
        line = self._lines[priority]
        same = line.waiting(share)
        if same == self.size:
            return False
        return line.size > same or any(line.size for line in self._lines[:priority])

    def discard(self, place: Place[L]) -> None:
        """Leave without a turn; nothing for who stands there no more."""
        self.size -= self._lines[place.priority].discard(place.share, place)


def share(context: Context) -> str:
    """Whose work it is, as far as turns are concerned: its tenant's, the framework's own, or nobody's ("")."""
    return OWN if context.own else context.tenant or ""
