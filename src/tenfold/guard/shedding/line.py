"""Who waits at the door of a full instance, who is next, and who has waited for too long. Pure.

A line evens out bursts, and everybody is served in the order of arrival. Where it does not empty, it only makes
everybody late: once its first has stood in it for 100 ms, at every look of 50 ms, before an instance that is busy, or it
is full and has not been empty for as long, it is overload, and until a second has passed without a refusal the line is short, patience is short, and the newest of the
most urgent is served first, for it is the one whose client still waits (Maurer, "Fail at Scale", ACM Queue 13:8, 2015).

Within a priority it is fair between shares (tenants, or addresses of callers that are not known): they take turns, and
in a full line whoever has more places than a newcomer would have gives one up.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import Generic, TypeVar

import msgspec

from tenfold._core.context import Priority
from tenfold._core.fairness import FairLine, Holdings, WeightOf

T = TypeVar("T")

STANDING_S = 0.1
"""A line whose first has waited for longer, at every look of :data:`SURE_S`, does not empty; nor does a full one that has
stood for longer."""
SURE_S = 0.05
"""One look is not enough: a pause of the machine makes everybody late at once, and a moment later the line is short again."""
CALM_S = 1.0
"""So long after the last refusal the overload is over."""
PATIENCE_MIN_S = 0.005
LEAD_MAX = 8.0
"""Turns that a tenant may have had beyond its share, by credentials that were not known yet, before it is refused after
authentication: more than a tenant of good manners brings in one moment."""


class Place(msgspec.Struct, Generic[T], eq=False):
    """Of one who waits. ``turn`` is the caller's. A Struct, for who waits does so in the busiest moments."""

    turn: T
    priority: int
    share: str
    since: float
    gone: bool = False
    """It stands in the line no more."""


class Line(Generic[T]):
    """At most ``waiting_max`` wait, for ``wait_s`` seconds at most; critical work keeps that patience under overload."""

    __slots__ = (
        "_arrivals", "_held", "_late_since", "_lines", "_refused_at", "_since", "overloaded", "service_s", "size", "wait_s",
        "waiting_max",
    )  # fmt: skip

    def __init__(self, waiting_max: int, wait_s: float, weight_of: WeightOf | None = None) -> None:
        self.waiting_max = waiting_max
        self.size = 0
        self.overloaded = False
        self.service_s = 0.0
        """How long a request takes once it is admitted; who has waited as long under overload waits in vain."""
        self.wait_s = wait_s
        """Nobody waits for longer."""
        self._refused_at = float("-inf")
        self._late_since: float | None = None
        """When it was first seen that the first had waited for too long; since then it always was."""
        self._since = 0.0
        """When the line came to be; it has not been empty since."""
        self._lines: list[FairLine[Place[T]]] = [FairLine(weight_of) for _ in Priority]
        self._held = [Holdings(weight_of) for _ in Priority]
        """Places in line, by share."""
        self._arrivals: deque[Place[T]] = deque()

    def takes(self, priority: int, limit: int, share: str | None = None) -> bool:
        """Whether a newcomer could stand in line, if need be in the place of somebody less urgent or, where its share
        is known, of a share that has more than its own."""
        if self.size < self._most(limit, priority) or any(line.size for line in self._lines[priority + 1 :]):
            return True
        return share is not None and self._crowding(priority, share) is not None

    def add(self, place: Place[T], limit: int) -> Place[T] | None:
        """Stand in line; who has to go for it is answered, the newcomer itself when nobody is less urgent and nobody's
        share has more places than its own."""
        displaced = None
        if not self.size:
            self._since = place.since
        if self.size >= self._most(limit, place.priority):
            displaced = self._least_urgent(above=place.priority) or self._one_of_many(place)
            if displaced is None:
                return place
        self._lines[place.priority].push(place.share, place)
        self._held[place.priority].add(place.share)
        self._arrivals.append(place)
        self.size += 1
        return displaced

    def first(self) -> int | None:
        """The priority of who is next; None when nobody waits."""
        for priority, line in enumerate(self._lines):
            if line.size:
                return priority
        return None

    def pop(self, priority: int) -> Place[T]:
        """Who is next of a priority leaves the line."""
        place = self._lines[priority].pop(newest=self.overloaded)
        return self._left(place)

    def discard(self, place: Place[T]) -> None:
        """Somebody gave up; nothing for who stands there no more."""
        if not place.gone:
            self._lines[place.priority].discard(place.share, place)
            self._left(place)

    def late(self, now: float, *, idle: bool = False) -> list[Place[T]]:
        """Those whose patience has ended leave the line. To be asked often; learns whether there is overload. A line
        before an instance that is ``idle`` is none: who is let in soon makes nobody late (a burst of long polls)."""
        arrivals = self._arrivals
        while arrivals and arrivals[0].gone:
            arrivals.popleft()
        if not arrivals or idle or now - arrivals[0].since <= STANDING_S:
            self._late_since = None
        elif self._late_since is None:
            self._late_since = now
        if self._late_since is not None and (self.overloaded or now - self._late_since > SURE_S):
            self.overloaded = True
            self._refused_at = now
        elif self.overloaded and now - self._refused_at > CALM_S:
            self.overloaded = False
        if not arrivals or now - arrivals[0].since <= self._patience_s(Priority.DEFAULT):
            return []
        late = [p for p in arrivals if not p.gone and self._is_late(p, now)]
        for place in late:
            self.discard(place)
        return late

    def refused(self, now: float) -> None:
        """Somebody was sent away."""
        self._refused_at = now
        if self.size and now - self._since > STANDING_S:
            self.overloaded = True

    def settle(self, priority: int, guessed: str, share: str) -> bool:
        """One who was let in as ``guessed`` turns out to belong to ``share``, which is charged for that turn. False when
        it has had more than its share by now, and others wait: it is to be refused."""
        line = self._lines[priority]
        if guessed == share or not line.size:
            return True
        line.charge(share)
        return line.lead(share) <= LEAD_MAX

    def crowds(self, most: int) -> list[tuple[str, int]]:
        """Who has the most places in line now, and how many. O(shares), for people who look."""
        places = Counter[str]()
        for held in self._held:
            places.update(held.amounts())
        return places.most_common(most)

    def _most(self, limit: int, priority: int) -> int:
        if not self.overloaded:
            return self.waiting_max
        # Under overload a second line behind the one inside is worth only what it saves when a place comes free.
        # Critical work has a longer one: what comes at random also comes in bunches, and it is not to be lost.
        return min(self.waiting_max, 4 * limit if priority == Priority.CRITICAL else (limit + 1) // 2)

    def _is_late(self, place: Place[T], now: float) -> bool:
        # A share's only place keeps its patience under overload: what shortens it is the flood of others, and the next
        # turns are its own.
        alone = self._held[place.priority].of(place.share) == 1
        return now - place.since > (self.wait_s if alone else self._patience_s(place.priority))

    def _patience_s(self, priority: int) -> float:
        if not self.overloaded or priority == Priority.CRITICAL:
            return self.wait_s
        return min(self.wait_s, max(PATIENCE_MIN_S, self.service_s))

    def _least_urgent(self, above: int) -> Place[T] | None:
        for priority in reversed(Priority):
            if priority > above and self._lines[priority].size:
                return self._left(self._lines[priority].pop(newest=not self.overloaded))
        return None

    def _crowding(self, priority: int, share: str) -> str | None:
        """Whose place is to be given to a newcomer of ``share``: who would still have as many as that."""
        held = self._held[priority]
        heaviest = held.heaviest()
        if heaviest is None or held.level(heaviest) <= held.level(share, 1):
            return None
        return heaviest

    def _one_of_many(self, place: Place[T]) -> Place[T] | None:
        share = self._crowding(place.priority, place.share)
        if share is None:
            return None
        return self._left(self._lines[place.priority].take_out(share, newest=not self.overloaded))

    def _left(self, place: Place[T]) -> Place[T]:
        place.gone = True
        self.size -= 1
        self._held[place.priority].remove(place.share)
        return place
