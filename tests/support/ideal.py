"""The fleet that an autoscaler is measured against: one that knows the future, and is a fleet all the same.

Its instances are whole, take as long to start as any, and are as many as are within target while requests come at random.
It keeps the bound on changes of direction, too. Within that it is the cheapest there is.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import groupby

RESERVE = 0.04
"""Of one instance, that a fleet needs beyond its load. Arrivals of n·c a second wander like a random walk, so in heavy traffic
the line is longer than x for a share exp(−2x·(n − load)/n) of the time (J. F. C. Kingman, "On queues in heavy traffic", 1962; x in
arrivals). In tests/support/scaling.py a line of 60·n is late, and 1 % of the time may be: n − load = ln(100) / 120."""
INFINITE = math.inf


def needed(load: float) -> int:
    """The fewest instances that are within target for 99 % of the time under a load that stays as it is."""
    return max(1, math.ceil(load + RESERVE))


def ideal(loads: Sequence[float], step_s: float, *, start_s: float, low: int, turns_max: int) -> float:
    """Instance-seconds of the cheapest fleet that has ready what is needed in each step, begun ``start_s`` before, and changes
    its direction ``turns_max`` times at most in each hour of the clock. (In any hour, that may be twice as often.)"""
    known: dict[float, int] = {}
    needs = [known.get(load) or known.setdefault(load, max(low, needed(load))) for load in loads]
    hours = [int(at * step_s // 3600) for at in range(len(loads))]
    early = zip(_most_ahead(needs, round(start_s / step_s)), hours, strict=True)
    stretches = [(need, hour, sum(1 for _ in run)) for (need, hour), run in groupby(early)]
    return _cheapest(stretches, turns_max) * step_s


def _most_ahead(needs: Sequence[int], steps: int) -> Iterator[int]:
    """For each step the most that is needed in it and in so many that follow."""
    falling: deque[tuple[int, int]] = deque()
    for end in range(len(needs) + steps):
        if end < len(needs):
            while falling and falling[-1][1] <= needs[end]:
                falling.pop()
            falling.append((end, needs[end]))
        if end >= steps:
            if falling[0][0] < end - steps:
                falling.popleft()
            yield falling[0][1]


Costs = list[list[float]]
"""By instances, then by turns that are left."""


def _cheapest(stretches: Sequence[tuple[int, int, int]], turns_max: int) -> float:
    """By dynamic programming over (instances, whether it moved up or down last, turns left). A fleet that has more than a
    stretch needs keeps what it has only where that saves a turn."""
    most = max(need for need, _, _ in stretches)
    up: Costs = [[INFINITE] * turns_max + [0.0] for _ in range(most + 1)]
    down: Costs = [list(row) for row in up]
    now = 0
    for need, hour, steps in stretches:
        if hour != now:
            now = hour
            up, down = _refilled(up), _refilled(down)
        up, down = _moved(up, down, range(most + 1)), _moved(down, up, range(most, -1, -1))
        for count in range(most + 1):
            for costs in (up, down):
                costs[count] = [cost + count * steps if count >= need else INFINITE for cost in costs[count]]
    return min(min(row) for row in up + down)


def _moved(same: Costs, other: Costs, order: Sequence[int]) -> Costs:
    """The costs of being at each count with the last move in the direction of ``order``, which is a turn for who came from
    ``other``."""
    best = [INFINITE] * len(same[0])
    moved: Costs = [[] for _ in same]
    for count in order:
        moved[count] = [min(pair) for pair in zip(same[count], best, strict=True)]
        turned = [*other[count][1:], INFINITE]
        best = [min(three) for three in zip(best, same[count], turned, strict=True)]
    return moved


def _refilled(costs: Costs) -> Costs:
    return [[INFINITE] * (len(row) - 1) + [min(row)] for row in costs]
