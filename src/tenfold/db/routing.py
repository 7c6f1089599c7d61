"""Which copy of a database answers a read. Pure: positions and times in, a choice out.

A read may go to any copy that has come at least as far as its caller's last write (:mod:`tenfold._core.causal`) and
is not too old; else to the primary, which is always right. How old a copy is cannot be asked of it: the time of its
last change says nothing about a database in which nothing changes. So the primary's positions are noted with their
times, and a copy is as old as the time since the primary was where the copy is now.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Sequence
from random import Random
from typing import Final, Literal, Protocol, TypeVar

from tenfold._core.causal import ORIGIN, Position

Consistency = Literal["own", "strong"] | float
"""``"own"``: at least the caller's own writes. ``"strong"``: everything that was acknowledged. A number: at most so
many seconds old, whoever wrote."""

NEVER: Final = float("-inf")

PRIMARY_SILENT_S: Final = 1.0
"""A primary that was not seen for so long is taken to be down."""


class Candidate(Protocol):
    """What the choice needs to know of a copy. Times are monotonic seconds."""

    up: bool
    """It answers, and is a copy."""
    position: Position
    """How far it has come, at least."""
    as_of: float
    """What was committed before this time is in it."""
    shunned_until: float
    """Reads failed on it; not before this time again."""
    in_flight: int
    """Reads that it is working on for this process."""


C = TypeVar("C", bound=Candidate)


def check_consistency(consistency: object) -> None:
    """Raises ValueError for what ``db.read()`` does not understand."""
    if consistency in ("own", "strong"):
        return
    if isinstance(consistency, int | float) and not isinstance(consistency, bool) and consistency >= 0:
        return
    raise ValueError(
        f'consistency={consistency!r} is none: write "own" (the caller\'s own writes), "strong" (every write), or the '
        "age in seconds that the data may have."
    )


def fits(candidate: Candidate, position: Position, as_of: float, now: float) -> bool:
    """Whether a read that needs ``position`` and everything committed before ``as_of`` may go there.

    A copy on a later timeline is known to follow it, not to have applied any of it yet: both numbers count.
    """
    return (
        candidate.up
        and candidate.position.timeline >= position.timeline
        and candidate.position.offset >= position.offset
        and candidate.as_of >= as_of
        and candidate.shunned_until <= now
    )


def choose(
    candidates: Sequence[C],
    position: Position,
    as_of: float,
    now: float,
    random: Random,
    tried: Collection[C] = (),
) -> C | None:
    """One that fits and was not tried: of two taken at random the one with less to do, which spreads the load almost
    as evenly as looking at all and does not send everybody to the same one (Mitzenmacher 2001). None: the primary."""
    good = [c for c in candidates if c not in tried and fits(c, position, as_of, now)]
    if len(good) > 2:
        good = random.sample(good, 2)
    if not good:
        return None
    if len(good) == 1:
        return good[0]
    one, other = good
    if one.in_flight == other.in_flight:
        return one if random.random() < 0.5 else other
    return one if one.in_flight < other.in_flight else other


def oldest_allowed(now: float, primary_seen_at: float, lag_max_s: float) -> float:
    """The ``as_of`` that a read of one's own writes needs.

    While the primary is down nothing is committed, so a copy does not get older; refusing it would turn the loss of
    the primary into the loss of all reads.
    """
    return (primary_seen_at if now - primary_seen_at > PRIMARY_SILENT_S else now) - lag_max_s


class History:
    """Where the primary was and when; ``span_s`` of it, at most one note in ``step_s`` seconds."""

    def __init__(self, span_s: float, step_s: float = 0.1) -> None:
        self._positions: list[Position] = []
        self._times: list[float] = []
        self._step_s = step_s
        self._length_max = int(span_s / step_s) + 2

    def note(self, at: float, position: Position) -> None:
        """The primary had come to ``position`` or further at ``at``, and everything committed before is below it."""
        if self._positions and position < self._positions[-1]:
            return  # an old primary that answers again: what it has is not what was promised
        if self._positions and position == self._positions[-1]:
            self._times[-1] = at  # whoever has come here has everything up to this later time as well
            return
        if len(self._times) > 1 and at - self._times[-2] < self._step_s:
            self._positions[-1], self._times[-1] = position, at
            return
        self._positions.append(position)
        self._times.append(at)
        if len(self._times) > self._length_max:
            del self._positions[0], self._times[0]

    def as_of(self, position: Position) -> float:
        """The latest noted time whose commits are all below ``position``; NEVER when that is too long ago."""
        at = bisect_right(self._positions, position) - 1
        while at >= 0 and self._positions[at].offset > position.offset:
            at -= 1  # a copy that follows a new timeline and has not yet applied all of the old one
        return self._times[at] if at >= 0 else NEVER

    @property
    def last(self) -> Position:
        """How far the primary is known to have come."""
        return self._positions[-1] if self._positions else ORIGIN
