"""Whether a call is tried again, and when. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from tenfold._core.backoff import full_jitter_s
from tenfold.errors import CallError, DependencyTimeout, DependencyUnavailable

if TYPE_CHECKING:
    import random

    from tenfold.client.options import Options
    from tenfold.client.trying import Call

IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
"""Doing these twice is doing them once (RFC 9110 § 9.2.2)."""
AGAIN = frozenset({429, 502, 503, 504})
"""The other side, or one before it, did not get to it now."""


class Outcome(Struct, frozen=True, kw_only=True):
    """How a try ended: with a status, or with an error."""

    status: int = 0
    error: CallError | None = None
    retry_after_s: float = 0.0
    answered: bool = False
    """A backend of ours says that this is how its operation ended: the backend is well, and would say so again."""

    @property
    def failed(self) -> bool:
        """Whether another try might end better."""
        return self.error is not None or (self.status in AGAIN and not self.answered)

    @property
    def unsent(self) -> bool:
        """Whether the other side cannot have done anything."""
        return isinstance(self.error, DependencyUnavailable) and self.error.reason == "connect"


class Router(Protocol):
    """Knows several places that do the same."""

    def after(self, call: Call, outcome: Outcome) -> Call:
        """Learn how a try ended; answers the call as its next try would be made, if there is one."""
        ...


def wait_s(
    outcome: Outcome, tries: int, options: Options, *, idempotent: bool, left_s: float, random: random.Random
) -> float | None:
    """Seconds to wait before trying again after so many tries; None when the outcome is the call's.

    Not again: what was no failure, what may have been done and must not be done twice, what was refused on this side,
    when the tries are used up, and when the wait would end after the deadline (``left_s``).
    """
    if not outcome.failed or tries >= options.attempts or not _helps(outcome, idempotent):
        return None
    drawn = full_jitter_s(tries, random, base_s=options.retry_base_s, most_s=options.retry_max_s)
    wait = max(drawn, outcome.retry_after_s)
    return wait if wait < left_s else None


def _helps(outcome: Outcome, idempotent: bool) -> bool:
    match outcome.error:
        case None | DependencyTimeout():
            return idempotent
        case DependencyUnavailable(reason="connect"):
            return True
        case DependencyUnavailable(reason="broken"):
            return idempotent
        case _:  # places taken, breaker open, an answer that cannot be used: the same would happen again
            return False
