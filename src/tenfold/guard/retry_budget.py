"""A budget that second tries are paid from. Pure, and needs no clock.

Each first try pays in a share of a token; each second try takes a whole one. So second tries are at most that share of
the first ones, plus what was saved, however many fail: an outage cannot multiply the load that caused it. The scheme is
that of Finagle's RetryBudget and of gRPC's retry throttling (gRFC A6).
"""

from __future__ import annotations

from tenfold.errors import DeclarationError

SAVED_MAX = 10.0
"""Tokens saved at most: what stands behind a short failure among many calls."""
SAVED_FIRST = 2.0
"""Tokens there are before the first call, so that a service that has just started, or is hardly used, can try again."""


class RetryBudget:
    """At most ``share`` of the first tries, and what was saved. 0 for no second tries at all.

    ``spent`` and ``refused`` count the second tries that were paid, and those for which nothing was left.
    """

    __slots__ = ("_share", "refused", "saved", "spent")

    def __init__(self, share: float) -> None:
        self._share = _checked(share)
        self.saved = SAVED_FIRST if share else 0.0
        self.spent = 0
        self.refused = 0

    @property
    def share(self) -> float:
        """May be set at any time. Raises :class:`DeclarationError` for what is not between 0 and 1."""
        return self._share

    @share.setter
    def share(self, share: float) -> None:
        self._share = _checked(share)
        self.saved = min(self.saved, SAVED_MAX) if share else 0.0

    def first(self) -> None:
        """A first try begins."""
        self.saved = min(SAVED_MAX, self.saved + self._share)

    @property
    def has_some(self) -> bool:
        """Whether :meth:`take` would succeed."""
        return self.saved >= 1.0

    def take(self) -> bool:
        """Pay for a second try. False when nothing is left: then there is none."""
        if self.saved < 1.0:
            self.refused += 1
            return False
        self.saved -= 1.0
        self.spent += 1
        return True


def _checked(share: float) -> float:
    if not 0 <= share <= 1:
        raise DeclarationError(
            f"{share:g} is not a share of the calls.", where="retry_share", remedy="From 0 (none) to 1 (all)."
        )
    return share
