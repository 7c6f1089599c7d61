"""A probe as Nagios and its kin (Icinga, Naemon, Checkmk) run them: one line, performance data, an exit code. Pure.

Follows the Monitoring Plugins' guidelines: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN; ranges ``10``, ``10:``, ``~:10``,
``10:20``, ``@10:20``; performance data ``'label'=value[unit];warning;critical;least;most``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from enum import IntEnum
from typing import Final

from msgspec import Struct

from tenfold.errors import ConfigError

_NUMBER: Final = r"-?\d+(?:\.\d+)?"
_RANGE: Final = re.compile(rf"(?P<at>@?)(?:(?P<low>~|{_NUMBER})?(?P<colon>:))?(?P<high>{_NUMBER})?")
LINE_MAX_CHARS: Final = 4_000
"""Nagios reads 8 KiB of output, performance data included."""


class State(IntEnum):
    """The exit codes."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


class Range(Struct, frozen=True):
    """Values outside of it (inside, with ``inside``) are worth an alert."""

    low: float
    high: float
    inside: bool
    text: str

    def alerts(self, value: float) -> bool:
        """Whether this value is."""
        within = self.low <= value <= self.high
        return within if self.inside else not within


class Datum(Struct, frozen=True):
    """One number for graphs."""

    label: str
    value: float
    unit: str = ""
    """``s``, ``%``, ``B``, ``c`` (a counter) or nothing."""
    warning: Range | None = None
    critical: Range | None = None
    least: float | None = 0.0

    def __str__(self) -> str:
        label = re.sub(r"[='|\s]+", "_", self.label) or "value"
        bounds = [each.text if each else "" for each in (self.warning, self.critical)]
        least = "" if self.least is None else f"{self.least:g}"
        return f"'{label}'={self.value:.6g}{self.unit};{bounds[0]};{bounds[1]};{least};"

    @property
    def state(self) -> State:
        """By its ranges; a value that is no number is unknown."""
        if math.isnan(self.value):
            return State.UNKNOWN
        if self.critical is not None and self.critical.alerts(self.value):
            return State.CRITICAL
        return State.WARNING if self.warning is not None and self.warning.alerts(self.value) else State.OK


class Verdict(Struct, frozen=True):
    """What a probe says."""

    state: State
    sentence: str
    data: Sequence[Datum] = ()
    more: Sequence[str] = ()
    """Lines that people see on request."""

    def __str__(self) -> str:
        # A bar separates the performance data, so there is none in the text.
        sentence = " ".join(self.sentence.split()).replace("|", "/")
        line = f"{self.state.name} - {sentence}"[:LINE_MAX_CHARS]
        lines = [" ".join(each.split()).replace("|", "/") for each in self.more]
        data = " ".join(map(str, self.data))
        return "\n".join([f"{line} | {data}" if data else line, *lines])[: 2 * LINE_MAX_CHARS]


_WORST: Final = (State.OK, State.UNKNOWN, State.WARNING, State.CRITICAL)


def worst(states: Sequence[State]) -> State:
    """The one that counts: critical before warning before unknown before OK."""
    return max(states, key=_WORST.index, default=State.OK)


def range_of(text: str, where: str) -> Range | None:
    """The range that is written; None for an empty text. Raises ConfigError."""
    if not text:
        return None
    match = _RANGE.fullmatch(text)
    if match is None or (match["high"] is None and not match["colon"]):
        raise ConfigError(
            f"{text!r} is no range.", where=where, remedy='Write "10", "10:", "~:10", "10:20" or "@10:20".'
        )
    low = -math.inf if match["low"] == "~" else float(match["low"] or 0)
    high = math.inf if match["high"] is None else float(match["high"])
    if low > high:
        raise ConfigError(
            f"{text!r} begins above its end.", where=where, remedy=f"Write {match['high']}:{match['low']}."
        )
    return Range(low, high, bool(match["at"]), text)
