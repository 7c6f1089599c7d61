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
from typing import Final, Literal, NoReturn

from tenfold._core.text import nearest
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
        self._text, self._where = text, where
        self._found = list(_TOKEN.finditer(text))
        self._at = 0

    def condition(self) -> Condition:
        word, how = self._word("a metric, increase or rate must stand here"), "value"
        over_s = 0
        if self._next_is("("):
            if word not in ("increase", "rate"):
                self._at -= 1
                self._wrong(
                    f"{word} is no function that is known",
                    f"Known are increase and rate.{nearest(word, ['increase', 'rate'])}",
                )
            self._sign("(")
            how = word
            metric, labels = self._selector(self._word("a metric must stand here"))
            over_s = self._window()
            self._sign(")")
        else:
            metric, labels = self._selector(word)
        token = self._peek()
        if token is None or token["sign"] not in _SIGNS:
            self._wrong("a comparison (>, >=, <, <=) must stand here")
        self._at += 1
        threshold = self._number("a number must follow the comparison")
        if self._at < len(self._found):
            self._wrong("there is more than a condition here")
        return Condition(metric, labels, how, over_s, token["sign"], threshold)  # type: ignore[arg-type]  # one of How

    def _selector(self, metric: str) -> tuple[str, tuple[tuple[str, str], ...]]:
        labels: list[tuple[str, str]] = []
        if self._next_is("{"):
            self._sign("{")
            while not self._next_is("}"):
                name = self._word("a label must stand here")
                self._sign("=")
                token = self._peek()
                if token is None or not token["text"]:
                    self._wrong("a text in double quotes must stand here")
                self._at += 1
                labels.append((name, token["text"][1:-1]))
                if not self._next_is("}"):
                    self._sign(",")
            self._sign("}")
        return metric, tuple(labels)

    def _window(self) -> int:
        self._sign("[")
        start = self._at
        number = self._number("a duration must stand here")
        unit = self._word("a unit (s, m, h, d) must follow the number")
        if unit not in _UNITS or number < 1 or number * _UNITS[unit] > WINDOW_S_MAX or number % 1:
            self._at = start
            self._wrong("this is no duration", "Write 30s, 10m, 2h, or 7d at most.")
        self._sign("]")
        return int(number) * _UNITS[unit]

    def _word(self, otherwise: str) -> str:
        token = self._peek()
        if token is None or not token["word"]:
            self._wrong(otherwise)
        self._at += 1
        return token["word"]

    def _number(self, otherwise: str) -> float:
        token = self._peek()
        if token is None or not token["number"]:
            self._wrong(otherwise)
        self._at += 1
        return float(token["number"])

    def _sign(self, sign: str) -> None:
        if not self._next_is(sign):
            self._wrong(f"{sign!r} must stand here")
        self._at += 1

    def _next_is(self, sign: str) -> bool:
        token = self._peek()
        return token is not None and token["sign"] == sign

    def _peek(self) -> re.Match[str] | None:
        return self._found[self._at] if self._at < len(self._found) else None

    def _wrong(self, what: str, remedy: str = _HOW) -> NoReturn:
        token = self._peek()
        found = repr(token[0].strip()) if token is not None else "the end"
        at = len(self._text.rstrip()) if token is None else token.end() - len(token[0].lstrip())
        raise ConfigError(
            f"{what}, at character {at + 1}: {found}.", where=f"{self._where} {self._text!r}", remedy=remedy
        )
