"""Where a noisy series is, where it goes, and how sure that is. Pure.

Holt's linear trend (C. C. Holt, "Forecasting seasonals and trends by exponentially weighted moving averages", 1957) for
values that do not come at even times: the weight of a value grows with the time since the one before. Smoothing is slow
by nature, so a step is told from noise: two values in a row that are further from what was expected than noise goes, on
the same side, are a new level at once: the higher of the two. Which one is right nobody knows yet, and what is guessed too
low is paid for by who waits, what is guessed too high by an instance for a while.
"""

from __future__ import annotations

import math

JUMP = 4.0
"""Times the noise. Two in a row by chance, were the noise Gaussian, come once in some 10^8 values."""
MEAN_TO_DEVIATION = 1.2533
"""Standard deviation over mean absolute error of Gaussian noise."""


class Trend:
    """Level, slope (per second) and noise (a standard deviation) of what is added.

    ``level_s`` and ``slope_s``: after so long an old value has lost two thirds of its weight. ``counts``: what is added
    counts things that come independently of each other, so its noise is at least the root of its level (Poisson);
    ``least`` is the least noise in any case.
    """

    __slots__ = (
        "_at",
        "_before",
        "_counts",
        "_least",
        "_level_s",
        "_measured",
        "_outside",
        "_slope_s",
        "level",
        "slope",
    )

    def __init__(
        self, *, level_s: float = 15.0, slope_s: float = 40.0, counts: bool = False, least: float = 1e-3
    ) -> None:
        self._level_s, self._slope_s = level_s, slope_s
        self._counts, self._least = counts, least
        self._at: float | None = None
        self._measured = 0.0
        self._outside = 0
        self._before = 0.0
        self.level = 0.0
        self.slope = 0.0

    @property
    def noise(self) -> float:
        """How far a value is from the line, usually."""
        natural = math.sqrt(max(self.level, 0.0)) if self._counts else 0.0
        return max(self._least, self._measured, natural)

    def add(self, at: float, value: float) -> None:
        """``value`` was seen at ``at`` (seconds of any clock); one that is not later than the last is left out."""
        if self._at is None:
            self._at, self.level, self._before = at, value, value
            return
        passed = at - self._at
        if passed <= 0:
            return
        self._at = at
        expected = self.level + self.slope * passed
        error = value - expected
        before, self._before = self._before, value
        far = JUMP * self.noise
        if self._jumps(error, far):
            self.level, self.slope = max(value, before), 0.0
            return
        share = -math.expm1(-passed / self._level_s)
        self.level = expected + share * error
        self.slope += -math.expm1(-passed / self._slope_s) * share * error / passed
        within = min(abs(error), far)
        self._measured += 0.1 * (within * MEAN_TO_DEVIATION - self._measured)

    def ahead(self, seconds: float) -> float:
        """What is expected in so long. The level, where the slope would change it by less than the noise."""
        change = self.slope * seconds
        return self.level + change if abs(change) > self.noise else self.level

    def _jumps(self, error: float, far: float) -> bool:
        if -far <= error <= far:
            self._outside = 0
            return False
        side = 1 if error > 0 else -1
        again = self._outside == side
        self._outside = 0 if again else side
        return again
