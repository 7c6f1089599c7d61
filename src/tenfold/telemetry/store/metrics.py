"""Metrics over time: the SQL and the sums of the reader. Runs in its threads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec
from msgspec import Struct

from tenfold.telemetry import names
from tenfold.telemetry.store.file import StoreFile
from tenfold.telemetry.store.points import ALL, GAUGE_AGAIN_S
from tenfold.telemetry.store.records import LatencyPoint, OperationSummary, Point, Series, SeriesKind
from tenfold.telemetry.store.rollup import (
    FINE,
    POINTS,
    RESOLUTIONS,
    Raw,
    Resolution,
    floor,
    quantile,
    resolution_of,
    rolled_up,
    step_of,
)

SERIES_MAX: Final = 20_000
POINTS_MAX: Final = 300_000
INSTANCE: Final = "instance"
_DURATION: Final = names.HTTP_DURATION
_REQUESTS: Final = names.HTTP_REQUESTS


class Asked(Struct, frozen=True):
    """A time, and in which steps."""

    since: float
    until: float
    step_s: float
    now: float

    @classmethod
    def of(
        cls, since: float, until: float | None, step_s: float | None, now: float, points: int = POINTS
    ) -> Asked:
        end = now if until is None else min(until, now + 60)
        wanted = step_of(since, end, points) if step_s is None else max(step_s, FINE.step_s)
        resolution = resolution_of(wanted, since, now)
        # A multiple of what is kept.
        step = max(1, round(wanted / resolution.step_s)) * resolution.step_s
        return cls(since, end, step, now)

    @property
    def resolution(self) -> Resolution:
        return resolution_of(self.step_s, self.since, self.now)


class Line(Struct):
    """One series as it is kept."""

    id: int
    labels: dict[str, str]
    kind: SeriesKind
    bounds: list[float]


def lines(file: StoreFile, name: str, labels: Mapping[str, str]) -> list[Line]:
    """The series of a metric that have these labels."""
    rows = file.rows(
        "SELECT id AS c0, labels AS c1, kind AS c2, bounds AS c3 FROM series INDEXED BY "
        "sqlite_autoindex_series_1 WHERE name = ? LIMIT ?",
        name, SERIES_MAX, columns=4, json=(1, 3),
    )  # fmt: skip
    return [
        Line(id_, has, kind, limits)
        for id_, has, kind, limits in rows
        if all(has.get(label) == value for label, value in labels.items())
    ]


def names_of(file: StoreFile) -> list[str]:
    """All names, by skipping from one to the next in the index."""
    rows = file.rows(
        "WITH RECURSIVE each (name) AS (SELECT min(name) FROM series UNION ALL SELECT (SELECT min(name) FROM series "
        "WHERE name > each.name) FROM each WHERE each.name IS NOT NULL LIMIT 5000) "
        "SELECT name AS c0 FROM each WHERE name IS NOT NULL LIMIT 5000",
        columns=1,
    )
    return [row[0] for row in rows]


def raw(file: StoreFile, ids: Sequence[int], asked: Asked) -> dict[int, list[Raw]]:
    """What is kept of these series: in the coarsest fitting resolution as far as that has been made, then in finer
    ones. Within a series in order of time."""
    out: dict[int, list[Raw]] = {}
    sent = msgspec.json.encode(ids).decode()
    for step_s, since, until in _stretches(file, asked):
        rows = file.rows(
            "SELECT series AS c0, at AS c1, sum AS c2, count AS c3, buckets AS c4 FROM json_each(?) AS asked "
            "CROSS JOIN point ON series = asked.value AND step = ? AND at >= ? AND at < ? LIMIT ?",
            sent, step_s, since, until, POINTS_MAX, columns=5, json=(4,),
        )  # fmt: skip
        for series, at, total, count, buckets in rows:
            out.setdefault(series, []).append(Raw(at, total, count, buckets))
    return out


def summed(file: StoreFile, ids: Sequence[int], asked: Asked) -> dict[int, float]:
    """How much each of these series has grown in all that time."""
    out: dict[int, float] = {}
    sent = msgspec.json.encode(ids).decode()
    for step_s, since, until in _stretches(file, asked):
        rows = file.rows(
            "SELECT value AS c0, (SELECT sum(sum) FROM point WHERE series = value AND step = ? AND at >= ? AND at < ?) "
            "AS c1 FROM json_each(?) LIMIT ?",
            step_s, since, until, sent, SERIES_MAX, columns=2,
        )  # fmt: skip
        for series, total in rows:
            out[series] = out.get(series, 0.0) + (total or 0.0)
    return out


def _stretches(file: StoreFile, asked: Asked) -> list[tuple[int, int, int]]:
    """Resolution, from, until: one after the other."""
    rows = file.rows("SELECT step AS c0, until AS c1 FROM rolled LIMIT 9", columns=2)
    rolled: dict[int, int] = dict(rows)
    begin, end = floor(asked.since, int(asked.step_s)), int(asked.until) + 1
    out: list[tuple[int, int, int]] = []
    for one in reversed(RESOLUTIONS):
        if one.step_s > asked.resolution.step_s:
            continue
        until = end if one is FINE else min(end, rolled.get(one.step_s, 0))
        if until > begin:
            out.append((one.step_s, begin, until))
            begin = until
    return out


def series(
    file: StoreFile, name: str, labels: Mapping[str, str], by: tuple[str, ...] | None, asked: Asked
) -> list[Series]:
    """See :meth:`~tenfold.telemetry.store.reader.Records.series`."""
    found = lines(file, name, labels)
    points = raw(file, [line.id for line in found], asked)
    groups: dict[tuple[tuple[str, str], ...], list[Line]] = {}
    for line in found:
        if line.id in points:
            groups.setdefault(_group(line.labels, labels, by), []).append(line)
    return [_together(name, dict(group), members, points, asked) for group, members in sorted(groups.items())]


def _group(
    has: Mapping[str, str], asked: Mapping[str, str], by: tuple[str, ...] | None
) -> tuple[tuple[str, str], ...]:
    if by is None:
        return tuple((k, v) for k, v in has.items() if k != INSTANCE or INSTANCE in asked)
    return tuple((label, has.get(label, "")) for label in by)


def _together(
    name: str, labels: dict[str, str], members: list[Line], points: Mapping[int, list[Raw]], asked: Asked
) -> Series:
    kind, step = members[0].kind, int(asked.step_s)
    steps: dict[int, Raw] = {}
    for member in members:
        own = rolled_up(points[member.id], step)
        if kind == "gauge":
            own = _stood_still([Raw(p.at, p.sum / max(p.count, 1), 1) for p in own], step, asked)
        for point in own:
            if (sum_ := steps.get(point.at)) is None:
                steps[point.at] = point
            else:
                sum_.add(point)
    made = [_point(steps[at], kind) for at in sorted(steps)]
    return Series(name, labels, kind, made, tuple(members[0].bounds))


def _point(point: Raw, kind: SeriesKind) -> Point:
    if kind == "histogram":
        return Point(float(point.at), 0.0, point.sum, point.count, tuple(point.buckets or ()))
    return Point(float(point.at), point.sum, point.sum, point.count)


def _stood_still(points: list[Raw], step: int, asked: Asked) -> list[Raw]:
    """A gauge that does not change is written once a minute: in between it is what it was."""
    out: list[Raw] = []
    end = floor(asked.until, step)
    for index, point in enumerate(points):
        out.append(point)
        until = points[index + 1].at if index + 1 < len(points) else end
        until = min(until, point.at + GAUGE_AGAIN_S + 2 * FINE.step_s)
        out.extend(Raw(at, point.sum, 1) for at in range(point.at + step, until, step))
    return out


# ── operations ────────────────────────────────────────────────────────────────────────────────────


def latency(file: StoreFile, operation: str, instance: str, asked: Asked) -> list[LatencyPoint]:
    """See :meth:`~tenfold.telemetry.store.reader.Records.latency`."""
    labels = {names.OPERATION: operation} if operation else {}
    if instance:
        labels[INSTANCE] = instance
    durations = series(file, _DURATION if operation else ALL, labels, (), asked)
    counts = series(
        file, _REQUESTS if operation else f"{ALL}_total", {**labels, names.STATUS: "5xx"}, (), asked
    )
    errors = {point.at: point.value for one in counts for point in one.points}
    return [
        LatencyPoint(
            point.at,
            point.count,
            errors.get(point.at, 0.0),
            point.sum / point.count if point.count else 0.0,
            *(quantile(one.bounds, point.buckets, q) for q in (0.5, 0.95, 0.99)),
        )
        for one in durations
        for point in one.points
    ]


def operations(file: StoreFile, instance: str, asked: Asked) -> list[OperationSummary]:
    """See :meth:`~tenfold.telemetry.store.reader.Records.operations`."""
    own = {INSTANCE: instance} if instance else {}
    totals: dict[tuple[str, str, str], Raw] = {}
    bounds: list[float] = []
    for line, points in _with_points(file, _DURATION, own, asked):
        bounds = line.bounds
        buckets = [sum(each, 0.0) for each in zip(*(point.buckets or () for point in points), strict=False)]
        total = totals.setdefault(_operation(line.labels), Raw(0, 0.0, 0.0))
        total.add(Raw(0, sum(one.sum for one in points), sum(one.count for one in points), buckets))
    failed: dict[tuple[tuple[str, str, str], str], float] = {}
    counters = lines(file, _REQUESTS, own)
    sums = summed(file, [line.id for line in counters], asked)
    for line in counters:
        key = (_operation(line.labels), line.labels.get(names.STATUS, ""))
        failed[key] = failed.get(key, 0.0) + sums.get(line.id, 0.0)
    made = [
        OperationSummary(
            *place,
            total.count,
            failed.get((place, "5xx"), 0.0),
            failed.get((place, "4xx"), 0.0),
            total.sum / total.count,
            *(quantile(bounds, total.buckets or (), q) for q in (0.5, 0.95, 0.99)),
        )
        for place, total in totals.items()
        if total.count
    ]
    return sorted(made, key=lambda one: (-one.requests, one.operation))


def _operation(labels: Mapping[str, str]) -> tuple[str, str, str]:
    return labels.get(names.OPERATION, ""), labels.get(names.METHOD, ""), labels.get(names.ROUTE, "")


def _with_points(
    file: StoreFile, name: str, labels: Mapping[str, str], asked: Asked
) -> Iterable[tuple[Line, list[Raw]]]:
    found = lines(file, name, labels)
    points = raw(file, [line.id for line in found], asked)
    return [(line, points[line.id]) for line in found if line.id in points]
