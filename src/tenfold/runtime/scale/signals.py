"""What an instance's ``/metrics`` page says about its load. Pure: text in, numbers out.

Counters only mean something between two pages, so a :class:`Reading` is what one page says, :func:`load_between` what the
instance did from one to the next, and :func:`sample_of` puts the instances of a role together: sums where load adds up,
and the median for what one odd instance must not decide for all of them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from statistics import median, median_low

from msgspec import Struct

from tenfold.runtime.scale.policy import Sample
from tenfold.telemetry import names

REFUSED_MAX = 8.0
"""Refused clients come again, so beyond so many refusals for each that was served their number says little."""

_CPU = "process_cpu_seconds_total"
"""Of prometheus-client, on every page where the system has /proc."""
_LINE = re.compile(r"^(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(?P<labels>.*)\})? (?P<value>\S+)", re.MULTILINE)
_LE = re.compile(r'(?:^|,)le="([^"]*)"')
_BUCKET = f"{names.HTTP_DURATION}_bucket"
_WANTED = frozenset(
    {
        f"{names.ADMISSION}_limit",
        f"{names.ADMISSION}_in_flight",
        f"{names.ADMISSION}_parked",
        f"{names.ADMISSION}_waiting",
        f"{names.ADMISSION}_admitted_total",
        names.HTTP_SHED,
        names.QUEUE_OLDEST,
        names.QUEUE_HANDLED,
        _CPU,
    }
)


class Reading(Struct, frozen=True):
    """One page: gauges as they are, counters since the process began, summed over their labels."""

    at: float
    numbers: Mapping[str, float]
    buckets: Mapping[float, float]
    """Of all operations together: requests answered within so many seconds."""

    def __getitem__(self, name: str) -> float:
        return self.numbers.get(name, 0.0)


class Load(Struct, frozen=True):
    """What one instance did between two pages."""

    in_flight: float
    """With those that it had to refuse."""
    limit: float
    p99_s: float
    queue_age_s: float
    cpu: float
    jobs: float = 0.0
    """Done in a second."""


def read(text: str, at: float) -> Reading:
    """A page in Prometheus' text format or in OpenMetrics. Unknown lines are skipped; so is a number that is none."""
    numbers: dict[str, float] = {}
    buckets: dict[float, float] = {}
    for line in _LINE.finditer(text):
        name = line["name"]
        if name != _BUCKET and name not in _WANTED:
            continue
        value = _number(line["value"])
        if value is None:
            continue
        if name != _BUCKET:
            numbers[name] = numbers.get(name, 0.0) + value
        elif (le := _LE.search(line["labels"] or "")) and (bound := _number(le[1], inf=True)) is not None:
            buckets[bound] = buckets.get(bound, 0.0) + value
    return Reading(at, numbers, buckets)


def load_between(before: Reading, after: Reading) -> Load | None:
    """None where ``after`` is not later, or of a process that has begun anew."""
    passed = after.at - before.at
    restarted = any(after[name] < before[name] for name in _WANTED if name.endswith("_total"))
    if passed <= 0 or restarted:
        return None
    return Load(
        in_flight=_demand(before, after),
        limit=after[f"{names.ADMISSION}_limit"],
        p99_s=quantile(before.buckets, after.buckets, 0.99),
        queue_age_s=after[names.QUEUE_OLDEST],
        cpu=(after[_CPU] - before[_CPU]) / passed,
        jobs=(after[names.QUEUE_HANDLED] - before[names.QUEUE_HANDLED]) / passed,
    )


def sample_of(loads: Sequence[Load], instances: int, at: float) -> Sample | None:
    """One sample of ``instances`` that are ready, of which those in ``loads`` answered. None where fewer than half did: what
    they say is not the fleet's. Those that did not are taken to have as much to do as the others."""
    if not loads or 2 * len(loads) < instances:
        return None
    return Sample(
        at=at,
        instances=instances,
        in_flight=sum(load.in_flight for load in loads) * instances / len(loads),
        limit=median([load.limit for load in loads]),
        p99_s=median_low([load.p99_s for load in loads]),
        queue_age_s=max(load.queue_age_s for load in loads),
        cpu=sum(load.cpu for load in loads) / len(loads),
        jobs=sum(load.jobs for load in loads) * instances / len(loads),
    )


def quantile(before: Mapping[float, float], after: Mapping[float, float], share: float) -> float:
    """Of what came between two states of a histogram, in its unit: linear within a bucket, as Prometheus estimates it; the
    last finite bound for what is beyond it. 0 where nothing came."""
    bounds = sorted(after)
    came = [after[bound] - before.get(bound, 0.0) for bound in bounds]
    if not came or came[-1] <= 0:
        return 0.0
    rank, lower, below = share * came[-1], 0.0, 0.0
    for bound, count in zip(bounds, came, strict=True):
        if count >= rank:
            return lower if math.isinf(bound) else lower + (bound - lower) * (rank - below) / (count - below)
        lower, below = bound, count
    return lower


def _demand(before: Reading, after: Reading) -> float:
    """Requests that would be in progress had nobody been refused or kept in line. By Little's law they are, over those that
    are in progress, as those that came over those that were let in, since all stay equally long."""
    active = max(after[f"{names.ADMISSION}_in_flight"] - after[f"{names.ADMISSION}_parked"], 0.0)
    refused = after[names.HTTP_SHED] - before[names.HTTP_SHED]
    kept = after[f"{names.ADMISSION}_waiting"] - before[f"{names.ADMISSION}_waiting"]
    let_in = after[f"{names.ADMISSION}_admitted_total"] - before[f"{names.ADMISSION}_admitted_total"]
    return active * (1.0 + min(max(refused + kept, 0.0) / max(let_in, 1.0), REFUSED_MAX))


def _number(text: str, *, inf: bool = False) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) or (inf and value == math.inf) else None
