"""Other ways to learn a limit, to compare with. Each sees the same windows."""

from __future__ import annotations

import math
from collections import deque

from tenfold.guard.shedding.limit import START, TOLERANCE_S, Window


class Gradient:
    """Latency of now against its own long average, as in Netflix's concurrency-limits ("gradient2"). In a long overload
    the average follows the latency, and the limit drifts up."""

    learned = True
    tolerance_s = TOLERANCE_S

    def __init__(self) -> None:
        self.size = float(START)
        self.long_s = 0.0

    @property
    def value(self) -> int:
        return max(1, int(self.size))

    def update(self, window: Window) -> None:
        if not window.completed:
            return
        now_s = window.latency_s
        self.long_s = self.long_s * 0.98 + now_s * 0.02 if self.long_s else now_s
        if window.active_max < self.size / 2:
            return
        gradient = max(0.5, min(1.0, 1.5 * self.long_s / max(now_s, 1e-6)))
        self.size = 0.8 * self.size + 0.2 * (self.size * gradient + math.sqrt(self.size))
        self.size = min(max(self.size, 1.0), 1000.0)


class Vegas:
    """Latency of now against the lowest ever seen (TCP Vegas): no drift, but the lowest is that of another mix."""

    learned = True
    tolerance_s = TOLERANCE_S

    def __init__(self) -> None:
        self.size = float(START)
        self.lowest_s = math.inf

    @property
    def value(self) -> int:
        return max(1, int(self.size))

    def update(self, window: Window) -> None:
        if window.completed < 3:
            return
        self.lowest_s = min(self.lowest_s, window.latency_s)
        queue = self.size * (1 - self.lowest_s / max(window.latency_s, 1e-6))
        if queue > max(1.0, math.log(self.size) * 2):
            self.size = max(1.0, self.size - max(1.0, 0.1 * self.size))
        elif window.bound:
            self.size = min(1000.0, self.size + 1)


class Bbr:
    """Highest throughput times lowest latency of the last ten seconds (BBR, go-zero's shedder), and one more, so that
    it can rise; every ten seconds half of that for two windows, to see the lowest latency again."""

    learned = True
    tolerance_s = TOLERANCE_S

    def __init__(self) -> None:
        self.size = float(START)
        self.seen: deque[tuple[float, float]] = deque(maxlen=50)
        self.windows = 0

    @property
    def value(self) -> int:
        return max(1, int(self.size))

    def update(self, window: Window) -> None:
        if window.completed < 3:
            return
        self.windows += 1
        self.seen.append((window.completed / window.seconds, window.latency_s))
        size = max(x for x, _ in self.seen) * min(w for _, w in self.seen) + 1
        self.size = size / 2 if self.windows % 50 < 2 else max(1.0, math.ceil(size))
