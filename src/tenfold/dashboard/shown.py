"""What others wrote, as pages may show it: masked, cut, laid out. And series of the store as lines of charts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from tenfold.dashboard.view import View
    from tenfold.telemetry.store.records import Point, Series

TEXT_MAX: Final = 12_000
"""Characters of one text that a page shows."""


def text(view: View, given: str, most: int = TEXT_MAX) -> str:
    """``given`` without secrets, cut after so many characters."""
    masked = view.assembly.telemetry.redactor.text(given)
    return masked if len(masked) <= most else f"{masked[:most]}… ({len(masked) - most:,} more characters)"


def line(view: View, given: str, most: int = 200) -> str:
    """The same in one line."""
    return text(view, " ".join(given[: 4 * most].split()), most)


def json(view: View, given: str) -> str:
    """JSON text, laid out and without secrets: those of named members, too. What is no JSON is text."""
    try:
        value = msgspec.json.decode(given)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return text(view, given)
    masked = view.assembly.telemetry.redactor.value(value)
    return text(view, msgspec.json.format(msgspec.json.encode(masked), indent=2).decode())


# ── series ────────────────────────────────────────────────────────────────────────────────────────


def times_of(series: Iterable[Series]) -> list[float]:
    """Every moment that one of the series has a point at."""
    return sorted({point.at for each in series for point in each.points})


def values(
    series: Sequence[Series], times: Sequence[float], read: Callable[[Point], float | None]
) -> list[float | None]:
    """One line: the series added up at each of the times; None where none has a point."""
    at: dict[float, float] = {}
    for each in series:
        for point in each.points:
            value = read(point)
            if value is not None:
                at[point.at] = at.get(point.at, 0.0) + value
    return [at.get(time) for time in times]


def step_of(times: Sequence[float]) -> float:
    """Seconds that one point stands for."""
    gaps = [after - before for before, after in pairwise(times) if after > before]
    return min(gaps, default=60.0)


def per_s(series: Sequence[Series], times: Sequence[float]) -> list[float]:
    """Of counters: how much they grew in a second; 0 where nothing was told."""
    step = step_of(times)
    return [(value or 0.0) / step for value in values(series, times, lambda point: point.value)]


def gauge(series: Sequence[Series], times: Sequence[float]) -> list[float | None]:
    """Of gauges: their sum."""
    return values(series, times, lambda point: point.value)


def counts(series: Sequence[Series], times: Sequence[float]) -> list[float]:
    """Of gauges that are left out while there is nothing to count."""
    return [value or 0.0 for value in gauge(series, times)]
