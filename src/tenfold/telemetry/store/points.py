"""Readings of the registry to points: how much each number has grown since the last time. Pure but for its memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec

from tenfold.telemetry import names
from tenfold.telemetry.metrics import Family
from tenfold.telemetry.store.records import SeriesKind

SERIES_MAX: Final = 3000
"""Of one process. Label sets beyond are counted and left out."""
GAUGE_AGAIN_S: Final = 60
"""A gauge that stands still is written so often."""
LABEL_MAX_CHARS: Final = 200
ALL: Final = "tenfold_http_all"
"""Requests, by class of status, and their durations, of all operations together: what an overview would have to add up."""


class Grown(msgspec.Struct, gc=False):
    """One series in one step."""

    name: str
    labels: str
    """As JSON, sorted by name."""
    kind: SeriesKind
    bounds: tuple[float, ...]
    sum: float
    count: float
    buckets: list[float] | None = None


class _Seen(msgspec.Struct):
    """What a series was at the last reading."""

    labels: str
    values: list[float]
    written_at: float


class Differ:
    """Remembers the last reading of each series of this process."""

    def __init__(self, instance: str) -> None:
        self.left_out = 0
        """Readings of series beyond the bound."""
        self._instance = instance
        self._seen: dict[tuple[object, ...], _Seen] = {}

    def grown(self, families: Iterable[Family], at: float) -> list[Grown]:
        """What has changed since the last call, and gauges now and then."""
        out: list[Grown] = []
        for family in families:
            if family.kind == "histogram":
                out.extend(self._histograms(family, at))
            elif family.kind in ("counter", "gauge"):
                out.extend(self._numbers(family, at))
        out.extend(_of_all(out, self._instance))
        return out

    def _numbers(self, family: Family, at: float) -> Iterator[Grown]:
        counter = family.kind == "counter"
        for sample in family.samples:
            name = family.name + sample.suffix
            seen = self._known(name, sample.labels)
            if seen is None:
                continue
            if counter:
                growth = sample.value - (seen.values[0] if seen.values else 0.0)
                seen.values = [sample.value]
                if growth > 0:
                    yield Grown(name, seen.labels, "counter", (), growth, 1.0)
            elif (
                seen.values != [sample.value] or at - seen.written_at >= GAUGE_AGAIN_S or at < seen.written_at
            ):
                seen.values, seen.written_at = [sample.value], at
                yield Grown(name, seen.labels, "gauge", (), sample.value, 1.0)

    def _histograms(self, family: Family, at: float) -> Iterator[Grown]:
        """Samples come as cumulative buckets, count and sum, one set of labels after the other."""
        bounds: list[float] = []
        cumulative: list[float] = []
        for sample in family.samples:
            if sample.suffix == "_bucket":
                le = sample.labels["le"]
                if le != "+Inf":
                    bounds.append(float(le))
                cumulative.append(sample.value)
            elif sample.suffix == "_sum":
                seen = self._known(family.name, sample.labels)
                if seen is not None and (
                    grown := _histogram(family.name, seen, bounds, cumulative, sample.value)
                ):
                    yield grown
                bounds, cumulative = [], []

    def _known(self, name: str, labels: Mapping[str, str]) -> _Seen | None:
        key = (name, *labels.items())
        seen = self._seen.get(key)
        if seen is None:
            if len(self._seen) >= SERIES_MAX:
                self.left_out += 1
                return None
            seen = self._seen[key] = _Seen(
                labels_text({**labels, "instance": self._instance}), [], float("-inf")
            )
        return seen


def _histogram(
    name: str, seen: _Seen, bounds: list[float], cumulative: list[float], total: float
) -> Grown | None:
    each = [b - a for a, b in zip([0.0, *cumulative[:-1]], cumulative, strict=True)]
    before = seen.values or [0.0] * (len(each) + 1)
    buckets = [now - then for now, then in zip(each, before, strict=False)]
    growth, seen.values = total - before[-1], [*each, total]
    count = sum(buckets)
    if count <= 0:
        return None
    return Grown(name, seen.labels, "histogram", tuple(bounds), growth, count, buckets)


def labels_text(labels: Mapping[str, str]) -> str:
    """Labels as they are kept: sorted, and none longer than 200 characters."""
    cut = {name: str(value)[:LABEL_MAX_CHARS] for name, value in sorted(labels.items())}
    return msgspec.json.encode(cut).decode()


def _of_all(grown: list[Grown], instance: str) -> Iterator[Grown]:
    durations = [one for one in grown if one.name == names.HTTP_DURATION and one.buckets]
    if durations:
        first = durations[0]
        buckets = [sum(each, 0.0) for each in zip(*(one.buckets or [] for one in durations), strict=False)]
        yield Grown(
            ALL, labels_text({"instance": instance}), "histogram", first.bounds,
            sum(one.sum for one in durations), sum(one.count for one in durations), buckets,
        )  # fmt: skip
    by_status: dict[str, float] = {}
    for one in grown:
        if one.name == names.HTTP_REQUESTS:
            status = msgspec.json.decode(one.labels, type=dict[str, str]).get(names.STATUS, "")
            by_status[status] = by_status.get(status, 0.0) + one.sum
    for status, growth in by_status.items():
        labels = labels_text({"instance": instance, names.STATUS: status})
        yield Grown(f"{ALL}_total", labels, "counter", (), growth, 1.0)
