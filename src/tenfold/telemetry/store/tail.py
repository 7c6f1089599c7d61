"""Which recorded traces are kept: decided when they are over, as nobody knows before how they end. Pure.

Kept are those that failed, those slower than 99 of 100 of their own operation, the first of each operation in a
minute, and of all others a few each second, and beyond these the share whose trace ids say so: the same ones in every
process, so that what is kept of a trace fits together. "Slow" is measured by each operation itself: a histogram
whose buckets are a tenth apart and which forgets, by halving its counts, what happened thousands of requests ago.
"""

from __future__ import annotations

import math
from typing import Final

from msgspec import Struct

from tenfold.telemetry.store.budget import Bucket
from tenfold.telemetry.store.records import Why

QUANTILE: Final = 0.99
JUDGED_FROM: Final = 100
"""So many of an operation have to be known before one is called slow."""
JUDGED_AGAIN: Final = 20
"""After so many more, what is slow is worked out anew."""
HALVED_AT: Final = 4000
FIRST_S: Final = 60.0
FASTEST_S: Final = 0.0001
STEP: Final = 1.1
BUCKETS: Final = 140
"""1.1 to the power of 140, from a tenth of a millisecond on: a minute."""
OPERATIONS_MAX: Final = 2000


class TailPolicy(Struct, frozen=True, kw_only=True):
    """How much is kept. All per process."""

    failed_per_s: float = 20.0
    slow_per_s: float = 10.0
    rest_per_s: float = 2.0
    share: float = 0.01
    """Of what goes beyond ``rest_per_s``."""


class Pace:
    """How long an operation takes. :attr:`slow_s` is above 99 % of it; infinite while little is known."""

    __slots__ = ("_counts", "_judge_in", "_total", "slow_s")

    def __init__(self) -> None:
        self._counts = [0.0] * (BUCKETS + 1)
        self._total = 0.0
        self._judge_in = JUDGED_FROM
        self.slow_s = math.inf

    def observe(self, seconds: float) -> None:
        self._counts[_bucket(seconds)] += 1
        self._total += 1
        if self._total >= HALVED_AT:
            self._counts = [count / 2 for count in self._counts]
            self._total /= 2
        self._judge_in -= 1
        if not self._judge_in:
            self._judge_in = JUDGED_AGAIN
            self.slow_s = self._quantile()

    def _quantile(self) -> float:
        above, allowed = 0.0, self._total * (1 - QUANTILE)
        for bucket in range(BUCKETS, -1, -1):
            above += self._counts[bucket]
            if above > allowed:
                return FASTEST_S * STEP**bucket
        return 0.0


def _bucket(seconds: float) -> int:
    """The bucket whose upper bound is the first one not below ``seconds``."""
    if not seconds > FASTEST_S:
        return 0
    return min(BUCKETS, math.ceil(math.log(seconds / FASTEST_S) / math.log(STEP) - 1e-9))


class Tail:
    """The decision, trace after trace. ``now`` is monotonic."""

    def __init__(self, policy: TailPolicy = TailPolicy()) -> None:  # noqa: B008 - frozen
        self.paces: dict[str, Pace] = {}
        """By operation; those beyond the first 2,000 share one."""
        self.thrown_away = 0
        """Healthy traces that were recorded and not kept."""
        self.over = 0
        """Failed or slow traces beyond the budget of theirs."""
        self._policy = policy
        self._first: dict[str, float] = {}
        self._failed = Bucket(policy.failed_per_s, policy.failed_per_s * 5)
        self._slow = Bucket(policy.slow_per_s, policy.slow_per_s * 5)
        self._rest = Bucket(policy.rest_per_s, policy.rest_per_s * 10)

    def observe(self, operation: str, seconds: float) -> float:
        """Learn how long one that went well took; answers what is slow from now on. Of all or of a fair sample: what
        fails at once would make slow whatever works."""
        name = self._known(operation)
        pace = self.paces.get(name)
        if pace is None:
            pace = self.paces[name] = Pace()
        pace.observe(seconds)
        return pace.slow_s

    def decide(
        self, operation: str, seconds: float, *, failed: bool, trace_id: str, now: float
    ) -> Why | None:
        """Why the trace is kept; None: it is thrown away."""
        if failed:
            return self._within(self._failed, "failed", now)
        name = self._known(operation)
        pace = self.paces.get(name)
        if pace is not None and seconds > pace.slow_s:
            return self._within(self._slow, "slow", now)
        if now - self._first.get(name, -math.inf) >= FIRST_S:
            self._first[name] = now
            return "first"
        if self._rest.take(now) or sampled(trace_id, self._policy.share):
            return "sampled"
        self.thrown_away += 1
        return None

    def _known(self, operation: str) -> str:
        return operation if operation in self.paces or len(self.paces) < OPERATIONS_MAX else ""

    def _within(self, bucket: Bucket, why: Why, now: float) -> Why | None:
        if bucket.take(now):
            return why
        self.over += 1
        return None


def sampled(trace_id: str, share: float) -> bool:
    """Whether the trace is among this share of all, the same in every process.

    The ids of unrecorded traces are numbers in a row, so their bits are mixed before they are compared.
    """
    try:
        number = int(trace_id[-16:], 16)
    except ValueError:
        return False
    mixed = number * 0x9E3779B97F4A7C15 & (1 << 64) - 1
    return (mixed ^ mixed >> 29) % 10_000 < share * 10_000
