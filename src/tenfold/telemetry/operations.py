"""Counts and latencies of HTTP operations: the hot path's own numbers, in plain lists."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import Final

from tenfold.telemetry import names
from tenfold.telemetry.metrics import SECONDS, Family, Registry, Sample, histogram_samples
from tenfold.telemetry.objectives import Objective
from tenfold.telemetry.store.requests import Keeper

_CLASSES: Final = ("0xx", "1xx", "2xx", "3xx", "4xx", "5xx")


class OperationStats:
    """The numbers of one operation. The endpoint's generated code does what :meth:`record` does, without the call;
    ``in_flight`` is kept by hand around the work, ``bad`` where there is an ``objective``."""

    __slots__ = (
        "bad", "buckets", "in_flight", "keeping", "labels", "objective", "slow_s", "statuses", "sum_s",
    )  # fmt: skip

    def __init__(self, operation: str, method: str, route: str) -> None:
        self.labels = {names.OPERATION: operation, names.METHOD: method, names.ROUTE: route}
        self.statuses = [0] * len(_CLASSES)
        self.buckets = [0] * (len(SECONDS) + 1)
        self.sum_s = 0.0
        self.in_flight = 0
        self.objective: Objective | None = None
        self.bad = 0
        self.keeping: Keeper | None = None
        """Keeps requests one by one."""
        self.slow_s = float("inf")
        """A request that takes longer is kept."""

    def record(self, status: int, seconds: float) -> None:
        """Count one finished request; ``status`` is 100 to 599. Two calls: this one and the bucket's search."""
        self.statuses[status // 100] += 1
        self.buckets[bisect_left(SECONDS, seconds)] += 1
        self.sum_s += seconds


class OperationTable:
    """Makes the :class:`OperationStats` of every operation and shows them to the registry."""

    def __init__(self, registry: Registry) -> None:
        self._stats: dict[tuple[str, str, str], OperationStats] = {}
        registry.collector(self._collect, names.HTTP_REQUESTS)

    def stats(self, operation: str, method: str, route: str) -> OperationStats:
        """The numbers of this operation; the same object for the same names."""
        key = (operation, method, route)
        if key not in self._stats:
            self._stats[key] = OperationStats(operation, method, route)
        return self._stats[key]

    def slow(self, operation: str, seconds: float) -> None:
        """What takes longer than this counts as slow from now on. From any thread."""
        for (name, _, _), one in list(self._stats.items()):
            if name == operation:
                one.slow_s = seconds

    def _collect(self) -> Iterator[Family]:
        stats = list(self._stats.values())
        yield Family(
            names.HTTP_REQUESTS.removesuffix("_total"),
            "counter",
            "Requests answered, by operation and class of status.",
            [
                Sample("_total", {**one.labels, names.STATUS: class_}, count)
                for one in stats
                for class_, count in zip(_CLASSES, one.statuses, strict=True)
                if count
            ],
        )
        yield Family(
            names.HTTP_DURATION,
            "histogram",
            "Time from the request's head to its last byte, in seconds.",
            [s for one in stats for s in histogram_samples(SECONDS, one.buckets, one.sum_s, one.labels)],
        )
        yield Family(
            names.HTTP_IN_FLIGHT,
            "gauge",
            "Requests being worked on.",
            [Sample("", one.labels, one.in_flight) for one in stats],
        )
        yield from _objectives([one for one in stats if one.objective is not None])


def _objectives(stats: list[OperationStats]) -> Iterator[Family]:
    """What the recording and alerting rules stand on. The text of the objective is a label: rules hold for all operations
    that share one, and an objective that changes begins anew."""
    labels = [
        {names.OPERATION: one.labels[names.OPERATION], names.OBJECTIVE: str(one.objective)} for one in stats
    ]
    shown = (
        (
            names.SLO_REQUESTS,
            "Requests that an objective (slo=) counts.",
            [sum(one.statuses) for one in stats],
        ),
        (
            names.SLO_BAD,
            "Of those, answered with 5xx or later than the objective says.",
            [one.bad for one in stats],
        ),
    )
    for name, about, values in shown:
        samples = [Sample("_total", one, value) for one, value in zip(labels, values, strict=True)]
        yield Family(name.removesuffix("_total"), "counter", about, samples)
