"""What an instance sees of its own queues: probes, gathered into windows. Pure.

A probe is a callback that stands in the event loop's queue like everybody else, some hundred times a second while
there is work; beside it stands the number of those that wait for a connection or a thread. A queue that nobody is
served from (a database that hangs) is no sign of too many requests: it is treated like any other slow dependency.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from tenfold.guard.shedding.limit import Window

WINDOW_S = 0.2
PROBES_MIN = 2
"""A window has at least so many probes, so that one pause (a collection of garbage, a statement that blocks the loop)
is never all that was seen. No more: in a sudden overload each takes as long as everything that was let in before it."""
IDLE_PROBES = 5
"""So many of which half find every queue empty, while some wait at the door, are enough to let in more."""


class Seen(NamedTuple):
    """Of a station, now."""

    waiting: int
    served: int
    """Since the start."""


Station = Callable[[], Seen]
"""Where requests may stand in line inside the instance: a pool of connections, or of threads."""


class Observation:
    """Gathers probes until a window is full. ``tolerance_s``: see :class:`~tenfold.guard.shedding.limit.Limit`."""

    def __init__(self, now: float, stations: Sequence[Station] = (), *, window_s: float = WINDOW_S) -> None:
        self.waiting = 0
        """How many waited at stations that serve somebody, at the last probe."""
        self._stations = list(stations)
        self._served = [0] * len(self._stations)
        self._stuck = [False] * len(self._stations)
        self._window_s = window_s
        self._completed = 0
        self._wait_before_s = 0.0
        self._probes = self._free = self._active_max = self._active_sum = 0
        self._wait_min, self._wait_sum = float("inf"), 0.0
        self._standing: int | None = None
        self._began = now

    @property
    def wait_s(self) -> float:
        """Mean wait for the event loop, in the last window or in this one, whichever is longer."""
        return max(self._wait_before_s, self._wait_sum / max(self._probes, 1))

    @property
    def idle(self) -> bool:
        """Whether most probes of this window found every queue empty."""
        return self._probes > 0 and self._free * 2 >= self._probes

    def ended(self, completed: int) -> int:
        """How many requests have ended in this window; ``completed`` counts from the start."""
        return completed - self._completed

    def add_station(self, station: Station) -> None:
        """Look there too from now on."""
        self._stations.append(station)
        self._served.append(station().served)
        self._stuck.append(False)

    def probe(self, wait_s: float, tolerance_s: float) -> None:
        """One probe ran, having waited so long. Reads the stations."""
        seen = [station() for station in self._stations]
        self.waiting = sum(one.waiting for one, stuck in zip(seen, self._stuck, strict=True) if not stuck)
        self._probes += 1
        self._wait_sum += wait_s
        self._wait_min = min(self._wait_min, wait_s)
        self._standing = self.waiting if self._standing is None else min(self._standing, self.waiting)
        if wait_s <= tolerance_s and not self.waiting:
            self._free += 1

    def count(self, active: int) -> None:
        """So many were in progress at the last probe."""
        self._active_sum += active
        self._active_max = max(self._active_max, active)

    def full(self, now: float, *, waiting: bool = False) -> bool:
        """Whether the window is long enough to judge by. While some wait at the door of an idle instance (``waiting``),
        few probes will do."""
        if waiting and self._probes >= IDLE_PROBES and self.idle:
            return True
        return self._probes >= PROBES_MIN and now - self._began >= self._window_s

    def take(self, now: float, completed: int, bound: bool, others_s: float) -> Window:
        """The window, and begin the next. ``completed`` counts from the start; ``others_s`` is of this window."""
        seconds = now - self._began
        window = Window(
            seconds=seconds,
            probes=self._probes,
            free=self._free,
            wait_min_s=self._wait_min,
            wait_mean_s=self._wait_sum / self._probes,
            standing=self._standing or 0,
            active=self._active_sum / self._probes,
            active_max=self._active_max,
            completed=completed - self._completed,
            bound=bound,
            others=max(0.0, others_s / seconds),
        )
        self._completed = completed
        self._wait_before_s = window.wait_mean_s
        self._judge_stations()
        self._begin(now)
        return window

    def _judge_stations(self) -> None:
        for at, station in enumerate(self._stations):
            seen = station()
            self._stuck[at] = seen.waiting > 0 and seen.served == self._served[at]
            self._served[at] = seen.served

    def _begin(self, now: float) -> None:
        self._began = now
        self._probes = self._free = self._active_max = self._active_sum = 0
        self._wait_min, self._wait_sum = float("inf"), 0.0
        self._standing = None
