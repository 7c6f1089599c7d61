"""When a schedule ticks: cron expressions and intervals, in a time zone, across daylight saving. Pure.

Cron across a change of the clocks:

* An expression whose hour field starts with ``*`` follows the wall clock as it runs: in the hour that is
  repeated it ticks in both, in the hour that is skipped it does not tick.
* An expression with fixed hours means "once that day": in the repeated hour it ticks the first time only;
  a time that is skipped ticks at the instant the clocks change.

Intervals are counted from the epoch, so every instance of a fleet computes the same ticks; they do not know
time zones.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tenfold.errors import DeclarationError

Missed = Literal["skip", "once", "all"]

GRACE_S = 60.0
"""With ``missed="skip"``, a tick that is late by less is not yet missed: a restart in between is no reason."""

CATCH_UP_MAX = 1_000
"""With ``missed="all"``, at most so many ticks are made at a time; the rest follow at the next look."""

MISSED_MAX = 100_000
"""With ``missed="all"``, at most so many missed ticks are made up for, the newest, unless declared otherwise."""

COUNTED_MAX = 1_000
"""Missed ticks that are not made are counted no further than this at a time."""

_FOLD_MAX = timedelta(hours=3)
"""No zone has ever set its clock back by more at once (date-line moves aside, which repeat a whole day)."""


class Calendar(Protocol):
    """A rule that knows its next tick."""

    @property
    def spec(self) -> str:
        """Text that changes when the rule does."""
        ...

    @property
    def gap_s(self) -> float:
        """No two ticks are closer than this."""
        ...

    def after(self, t: float) -> float:
        """The first tick strictly later than ``t``, both in seconds since the epoch."""
        ...


@dataclass(frozen=True, slots=True)
class Interval:
    """A tick at every multiple of ``seconds`` since the epoch."""

    seconds: float

    def __post_init__(self) -> None:
        if not 1.0 <= self.seconds < float("inf"):
            raise DeclarationError(
                f"an interval of {self.seconds:g} s is not a schedule.", remedy="It is at least 1 second."
            )

    @property
    def spec(self) -> str:
        return f"every {self.seconds:g} s"

    @property
    def gap_s(self) -> float:
        return self.seconds

    def after(self, t: float) -> float:
        tick = (t // self.seconds + 1) * self.seconds
        return tick if tick > t else tick + self.seconds  # floor division may round down onto t


@dataclass(frozen=True, slots=True)
class Cron:
    """A five-field cron expression (or ``@daily`` and its like) on the wall clock of ``zone``."""

    expression: str
    zone: ZoneInfo
    wild_hours: bool

    @classmethod
    def parse(cls, expression: str, timezone: str = "UTC") -> Cron:
        """Check both; raises :class:`DeclarationError` with a sentence about the wrong one."""
        from croniter import CroniterBadDateError, croniter

        if not expression.startswith("@") and len(expression.split()) != 5:
            raise DeclarationError(
                f"{expression!r} has {len(expression.split())} fields.",
                remedy="A cron expression has five: minute hour day-of-month month day-of-week.",
            )
        try:
            hours = croniter.expand(expression)[0][1]
            croniter(expression, datetime(2024, 1, 1)).get_next(datetime)
        except CroniterBadDateError:
            raise DeclarationError(f"{expression!r} never comes.") from None
        except ValueError as error:
            raise DeclarationError(f"{expression!r} is not a cron expression: {error}.") from None
        try:
            zone = ZoneInfo(timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise DeclarationError(
                f"there is no time zone {timezone!r}.", remedy="Zones are named like 'Europe/London'."
            ) from None
        wild = hours == ["*"] or (not expression.startswith("@") and expression.split()[1].startswith("*"))
        return cls(expression, zone, wild)

    @property
    def spec(self) -> str:
        return f"{self.expression} {self.zone.key}"

    @property
    def gap_s(self) -> float:
        return 60.0

    def after(self, t: float) -> float:
        wall = datetime.fromtimestamp(t, self.zone)
        start = wall.replace(tzinfo=None, fold=0)
        if self.wild_hours and self._repeats_soon(t):
            start -= _FOLD_MAX  # earlier wall times may come a second time, after t
        best: float | None = None
        for candidate in self._wall_times(start - timedelta(minutes=1)):
            if best is not None and candidate > self._wall(best) + _FOLD_MAX:
                break
            later = [x for x in self._instants(candidate) if x > t]
            if later:
                best = min(later) if best is None else min(best, *later)
                if not self._repeats_soon(t):
                    break
        assert best is not None
        return best

    def _wall_times(self, start: datetime) -> Iterator[datetime]:
        from croniter import croniter

        ticks = croniter(self.expression, start)
        while True:
            yield ticks.get_next(datetime)

    def _wall(self, t: float) -> datetime:
        return datetime.fromtimestamp(t, self.zone).replace(tzinfo=None, fold=0)

    def _repeats_soon(self, t: float) -> bool:
        """Whether the clock is set back within three hours before or after ``t``."""
        span = _FOLD_MAX.total_seconds()
        return self._offset(t - span) > self._offset(t + span)

    def _offset(self, t: float) -> timedelta:
        offset = datetime.fromtimestamp(t, self.zone).utcoffset()
        return offset or timedelta(0)

    def _instants(self, wall: datetime) -> list[float]:
        """The instants at which the wall clock shows ``wall``, by the rules at the top of this module."""
        first = wall.replace(tzinfo=self.zone, fold=0).astimezone(UTC).timestamp()
        second = wall.replace(tzinfo=self.zone, fold=1).astimezone(UTC).timestamp()
        if first == second:
            return [first]
        if first < second:  # repeated
            return [first, second] if self.wild_hours else [first]
        return [] if self.wild_hours else [self._change_between(second - 1, first)]  # skipped

    def _change_between(self, low: float, high: float) -> float:
        """The first whole second of ``(low, high]`` with the offset of ``high``."""
        target = self._offset(high)
        a, b = int(low), int(high)
        while b - a > 1:
            middle = (a + b) // 2
            if self._offset(middle) == target:
                b = middle
            else:
                a = middle
        return float(b)


def due_ticks(
    calendar: Calendar, next_at: float, now: float, missed: Missed, missed_max: int = MISSED_MAX
) -> tuple[list[float], float]:
    """The ticks to make now and the next one to wait for, given the one waited for so far.

    ``skip`` makes only a tick that is late by less than :data:`GRACE_S`; ``once`` makes the newest of those
    that are due; ``all`` makes every one of the newest ``missed_max``, oldest first, at most :data:`CATCH_UP_MAX` at
    a time.
    """
    if next_at > now:
        return [], next_at
    if missed == "all":
        ticks: list[float] = []
        next_at = _of_the_newest(calendar, next_at, now, missed_max)
        while next_at <= now and len(ticks) < CATCH_UP_MAX:
            ticks.append(next_at)
            next_at = calendar.after(next_at)
        return ticks, next_at
    newest = _newest(calendar, next_at, now)
    following = calendar.after(max(newest, now))
    if missed == "skip" and now - newest > GRACE_S:
        return [], following
    return [newest], following


def passed_over(calendar: Calendar, waited_for: float, ticks: list[float], next_at: float) -> int:
    """How many ticks before ``next_at`` were due and not made, counted up to :data:`COUNTED_MAX`."""
    first_made = ticks[0] if ticks else next_at
    count, tick = 0, waited_for
    while tick < first_made and count < COUNTED_MAX:
        count, tick = count + 1, calendar.after(tick)
    return count


def _of_the_newest(calendar: Calendar, first: float, now: float, most: int) -> float:
    """The oldest of the ``most`` newest ticks of ``[first, now]``; ``first`` when there are not more."""
    if (now - first) / calendar.gap_s < most:
        return first
    back = calendar.gap_s * most
    while now - back > first and len(_between(calendar, now - back, now)) < most:
        back *= 4
    ticks = _between(calendar, max(now - back, math.nextafter(first, 0.0)), now)
    return ticks[-most] if len(ticks) > most else ticks[0]


def _between(calendar: Calendar, after: float, until: float) -> list[float]:
    ticks: list[float] = []
    while (after := calendar.after(after)) <= until:
        ticks.append(after)
    return ticks


def _newest(calendar: Calendar, first: float, now: float) -> float:
    """The latest tick of ``[first, now]``; looks back in growing steps instead of walking months of ticks."""
    back = 60.0
    while now - back > first:
        tick = calendar.after(now - back)
        if tick <= now:
            break
        back *= 4
    else:
        tick = first
    while (following := calendar.after(tick)) <= now:
        tick = following
    return tick
