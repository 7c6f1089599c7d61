"""Numbers of operations that several pages show."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Final

from tenfold.dashboard import ui
from tenfold.dashboard.html import Child, join, tag
from tenfold.dashboard.view import WINDOWS, View, segment
from tenfold.telemetry import names
from tenfold.telemetry.store import rollup
from tenfold.telemetry.store.points import ALL
from tenfold.telemetry.store.records import LatencyPoint, OperationSummary
from tenfold.telemetry.store.rollup import quantile

OPERATION_COLUMNS: Final = (
    ui.Column("operation", wide=True),
    ui.Column("requests", number=True),
    ui.Column("rate", number=True),
    ui.Column("errors", number=True),
    ui.Column("refused", number=True),
    ui.Column("p50", number=True),
    ui.Column("p95", number=True),
    ui.Column("p99", number=True),
)


def operation_row(view: View, each: OperationSummary) -> tuple[Child, ...]:
    """One operation's numbers, its name leading to its page."""
    name = view.a(each.operation, f"/operations/{segment(each.operation)}")
    share = each.errors / each.requests if each.requests else 0.0
    return (
        join(name, tag("span", f"{each.method} {each.route}", class_="below")),
        f"{each.requests:,.0f}",
        ui.rate(each.requests / WINDOWS[view.window]),
        ui.badge(ui.percent(share), "bad") if each.errors else ui.muted("0 %"),
        f"{each.refused:,.0f}" if each.refused else ui.muted("0"),
        *(ui.duration(value) if each.requests else "" for value in (each.p50, each.p95, each.p99)),
    )


async def whole_of(view: View, since: float, operation: str = "") -> OperationSummary:
    """All operations, or one, as one: percentiles are those of all requests since then, not means of percentiles."""
    labels = {names.OPERATION: operation} if operation else None
    # Of all together, the store keeps the sums.
    requests_of, seconds_of = (
        (names.HTTP_REQUESTS, names.HTTP_DURATION) if operation else (f"{ALL}_total", ALL)
    )
    counted, timed = await asyncio.gather(
        view.records.series(requests_of, labels, since=since, by=(names.STATUS,)),
        view.records.series(seconds_of, labels, since=since, by=()),
    )
    by_class = {one.labels.get(names.STATUS, ""): sum(p.value for p in one.points) for one in counted}
    points = timed[0].points if timed else []
    buckets = [sum(each) for each in zip(*(p.buckets for p in points if p.buckets), strict=False)]
    bounds = timed[0].bounds if timed else ()
    requests, seconds = sum(p.count for p in points), sum(p.sum for p in points)
    return OperationSummary(
        operation, "", "",
        requests=sum(by_class.values()),
        errors=by_class.get("5xx", 0.0),
        refused=by_class.get("4xx", 0.0),
        mean=seconds / requests if requests else 0.0,
        p50=quantile(bounds, buckets, 0.5), p95=quantile(bounds, buckets, 0.95), p99=quantile(bounds, buckets, 0.99),
    )  # fmt: skip


def latency_lines(points: list[LatencyPoint]) -> tuple[ui.Line, ...]:
    """Percentiles over time; gaps where nothing was asked for."""
    return tuple(
        ui.Line(name, [getattr(p, name) if p.requests else None for p in points])
        for name in ("p50", "p95", "p99")
    )


def step_of(times: list[float], view: View) -> float:
    """How many seconds a point stands for; a single one tells nothing of that, the store's steps do."""
    between = [b - a for a, b in pairwise(times)]
    return min(between) if between else float(rollup.step_of(view.since, view.now))
