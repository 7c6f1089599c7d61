"""The written form of an alert's condition: one comparison in the language of Prometheus, so that it means the same there.

    condition = value, sign, number
    value     = selector | ("increase" | "rate"), "(", selector, "[", number, unit, "]", ")"
    selector  = metric, ["{", label, "=", '"', text, '"', {",", …}, "}"]
    sign      = ">" | ">=" | "<" | "<="
    unit      = "s" | "m" | "h" | "d"

``increase(tenfold_queue_handled_total{outcome="dead"}[10m]) > 0`` holds for each set of labels by itself. Pure.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from tenfold._core.text import nearest
from tenfold._core.written import Written
from tenfold.errors import ConfigError

How = Literal["value", "increase", "rate"]

WINDOW_S_MAX: Final = 7 * 86_400
_UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_SIGNS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
_HOW: Final = "Write it as 'tenfold_queue_oldest_ready_seconds > 300' or 'increase(NAME_total[10m]) > 0'."
_TOKEN: Final = re.compile(
    r"\s*(?:(?P<word>[A-Za-z_:][A-Za-z0-9_:]*)|(?P<number>-?\d+(?:\.\d+)?)|(?P<text>\"(?:[^\"\\]|\\.)*\")"
    r"|(?P<sign>[<>]=?|\S))"
)


@dataclass(frozen=True, slots=True)
class Condition:
    """What is compared with what."""

    metric: str
    labels: tuple[tuple[str, str], ...]
    how: How
    """``value``: the latest of a gauge. ``increase``: how much a counter grew within ``over_s``; ``rate``: that in a second."""
    over_s: int
    sign: str
    threshold: float

    def holds(self, value: float) -> bool:
        """Whether it is so for this value."""
        return _SIGNS[self.sign](value, self.threshold)

    def __str__(self) -> str:
        """As Prometheus reads it, in one way only."""
        inner = ",".join(f'{name}="{value}"' for name, value in self.labels)
        selector = f"{self.metric}{{{inner}}}" if inner else self.metric
        value = selector if self.how == "value" else f"{self.how}({selector}[{written(self.over_s)}])"
        return f"{value} {self.sign} {self.threshold:g}"


def written(seconds: int) -> str:
    """Seconds as Prometheus writes a duration, with one unit: ``90s``, ``10m``, ``3d``."""
    unit, size = next((u, n) for u, n in reversed(_UNITS.items()) if seconds % n == 0 and (seconds or n == 1))
    return f"{seconds // size}{unit}"


def seconds_of(text: str, where: str) -> int:
    """``10m`` in seconds. Raises ConfigError for what is no duration."""
    match = re.fullmatch(r"(\d{1,6})([smhd])", text)
    if match is None:
        raise ConfigError(
            f"{text!r} is no duration.", where=where, remedy='Write "30s", "10m", "2h" or "1d".'
        )
    return int(match[1]) * _UNITS[match[2]]


def parse(text: str, where: str = "alert") -> Condition:
    """The condition that is written. Raises ConfigError that shows where the mistake is."""
    return _Parser(text, where).condition()


class _Parser:
    """Reads one condition from left to right."""

    def __init__(self, text: str, where: str) -> None:
        self._written = Written(text, _TOKEN, where=where, error=ConfigError, remedy=_HOW)

    def condition(self) -> Condition:
        word = self._written.take("word", "a metric, increase or rate must stand here")
        how: How = "value"
        over_s = 0
        if self._written.next("sign") == "(":
            how = self._function(word)
            self._sign("(")
            metric, labels = self._selector(self._written.take("word", "a metric must stand here"))
            over_s = self._window()
            self._sign(")")
        else:
            metric, labels = self._selector(word)
        sign = self._written.next("sign")
        if sign not in _SIGNS:
            self._written.wrong("a comparison (>, >=, <, <=) must stand here")
        self._written.at += 1
        threshold = float(self._written.take("number", "a number must follow the comparison"))
        if not self._written.ended:
            self._written.wrong("there is more than a condition here")
        return Condition(metric, labels, how, over_s, sign, threshold)

    def _function(self, word: str) -> How:
        if word == "increase":
            return "increase"
        if word != "rate":
            self._written.at -= 1
            self._written.wrong(
                f"{word} is no function that is known",
                f"Known are increase and rate.{nearest(word, ['increase', 'rate'])}",
            )
        return "rate"

    def _selector(self, metric: str) -> tuple[str, tuple[tuple[str, str], ...]]:
        labels: list[tuple[str, str]] = []
        if self._written.passes("sign", "{"):
            while not self._written.passes("sign", "}"):
                name = self._written.take("word", "a label must stand here")
                self._sign("=")
                text = self._written.take("text", "a text in double quotes must stand here")
                labels.append((name, text[1:-1]))
                if self._written.next("sign") != "}":
                    self._sign(",")
        return metric, tuple(labels)

    def _window(self) -> int:
        self._sign("[")
        start = self._written.at
        number = float(self._written.take("number", "a duration must stand here"))
        unit = self._written.take("word", "a unit (s, m, h, d) must follow the number")
        if unit not in _UNITS or number < 1 or number * _UNITS[unit] > WINDOW_S_MAX or number % 1:
            self._written.at = start
            self._written.wrong("this is no duration", "Write 30s, 10m, 2h, or 7d at most.")
        self._sign("]")
        return int(number) * _UNITS[unit]

    def _sign(self, sign: str) -> None:
        if not self._written.passes("sign", sign):
            self._written.wrong(f"{sign!r} must stand here")
