"""When a failed message runs again: exponential backoff with full jitter (:mod:`tenfold._core.backoff`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tenfold._core.backoff import bound_s
from tenfold.errors import DeclarationError

if TYPE_CHECKING:
    import random


@dataclass(frozen=True, slots=True)
class Retry:
    """How often and how soon a failed message runs again.

    ``attempts`` counts every run that failed, the first included: ``Retry(attempts=1)`` never retries. The
    backoff after the n-th failure is ``base_s * factor ** (n - 1)``, at most ``max_s`` seconds; with
    ``jitter`` (default) the delay is drawn uniformly from zero to that backoff.
    """

    attempts: int = 5
    base_s: float = 1.0
    factor: float = 2.0
    max_s: float = 3600.0
    jitter: bool = True

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise DeclarationError(
                f"attempts is {self.attempts}, but a message runs at least once.", where="Retry"
            )
        if self.base_s < 0 or self.max_s < 0 or self.factor < 1:
            raise DeclarationError(
                f"base_s={self.base_s:g}, factor={self.factor:g}, max_s={self.max_s:g} would not back off.",
                where="Retry",
                remedy="Delays are not negative and the factor is at least 1.",
            )

    def backoff_s(self, failures: int) -> float:
        """Longest delay in seconds after the ``failures``-th failure (1 is the first)."""
        return bound_s(failures, base_s=self.base_s, most_s=self.max_s, factor=self.factor)

    def delay_s(self, failures: int, random: random.Random) -> float | None:
        """Seconds until the next run after the ``failures``-th failure, or None when there is none."""
        if failures >= self.attempts:
            return None
        backoff = self.backoff_s(failures)
        return random.uniform(0.0, backoff) if self.jitter else backoff
