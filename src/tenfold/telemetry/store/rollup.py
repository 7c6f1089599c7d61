"""Metrics at several resolutions: five seconds for hours, a minute for days, a quarter of an hour and three hours for as
long as telemetry is kept. Pure.

A point is what happened from ``at`` on for its resolution, so coarser ones are sums of finer ones: of a counter its
growth, of a gauge the sum of its readings and their number, of a histogram sum, count and buckets.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from msgspec import Struct

DAY_S: Final = 86_400


class Resolution(Struct, frozen=True):
    """Points of ``step_s`` seconds are kept for ``keep_s``."""

    step_s: int
    keep_s: float


FINE: Final = Resolution(5, 2 * 3600)
MINUTE: Final = Resolution(60, 2 * DAY_S)
QUARTER: Final = Resolution(900, 400 * DAY_S)
"""As long as anything is: ``telemetry.keep_days`` ends it earlier."""
HOURS: Final = Resolution(10_800, 400 * DAY_S)
RESOLUTIONS: Final = (FINE, MINUTE, QUARTER, HOURS)
STEPS: Final = (5, 10, 15, 30, 60, 120, 300, 900, 1800, 3600, 10_800, 21_600, DAY_S)
POINTS: Final = 90
"""About so many make a picture."""
POINTS_OF_ONE: Final = 30
"""Enough where they are added up to one number anyway: only the ends of the time are less exact."""
SLACK_S: Final = 10
"""How late a point may come and still count in the coarser ones."""


class Raw(Struct, gc=False):
    """A point as it is kept. ``sum`` is a counter's growth, a gauge's readings added up, a histogram's sum."""

    at: int
    sum: float
    count: float
    buckets: list[float] | None = None

    def add(self, other: Raw) -> None:
        """Take in what happened in another time, or in another series."""
        self.sum += other.sum
        self.count += other.count
        if other.buckets is not None:
            self.buckets = merged(self.buckets, other.buckets)


def merged(one: Sequence[float] | None, other: Sequence[float]) -> list[float]:
    """Bucket by bucket; the shorter is as if its missing buckets were empty."""
    if one is None:
        return list(other)
    if len(one) < len(other):
        one, other = other, one
    out = list(one)
    for index, count in enumerate(other):
        out[index] += count
    return out


def floor(at: float, step_s: int) -> int:
    """The beginning of the step that ``at`` is in."""
    return int(at // step_s) * step_s


def step_of(since: float, until: float, points: int = POINTS) -> int:
    """The step in which this time has about so many points."""
    wanted = max(0.0, until - since) / points
    return next((step for step in STEPS if step >= wanted), STEPS[-1])


def resolution_of(step_s: float, since: float, now: float) -> Resolution:
    """The coarsest that shows steps of this length and is still kept for that time."""
    fitting = [one for one in RESOLUTIONS if one.step_s <= step_s] or [FINE]
    age = now - since
    best = fitting[-1]
    return next((one for one in RESOLUTIONS if one.step_s >= best.step_s and one.keep_s >= age), HOURS)


def due(rolled: int | None, now: float, step_s: int) -> tuple[int, int] | None:
    """Which time is to be rolled up into steps of this length, as ``(from, until)``, when it was done until
    ``rolled``; None: nothing yet. Never more than a day at once.

    A mark that lies ahead of the time was set by a clock that has been put back: it starts over.
    """
    until = floor(now - SLACK_S, step_s)
    if rolled is None or rolled > until + step_s:
        return until - step_s, until
    if rolled >= until:
        return None
    return max(rolled, until - DAY_S), until


def rolled_up(points: Iterable[Raw], step_s: int) -> list[Raw]:
    """The points of one series in steps of this length, in order of time."""
    steps: dict[int, Raw] = {}
    for point in points:
        at = floor(point.at, step_s)
        step = steps.get(at)
        if step is None:
            step = steps[at] = Raw(at, 0.0, 0.0)
        step.add(point)
    return [steps[at] for at in sorted(steps)]


def quantile(bounds: Sequence[float], buckets: Sequence[float], q: float) -> float:
    """The value that a share ``q`` lies below, interpolated within its bucket as Prometheus' histogram_quantile
    does; what lies beyond the last bound is taken for that bound."""
    total = sum(buckets)
    if not total or not bounds:
        return 0.0
    rank, below = q * total, 0.0
    for index, count in enumerate(buckets):
        if below + count >= rank and count:
            if index >= len(bounds):
                return bounds[-1]
            lower = bounds[index - 1] if index else 0.0
            return lower + (bounds[index] - lower) * (rank - below) / count
        below += count
    return bounds[-1]
