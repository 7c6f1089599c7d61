"""How many requests an instance runs at a time: a number, or one learned from its own queues. Pure.

The learned limit looks for the smallest number of requests in progress that keeps the instance busy. What it goes by
is time in queue, whose right value is known beforehand, so nothing has to be remembered that could drift in a long
overload (GUARANTEES, trap 11): in an instance with the right limit a queue forms and empties again; one that never
empties is too much work let in, and its length at its shortest says how much (the standing queue of Nichols and
Jacobson, "Controlling Queue Delay", ACM Queue 10:5, 2012). By Little's law that length, in requests, is what the limit
is lowered by. While some wait at the door and the queue is often empty, the limit rises.

What a request waits for elsewhere (a slow dependency, a long poll) is no queue of ours and moves nothing.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

TOLERANCE_S = 0.002
"""A shorter wait for the event loop is no queue: timers are no more exact than that."""
SWITCH_S = 0.010
"""A thread that computes takes the interpreter from the event loop for up to 5 ms, twice while a probe is under way:
that much waiting is not the requests' doing (``sys.getswitchinterval``)."""
START = 32
"""Where learning begins, and where it returns to when nobody needs more: small enough that a sudden overload finds no
hole, large enough for the first burst of a service that waits a lot."""
LEAST = 2.0
"""Of a learned limit: with one at a time the instance is idle whenever that one waits for a statement."""


class Window(NamedTuple):
    """What was seen over some tenths of a second."""

    seconds: float
    probes: int
    free: int
    """Probes that found nobody in any queue."""
    wait_min_s: float
    """Of the event loop's queue."""
    wait_mean_s: float
    standing: int
    """How many waited at least, at any probe, for a connection or a thread."""
    active: float
    """Mean number in progress, without those that wait for something outside."""
    active_max: int
    completed: int
    bound: bool
    """Somebody found the instance full."""
    others: float
    """CPU time of the process's other threads, as a share of the time that passed."""

    @property
    def latency_s(self) -> float:
        """Mean time from admission to the end, by Little's law."""
        return self.active * self.seconds / max(self.completed, 1)


class Limit(Protocol):
    """Decides how many requests run at a time."""

    @property
    def value(self) -> int:
        """From 1."""
        ...

    @property
    def tolerance_s(self) -> float:
        """A probe that waited no longer met no queue."""
        ...

    @property
    def learned(self) -> bool:
        """Whether it moves; those in progress that only wait for something outside then do not count."""
        ...

    def update(self, window: Window) -> None:
        """A window ended."""
        ...


class FixedLimit:
    """A number that somebody chose."""

    learned = False
    tolerance_s = TOLERANCE_S

    def __init__(self, value: int) -> None:
        self.value = value

    def update(self, window: Window) -> None:
        """Stays."""


class LearnedLimit:
    """See the module. ``most`` is never exceeded."""

    learned = True

    def __init__(self, most: int | None = None, start: int = START) -> None:
        self.tolerance_s = TOLERANCE_S
        self._most = float("inf") if most is None else float(most)
        self._least = min(LEAST, self._most)
        self._size = min(float(start), self._most)
        self.value = max(1, int(self._size))

    def update(self, window: Window) -> None:
        """Learn from a window."""
        self._move(window)
        self.value = max(1, int(self._size))

    def _move(self, window: Window) -> None:
        self.tolerance_s = TOLERANCE_S + SWITCH_S * min(window.others, 1.0)
        surplus = self._surplus(window)
        if surplus > 0:
            used = min(self._size, max(window.active_max, 1.0))
            self._size = max(used - surplus, self._size / 2, self._least)
        elif window.bound or (self._size < START and window.free > window.probes / 2):
            # A quarter of a request more, and up to twice as many where the queue was empty all the time. An instance that
            # is mostly idle also forgets what an overload has taught it.
            share_free = window.free / window.probes
            if share_free:
                self._size = min(self._size * (1 + share_free) + 0.25, self._most)
        elif window.active_max < self._size / 2:
            # Unused room would let a sudden overload in, so it is given back, a tenth at a time.
            kept = max(START, 2 * window.active_max)
            self._size = max(min(self._size, kept), self._size * 0.9)

    def _surplus(self, window: Window) -> float:
        """How many requests stood in a queue at all times."""
        if window.completed == 0:
            return 0.0
        wait_s = max(0.0, window.wait_min_s - self.tolerance_s)
        in_loop = min(window.active, wait_s * window.completed / window.seconds)
        return max(in_loop, window.standing / 2)
