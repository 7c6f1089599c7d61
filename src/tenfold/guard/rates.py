"""The written form of a rate limit: ``"20/minute per principal"``, ``"100/hour, 10/second per address"``.

    limit   = window, {",", window}
    window  = count, "/", [number], unit, ["burst", count], ["per", whom]
    unit    = "second" | "minute" | "hour" | "day"              (also s, sec, min, h, d, and plurals)
    whom    = "principal" | "address" | "api key" | "tenant" | "operation"

A window without ``per`` takes that of the next window that has one; the last one's default is ``principal``. All
windows of a limit hold at once: work is admitted by all of them, or counted by none.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, cast, get_args

from tenfold._core.text import nearest
from tenfold._core.written import Written
from tenfold.errors import DeclarationError

Per = Literal["principal", "address", "api key", "tenant", "operation"]
Away = Literal["open", "closed", "local"]

COUNT_MAX = 1_000_000_000
PERIOD_S_MAX = 366 * 86_400
RATE_PER_S_MAX = 100_000
"""Time is counted in whole microseconds; above this, rounding would cost more than one request in ten."""

_UNITS = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400}
_SHORT = {
    "s": "second", "sec": "second", "m": "minute", "min": "minute", "h": "hour", "d": "day",
}  # fmt: skip
_WHOM = get_args(Per)
_TOKEN = re.compile(r"\s*(?:(?P<number>\d[\d_]*)|(?P<word>[A-Za-z]+)|(?P<sign>\S))")


@dataclass(frozen=True, slots=True)
class Window:
    """``count`` per ``period_s`` seconds for each ``per``, at most ``burst`` of them at once."""

    count: int
    period_s: int
    burst: int
    per: Per = "principal"

    @property
    def interval_us(self) -> int:
        """What one unit costs, in microseconds, rounded up: a limit may be missed from below, never exceeded.

        Below 10,000 a second that is less than 1 %.
        """
        return -(-self.period_s * 1_000_000 // self.count)

    @property
    def room_us(self) -> int:
        """How far the units in hand may reach ahead of now: the burst."""
        return self.burst * self.interval_us

    def __str__(self) -> str:
        """As it would be written, in one way only."""
        unit = next(name for name, seconds in reversed(_UNITS.items()) if self.period_s % seconds == 0)
        many = self.period_s // _UNITS[unit]
        period = unit if many == 1 else f"{many} {unit}s"
        burst = "" if self.burst == self.count else f" burst {self.burst}"
        return f"{self.count}/{period}{burst} per {self.per}"


@dataclass(frozen=True, slots=True)
class Limit:
    """A rate limit with what its written form does not say.

    ``cost`` is how many units one request takes: a number, or a function of the request, which sees it before anything of
    it is validated and answers a whole number from 1. ``away`` is what happens
    while the store is away, default ``guard.away``. Raises DeclarationError with the position of a mistake.
    """

    text: str
    cost: int | Callable[[Any], int] = 1
    away: Away | None = None
    windows: tuple[Window, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "windows", parse(self.text))
        if not callable(self.cost):
            for window in self.windows:
                if not 1 <= self.cost <= window.burst:
                    raise DeclarationError(
                        f"a cost of {self.cost} never fits {window}.",
                        where=f"limit {self.text!r}",
                        remedy=f"It must be from 1 to {window.burst}.",
                    )
        if self.away is not None and self.away not in get_args(Away):
            raise DeclarationError(
                f"away={self.away!r} is none of {', '.join(get_args(Away))}.", where=f"limit {self.text!r}"
            )

    def __str__(self) -> str:
        return ", ".join(map(str, self.windows))


def as_limit(value: str | Limit) -> Limit:
    """The limit that was declared, written or made."""
    if isinstance(value, Limit):
        return value
    if isinstance(value, str):
        return Limit(value)
    raise DeclarationError(
        f"{value!r} is not a limit.", where="limit", remedy='Write it as "20/minute per principal".'
    )


@functools.lru_cache(maxsize=1024)
def parse(text: str) -> tuple[Window, ...]:
    """The windows of a written limit. Raises DeclarationError that shows where the mistake is."""
    return tuple(dict.fromkeys(_Parser(text).windows()))


class _Parser:
    """Reads one limit from left to right."""

    def __init__(self, text: str) -> None:
        self._written = Written(
            text,
            _TOKEN,
            where="limit",
            error=DeclarationError,
            remedy='Write it as "20/minute per principal".',
        )

    def windows(self) -> tuple[Window, ...]:
        found = [self._window()]
        while self._written.passes("sign", ","):
            found.append(self._window())
        if not self._written.ended:
            self._written.wrong(
                "there is more than a limit here", 'Windows are separated by commas: "100/hour, 10/second".'
            )
        whom: Per = "principal"
        made: list[Window] = []
        for count, period_s, burst, per in reversed(found):
            whom = per or whom
            made.append(Window(count, period_s, burst, whom))
        return tuple(reversed(made))

    def _window(self) -> tuple[int, int, int, Per | None]:
        start = self._written.at
        count = self._number("a limit begins with a number")
        if not self._written.passes("sign", "/"):
            self._written.wrong("a slash must follow the number", 'Write "20/minute".')
        period_s = (self._number("") if self._written.next("number") else 1) * self._unit()
        burst = self._number("a number must follow burst") if self._written.passes("word", "burst") else count
        per = self._whom() if self._written.passes("word", "per") else None
        if period_s > PERIOD_S_MAX or count > RATE_PER_S_MAX * period_s:
            self._written.at = start
            self._written.wrong(
                "this window is out of bounds",
                f"A period is a year at most, a rate {RATE_PER_S_MAX:,} a second.",
            )
        return count, period_s, burst, per

    def _unit(self) -> int:
        word = self._written.next("word").lower()
        singular = word[:-1] if word.endswith("s") and len(word) > 1 else word
        name = _SHORT.get(singular, singular)
        if name not in _UNITS:
            self._written.wrong(
                "a unit of time must stand here", f"Known are {', '.join(_UNITS)}.{nearest(singular, _UNITS)}"
            )
        self._written.at += 1
        return _UNITS[name]

    def _whom(self) -> Per:
        word = self._written.next("word").lower()
        if self._written.passes("word", "api"):
            self._written.passes("sign", "-")
            following = self._written.next("word").lower()
            word = f"api {following}" if following else word
        if word not in _WHOM:
            self._written.wrong(
                "whom the limit counts must follow per",
                f"Known are {', '.join(_WHOM)}.{nearest(word, _WHOM)}",
            )
        self._written.at += 1
        return cast("Per", word)

    def _number(self, otherwise: str) -> int:
        number = int(self._written.take("number", otherwise).replace("_", ""))
        if not 1 <= number <= COUNT_MAX:
            self._written.at -= 1
            self._written.wrong("this number is out of bounds", f"It must be from 1 to {COUNT_MAX:,}.")
        return number
