"""What a ``/metrics`` page says, and what happened between two of them. Pure: text in, numbers out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from msgspec import Struct

from tenfold.telemetry import names

_LINE: Final = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)(?: \S+)?$", re.MULTILINE)
_LABEL: Final = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')
_ESCAPED: Final = re.compile(r"\\(.)")
LINES_MAX: Final = 200_000
"""Of one page; what is beyond is not read."""


class Number(Struct, frozen=True):
    """One line."""

    labels: Mapping[str, str]
    value: float


class Reading(Struct, frozen=True):
    """One page, read at a time."""

    at: float
    numbers: Mapping[str, list[Number]]

    def of(self, name: str, labels: Mapping[str, str] | None = None) -> list[Number]:
        """Every line of a name that has these labels."""
        wanted = (labels or {}).items()
        return [each for each in self.numbers.get(name, ()) if wanted <= each.labels.items()]

    def total(self, name: str, labels: Mapping[str, str] | None = None) -> float:
        """Their sum; 0 where there is none."""
        return sum(each.value for each in self.of(name, labels))

    def most(self, name: str, labels: Mapping[str, str] | None = None) -> float:
        """The largest; 0 where there is none."""
        return max((each.value for each in self.of(name, labels)), default=0.0)


class Traffic(Struct, frozen=True):
    """What one operation, or all, did between two pages."""

    operation: str
    requests_per_s: float = 0.0
    errors_per_s: float = 0.0
    """Answered with 5xx."""
    p50_s: float | None = None
    p99_s: float | None = None
    in_flight: float = 0.0


def read(text: str, at: float) -> Reading:
    """A page in Prometheus' text format or in OpenMetrics. Lines that are neither are skipped."""
    numbers: dict[str, list[Number]] = {}
    for count, line in enumerate(_LINE.finditer(text)):
        if count >= LINES_MAX:
            break
        try:
            value = float(line[3])
        except ValueError:
            continue
        labels = {m[1]: _ESCAPED.sub(_unescaped, m[2]) for m in _LABEL.finditer(line[2] or "")}
        numbers.setdefault(line[1], []).append(Number(labels, value))
    return Reading(at, numbers)


def traffic(before: Reading, after: Reading, operation: str = "") -> Traffic:
    """Of one operation, or of all. A process that began anew counts from its beginning."""
    labels = {names.OPERATION: operation} if operation else {}
    passed = max(after.at - before.at, 0.001)
    buckets = _grown_buckets(before, after, labels)
    return Traffic(
        operation,
        _grown(before, after, names.HTTP_REQUESTS, labels) / passed,
        _grown(before, after, names.HTTP_REQUESTS, {**labels, names.STATUS: "5xx"}) / passed,
        quantile(buckets, 0.5),
        quantile(buckets, 0.99),
        after.total(names.HTTP_IN_FLIGHT, labels),
    )


def operations(reading: Reading) -> Iterator[str]:
    """Every operation that was asked for, by name."""
    yield from sorted({each.labels.get(names.OPERATION, "") for each in reading.of(names.HTTP_REQUESTS)})


def quantile(buckets: Mapping[float, float], share: float) -> float | None:
    """Interpolated within its bucket, as Prometheus does it; beyond the last bound, that bound. None of nothing."""
    bounds = sorted(buckets)
    if not bounds or buckets[bounds[-1]] <= 0:
        return None
    rank = share * buckets[bounds[-1]]
    below_bound, below = 0.0, 0.0
    for bound in bounds:
        if buckets[bound] >= rank:
            if bound == float("inf"):
                return below_bound
            inside = buckets[bound] - below
            return below_bound + (bound - below_bound) * ((rank - below) / inside if inside else 1.0)
        below_bound, below = bound, buckets[bound]
    return below_bound


def _grown(before: Reading, after: Reading, name: str, labels: Mapping[str, str]) -> float:
    was, now = before.total(name, labels), after.total(name, labels)
    return now - was if now >= was else now


def _grown_buckets(before: Reading, after: Reading, labels: Mapping[str, str]) -> dict[float, float]:
    found: dict[float, float] = {}
    name = f"{names.HTTP_DURATION}_bucket"
    sign = 1.0 if after.total(name, labels) >= before.total(name, labels) else 0.0
    for reading, factor in ((after, 1.0), (before, -sign)):
        for each in reading.of(name, labels):
            bound = float(each.labels.get("le", "inf"))
            found[bound] = found.get(bound, 0.0) + factor * each.value
    return found


def _unescaped(match: re.Match[str]) -> str:
    return "\n" if match[1] == "n" else match[1]
