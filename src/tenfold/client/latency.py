"""How long answers take, learned. Pure."""

from __future__ import annotations

import math

LEARNED_AFTER = 20
"""Answers after which a quantile is believed."""
_MEMORY = 1000
"""When so many are counted all counts are halved: what happened long ago fades."""
_FIRST_S, _GROWTH, _BUCKETS = 0.0005, 1.2, 72
"""From half a millisecond to four minutes, in steps of 20 %."""
_LOG_GROWTH = math.log(_GROWTH)


class Latency:
    """Quantiles of the times of answers, to within 20 %, from a histogram whose buckets grow by that."""

    __slots__ = ("_buckets", "_counted")

    def __init__(self) -> None:
        self._buckets = [0.0] * _BUCKETS
        self._counted = 0.0

    def learn(self, seconds: float) -> None:
        """An answer took so long."""
        steps = 0 if seconds <= _FIRST_S else math.ceil(math.log(seconds / _FIRST_S) / _LOG_GROWTH)
        self._buckets[min(steps, _BUCKETS - 1)] += 1
        self._counted += 1
        if self._counted >= _MEMORY:
            self._buckets = [each / 2 for each in self._buckets]
            self._counted /= 2

    def quantile_s(self, share: float) -> float | None:
        """Within so many seconds comes that share of the answers; None before enough came."""
        if self._counted < LEARNED_AFTER:
            return None
        left = self._counted * share
        for step, number in enumerate(self._buckets):
            left -= number
            if left <= 1e-9:
                return _FIRST_S * _GROWTH**step
        return _FIRST_S * _GROWTH ** (_BUCKETS - 1)
