"""How long to wait before trying again. Pure: a count, a source of randomness or a header go in, seconds come out.

*Full jitter*: a wait drawn uniformly between nothing and a bound that doubles, so that many who failed together do
not come back together (M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
"""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random

_EXPONENT_MAX = 64
"""Failures may count into the millions: the exponent is bounded before the power is taken."""


def bound_s(failures: int, *, base_s: float, most_s: float, factor: float = 2.0) -> float:
    """The longest wait in seconds after the ``failures``-th failure in a row (1 is the first)."""
    try:
        return min(most_s, base_s * factor ** min(failures - 1, _EXPONENT_MAX))
    except OverflowError:  # only with a factor that nobody would choose
        return most_s


def full_jitter_s(
    failures: int, random: random.Random, *, base_s: float, most_s: float, factor: float = 2.0
) -> float:
    """A wait in seconds after the ``failures``-th failure in a row, uniform between nothing and :func:`bound_s`."""
    return random.uniform(0.0, bound_s(failures, base_s=base_s, most_s=most_s, factor=factor))


def retry_after_s(value: str, now: float) -> float:
    """Seconds that a ``Retry-After`` header (RFC 9110 § 10.2.3) asks to wait; 0 for none, the past, or nonsense.

    ``now`` is wall-clock time in seconds since the epoch: the header may name a date.
    """
    text = value.strip()
    if not text:
        return 0.0
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, OverflowError, TypeError):
        return 0.0
