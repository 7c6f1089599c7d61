"""Counters, gauges and histograms that cost next to nothing to update.

A metric is a family of children, one per set of label values. Resolve the child once, where the label values
become known, and keep it: updating a child is plain arithmetic (``inc``: no call beyond itself, ``observe``:
one). A family holds at most ``children_max`` children; label sets beyond that share one whose every label is
``other``, so that a hostile client cannot fill the memory.

Updates come from the event loop's thread. From other threads they are safe on CPython with its lock, where
``x += n`` on ints and floats is not interrupted.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar, Final, Literal, NamedTuple, TypeVar, cast

from tenfold.errors import DeclarationError
from tenfold.telemetry import names

Kind = Literal["counter", "gauge", "histogram", "info"]

SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the default buckets, in seconds."""

_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


class Sample(NamedTuple):
    """One number of a family: ``suffix`` is ``_total``, ``_bucket``, … or empty."""

    suffix: str
    labels: dict[str, str]
    value: float


class Family(NamedTuple):
    """What a collector yields at scrape time. ``name`` is without the counter's ``_total``."""

    name: str
    kind: Kind
    help: str
    samples: list[Sample]


class Counter:
    """A number that only grows."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0

    def inc(self, amount: float = 1) -> None:
        """Add ``amount``, which is not negative."""
        self.value += amount

    def samples(self, labels: dict[str, str]) -> Iterator[Sample]:
        yield Sample("_total", labels, self.value)


class Gauge:
    """A number that goes up and down."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0

    def set(self, value: float) -> None:
        self.value = value

    def inc(self, amount: float = 1) -> None:
        self.value += amount

    def dec(self, amount: float = 1) -> None:
        self.value -= amount

    def samples(self, labels: dict[str, str]) -> Iterator[Sample]:
        yield Sample("", labels, self.value)


class Histogram:
    """How values distribute over fixed buckets; ``bounds`` are their inclusive upper ends, ascending."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...] = SECONDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    @property
    def count(self) -> int:
        """How many values were observed."""
        return sum(self.counts)

    def samples(self, labels: dict[str, str]) -> Iterator[Sample]:
        return histogram_samples(self.bounds, self.counts, self.sum, labels)


def histogram_samples(
    bounds: Sequence[float], counts: Sequence[int], total: float, labels: dict[str, str]
) -> Iterator[Sample]:
    """Cumulative buckets, count and sum, from the counts of each bucket."""
    running = 0
    for bound, count in zip((*bounds, float("inf")), counts, strict=True):
        running += count
        le = "+Inf" if bound == float("inf") else repr(float(bound))
        yield Sample("_bucket", {**labels, "le": le}, running)
    yield Sample("_count", labels, running)
    yield Sample("_sum", labels, total)


Child = TypeVar("Child", Counter, Gauge, Histogram)


class Metric(Iterable[Family]):
    """One family of children. Made by :class:`Registry`; ``labels(*values)`` resolves a child."""

    kind: ClassVar[Kind]

    def __init__(self, name: str, help_: str, label_names: tuple[str, ...], registry: Registry) -> None:
        self.name, self.help, self.label_names = name, help_, label_names
        self._registry = registry
        self._children: dict[tuple[str, ...], Any] = {}

    def _child(self, values: tuple[str, ...], make: Callable[[], Child]) -> Child:
        child = self._children.get(values)
        if child is not None:
            return cast("Child", child)
        if len(values) != len(self.label_names):
            raise DeclarationError(
                f"it has the labels {self.label_names}, but {len(values)} values were given: {values}.",
                where=self.name,
            )
        if len(self._children) >= self._registry.children_max:
            self._registry.overflowed(self.name)
            values = (names.OTHER,) * len(self.label_names)
            if values in self._children:
                return cast("Child", self._children[values])
        made = self._children[values] = make()
        return made

    def __iter__(self) -> Iterator[Family]:
        samples: list[Sample] = []
        for values, child in list(self._children.items()):
            labels = dict(zip(self.label_names, values, strict=True))
            samples.extend(child.samples(labels))
        yield Family(self.name.removesuffix("_total"), self.kind, self.help, samples)


class CounterMetric(Metric):
    kind = "counter"

    def labels(self, *values: str) -> Counter:
        """The counter of these label values, in the order of the declaration. Keep it."""
        return self._child(values, Counter)

    def inc(self, amount: float = 1) -> None:
        """Count on a metric without labels."""
        self.labels().inc(amount)


class GaugeMetric(Metric):
    kind = "gauge"

    def labels(self, *values: str) -> Gauge:
        """The gauge of these label values, in the order of the declaration. Keep it."""
        return self._child(values, Gauge)

    def set(self, value: float) -> None:
        """Set a metric without labels."""
        self.labels().set(value)


class HistogramMetric(Metric):
    kind = "histogram"

    def __init__(
        self,
        name: str,
        help_: str,
        label_names: tuple[str, ...],
        registry: Registry,
        bounds: tuple[float, ...],
    ) -> None:
        super().__init__(name, help_, label_names, registry)
        self.bounds = bounds

    def labels(self, *values: str) -> Histogram:
        """The histogram of these label values, in the order of the declaration. Keep it."""
        return self._child(values, lambda: Histogram(self.bounds))

    def observe(self, value: float) -> None:
        """Observe on a metric without labels."""
        self.labels().observe(value)


Reading = Callable[[], "float | Mapping[tuple[str, ...], float]"]
"""Reads a gauge at scrape time: a number, or numbers by label values."""

M = TypeVar("M", bound=Metric)


class Registry:
    """All metrics of one app. ``children_max`` bounds the label sets of each metric."""

    def __init__(self, *, children_max: int = 1000) -> None:
        self.children_max = children_max
        self._metrics: dict[str, Metric] = {}
        self._collectors: list[Callable[[], Iterable[Family]]] = []
        self._overflow = self.counter(
            names.METRIC_OVERFLOW, "Label sets that were folded into `other`.", (names.METRIC,)
        )
        self._failures = self.counter(
            names.METRIC_FAILURES, "Gauges that could not be read at a scrape.", (names.METRIC,)
        )

    def counter(self, name: str, help_: str, labels: tuple[str, ...] = ()) -> CounterMetric:
        """Declare a counter; its name ends in ``_total``. Declared twice alike, it is the same."""
        if not name.endswith("_total"):
            raise DeclarationError("the name of a counter ends in _total.", where=name)
        return self._declare(CounterMetric(name, help_, labels, self))

    def gauge(self, name: str, help_: str, labels: tuple[str, ...] = ()) -> GaugeMetric:
        """Declare a gauge that is set."""
        return self._declare(GaugeMetric(name, help_, labels, self))

    def histogram(
        self, name: str, help_: str, labels: tuple[str, ...] = (), *, buckets: Sequence[float] = SECONDS
    ) -> HistogramMetric:
        """Declare a histogram; ``buckets`` are ascending upper bounds, the last (infinity) is implied."""
        bounds = tuple(float(b) for b in buckets)
        if not bounds or any(a >= b for a, b in pairwise(bounds)):
            raise DeclarationError(f"buckets must ascend: {bounds}.", where=name)
        return self._declare(HistogramMetric(name, help_, labels, self, bounds))

    def reading(self, name: str, help_: str, read: Reading, labels: tuple[str, ...] = ()) -> None:
        """Declare a gauge that is read at scrape time. One whose ``read`` raises is left out and counted."""
        _check_names(name, labels)

        def collect() -> Iterator[Family]:
            got = read()
            by_labels = got if isinstance(got, Mapping) else {(): got}
            samples = [
                Sample("", dict(zip(labels, values, strict=True)), value)
                for values, value in by_labels.items()
            ]
            yield Family(name, "gauge", help_, samples)

        self.collector(collect, name)

    def collector(self, collect: Callable[[], Iterable[Family]], name: str) -> None:
        """Ask ``collect`` for families at every scrape; ``name`` stands for it when it fails."""

        def guarded() -> Iterable[Family]:
            try:
                return list(collect())
            except Exception:  # one broken gauge must not hide all the others
                self._failures.labels(name).inc()
                return ()

        self._collectors.append(guarded)

    def overflowed(self, metric: str) -> None:
        """Count a label set that got no child of its own."""
        if metric != names.METRIC_OVERFLOW:
            self._overflow.labels(metric).inc()

    def collect(self) -> Iterator[Family]:
        """Every family with at least one sample. Read values first, so that failures show at once."""
        read = [family for collect in self._collectors for family in collect()]
        for metric in list(self._metrics.values()):
            yield from (family for family in metric if family.samples)
        yield from (family for family in read if family.samples)

    def value(self, name: str, *labels: str) -> float:
        """The present value of a counter or gauge, 0 when never touched; of a histogram, its count."""
        metric = self._metrics.get(name)
        child = metric._children.get(labels) if metric is not None else None  # pyright: ignore[reportPrivateUsage]
        if isinstance(child, Histogram):
            return child.count
        return child.value if child is not None else 0

    def _declare(self, metric: M) -> M:
        _check_names(metric.name, metric.label_names)
        before = self._metrics.get(metric.name)
        if before is None:
            self._metrics[metric.name] = metric
            return metric
        if isinstance(before, type(metric)) and before.label_names == metric.label_names:
            return before
        raise DeclarationError(
            f"it is declared twice: as {before.kind} with the labels {before.label_names}"
            f" and as {metric.kind} with {metric.label_names}.",
            where=metric.name,
        )


def _check_names(name: str, labels: tuple[str, ...]) -> None:
    for word in (name, *labels):
        if not _NAME.fullmatch(word) or word == "le" or word.startswith("__"):
            raise DeclarationError(
                f"{word!r} is not a name that Prometheus takes (letters, digits and underscores).", where=name
            )
