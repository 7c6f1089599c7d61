"""The written form of a service level objective: ``"99.9% under 300ms"``, ``"99.95%"``, ``"99% under 2s over 7 days"``.

    objective = number, "%", ["under", duration], ["over", period]
    duration  = number, "ms" | "s"                              (also milliseconds, sec, seconds)
    period    = number, "hours" | "days" | "weeks"              (also h, d, w, and singulars)

It says which share of the requests of a period has to be good: answered without a fault of ours (no 5xx) and, where a
duration is given, within it. What is not good spends the error budget, ``1 - target`` of the period's requests. How fast
it is spent is the burn rate: at 1 it lasts exactly as long as the period (Site Reliability Workbook, ch. 5).

Pure: text in, numbers out.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from tenfold._core.text import nearest
from tenfold._core.written import Written
from tenfold.errors import DeclarationError

PERIOD_S: Final = 30 * 86_400
"""Of an objective that names none."""
PERIOD_S_MIN: Final = 3_600
PERIOD_S_MAX: Final = 90 * 86_400
UNDER_S_MAX: Final = 3_600.0

_HOW: Final = 'Write it as "99.9% under 300ms", "99.9%" or "99% under 2s over 7 days".'
_DURATIONS: Final = {"ms": 0.001, "millisecond": 0.001, "s": 1.0, "sec": 1.0, "second": 1.0}
_PERIODS: Final = {"h": 3_600, "hour": 3_600, "d": 86_400, "day": 86_400, "w": 604_800, "week": 604_800}
_TOKEN: Final = re.compile(r"\s*(?:(?P<number>\d[\d_]*(?:\.\d+)?)|(?P<word>[A-Za-z]+)|(?P<sign>\S))")


@dataclass(frozen=True, slots=True)
class Objective:
    """An objective with its numbers. Raises DeclarationError with the position of a mistake."""

    text: str
    target: Decimal = field(init=False)
    """Share of the requests that have to be good, above 0 and below 1. Decimal, since 1 - 0.999 is to be 0.001."""
    under_s: float | None = field(init=False)
    """Longest time of a good answer, in seconds; None where any will do."""
    period_s: int = field(init=False)
    """What the share is of: the requests of so many seconds."""

    def __post_init__(self) -> None:
        target, under_s, period_s = parse(self.text)
        object.__setattr__(self, "target", target)
        object.__setattr__(self, "under_s", under_s)
        object.__setattr__(self, "period_s", period_s)

    @property
    def budget(self) -> float:
        """Share of the requests that may be bad."""
        return float(1 - self.target)

    def is_good(self, status: int, seconds: float) -> bool:
        """Whether one answer was. The endpoint's generated code does the same, without the call."""
        return status < 500 and (self.under_s is None or seconds <= self.under_s)

    def __str__(self) -> str:
        """As it would be written, in one way only."""
        under = "" if self.under_s is None else f" under {_duration(self.under_s)}"
        over = "" if self.period_s == PERIOD_S else f" over {_period(self.period_s)}"
        return f"{(self.target * 100).normalize():f}%{under}{over}"


@dataclass(frozen=True, slots=True)
class Burn:
    """One pair of windows. Where both burn faster than ``rate``, somebody is told: the long one says that it matters, the
    short one that it still goes on."""

    severity: str
    """``page``: now, whatever the time. ``ticket``: within a day or so."""
    long_s: int
    short_s: int
    share: float
    """Of the period's budget: so much is spent when the long window is full of it."""

    def rate(self, objective: Objective) -> float:
        """The burn rate at which ``share`` of the budget is gone after the long window; at least 1."""
        return max(1.0, self.share * objective.period_s / self.long_s)


BURNS: Final = (
    Burn("page", 3_600, 300, 0.02),
    Burn("page", 21_600, 1_800, 0.05),
    Burn("ticket", 86_400, 7_200, 0.10),
    Burn("ticket", 259_200, 21_600, 0.10),
)
"""Windows and shares of the Site Reliability Workbook, table 5-8: burn rates 14.4, 6, 3 and 1 of 30 days."""

BAD_MIN: Final = 5
"""Bad requests in the long window before anybody is told: with little traffic one alone is a large share (ibid., "Low-traffic
services and error budget alerting")."""


def burns_of(objective: Objective) -> tuple[Burn, ...]:
    """Those whose long window fits into the objective's period."""
    return tuple(burn for burn in BURNS if burn.long_s * 2 <= objective.period_s) or BURNS[:1]


def as_objective(value: str | Objective) -> Objective:
    """The objective that was declared, written or made."""
    if isinstance(value, Objective):
        return value
    if isinstance(value, str):
        return Objective(value)
    raise DeclarationError(f"{value!r} is not an objective.", where="slo", remedy=_HOW)


@functools.lru_cache(maxsize=256)
def parse(text: str) -> tuple[Decimal, float | None, int]:
    """Target, duration and period of a written objective. Raises DeclarationError that shows where the mistake is."""
    return _Parser(text).objective()


class _Parser:
    """Reads one objective from left to right."""

    def __init__(self, text: str) -> None:
        self._written = Written(text, _TOKEN, where="slo", error=DeclarationError, remedy=_HOW)

    def objective(self) -> tuple[Decimal, float | None, int]:
        target = self._target()
        under_s: float | None = None
        period = float(PERIOD_S)
        if self._written.passes("word", "under"):
            under_s = self._amount("a duration", _DURATIONS, 0.001, UNDER_S_MAX)
        if self._written.passes("word", "over"):
            period = self._amount("a period", _PERIODS, PERIOD_S_MIN, PERIOD_S_MAX)
        if not self._written.ended:
            self._written.wrong('"under", "over" or the end must stand here')
        return target, under_s, int(period)

    def _target(self) -> Decimal:
        start = self._written.at
        percent = self._number("an objective begins with a percentage")
        if not self._written.passes("sign", "%"):
            self._written.wrong("a percent sign must follow the number")
        if not 0 < percent < 100:
            self._written.at = start
            self._written.wrong("this percentage is out of bounds", "It must be above 0 and below 100.")
        return percent / 100

    def _amount(
        self, what: str, units: dict[str, float] | dict[str, int], least: float, most: float
    ) -> float:
        start = self._written.at
        number = float(self._number(f"{what} begins with a number"))
        word = self._written.next("word").lower()
        singular = word[:-1] if word.endswith("s") and len(word) > 2 else word
        if singular not in units:
            known = [unit for unit in units if len(unit) > 1]
            self._written.wrong(
                f"a unit of {what} must stand here",
                f"Known are {', '.join(known)}.{nearest(singular, known)}",
            )
        self._written.at += 1
        amount = round(number * units[singular], 6)
        if not least <= amount <= most:
            self._written.at = start
            shown = _duration if units is _DURATIONS else _period
            self._written.wrong(
                f"{what} is out of bounds", f"It must be from {shown(least)} to {shown(most)}."
            )
        return amount

    def _number(self, otherwise: str) -> Decimal:
        return Decimal(self._written.take("number", otherwise).replace("_", ""))


def _duration(seconds: float) -> str:
    return f"{_plain(seconds)}s" if seconds >= 1 else f"{_plain(seconds * 1000)}ms"


def _period(seconds: float) -> str:
    return next(
        f"{_plain(seconds / size)} {unit}{'' if seconds == size else 's'}"
        for unit, size in (("day", 86_400), ("hour", 3_600))
        if seconds % size == 0 or size == 3_600
    )


def _plain(number: float) -> str:
    return f"{number:.6f}".rstrip("0").rstrip(".")
