"""What becomes of a delivery after an attempt. Pure: an answer, a clock's reading and a random number go in."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from tenfold._core.backoff import retry_after_s
from tenfold.errors import DeclarationError

if TYPE_CHECKING:
    import random

    from tenfold.webhooks.contract import Answer

Verdict = Literal["delivered", "retry", "failed", "gone"]

SCHEDULE_S = (5.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0, 86_400.0)
"""Seconds to wait after the first failure, the second, and so on: about three days in all, as the specification
suggests."""
JITTER = 0.2
"""The wait is longer by up to this share, so that what failed together does not come back together."""
RETRY_AFTER_MAX_S = 86_400.0
"""A receiver may ask for this much patience; who asks for more gets this."""


class Patience(Struct, frozen=True):
    """How long a delivery is tried, and when an endpoint counts as dead.

    ``disable_after_s`` seconds in which nothing but failures happened, or ``disable_after_failures`` failed attempts
    in a row, whichever comes first. Raises :class:`DeclarationError` for what could not work.
    """

    schedule_s: Sequence[float] = SCHEDULE_S
    disable_after_s: float = 432_000.0
    disable_after_failures: int = 100

    def __post_init__(self) -> None:
        if any(wait < 0 for wait in self.schedule_s):
            raise DeclarationError("its schedule has a negative wait.", where="Patience")
        if self.disable_after_s <= 0 or self.disable_after_failures < 1:
            raise DeclarationError(
                "an endpoint would be disabled before its first failure.", where="Patience"
            )

    def is_dead(self, failures: int, failing_since: float | None, now: float) -> str:
        """Why an endpoint with so many failures in a row is to be disabled; empty when it is not."""
        if failures >= self.disable_after_failures:
            return f"{failures:,} attempts failed one after another."
        if failing_since is not None and now - failing_since >= self.disable_after_s:
            return f"Nothing was delivered for {(now - failing_since) / 86_400:.1f} days."
        return ""


def judge(answer: Answer, attempt: int, patience: Patience) -> Verdict:
    """What an answer to the ``attempt``-th attempt (from 1) means.

    Only 2xx is success: a redirect is not followed, for it would lead where nobody has checked, and with the
    signature in hand. 410 says that the receiver wants no more.
    """
    if answer.status is not None and 200 <= answer.status < 300:
        return "delivered"
    if answer.status == 410:
        return "gone"
    return "retry" if attempt <= len(patience.schedule_s) else "failed"


def wait_s(answer: Answer, attempt: int, patience: Patience, now: float, random: random.Random) -> float:
    """Seconds until the next attempt after the ``attempt``-th has failed: never earlier than asked for."""
    planned = patience.schedule_s[attempt - 1] * (1 + random.uniform(0.0, JITTER))
    return max(planned, min(retry_after_s(answer.retry_after, now), RETRY_AFTER_MAX_S))


def line_of(endpoint_id: str, lines: int, token: str) -> str:
    """In which of an endpoint's ``lines`` a delivery stands. One line is one delivery at a time, in order.

    So ``lines`` is the number of deliveries under way at the same time in the whole fleet, and deliveries with
    the same ``token`` (the event's key, where order matters) never overtake each other.
    """
    return f"{endpoint_id}:{zlib.crc32(token.encode()) % lines}"
