"""Metrics come back as what has happened in each step, at any resolution, whoever of the instances measured it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.telemetry_store import NOW, Kept
from tenfold.telemetry import names
from tenfold.telemetry.operations import OperationTable


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    made = Kept(tmp_path)
    yield made
    made.close()


def values(kept: Kept, name: str, *, since: float = NOW, step_s: float | None = 5, **given: object) -> object:
    found = kept.ask(lambda records: records.series(name, since=since, step_s=step_s, **given))  # type: ignore[arg-type]
    return {
        tuple(one.labels.values()): [(point.at - NOW, point.value) for point in one.points] for one in found
    }


def test_a_counter_is_how_much_it_grew(kept: Kept) -> None:
    counter = kept.registry.counter("things_total", "x", ("kind",))
    for _ in range(3):
        counter.labels("a").inc(2)
        kept.read()
        kept.pass_s(5)
    counter.labels("b").inc()
    kept.read()
    assert values(kept, "things_total") == {("a",): [(0, 2), (5, 2), (10, 2)], ("b",): [(15, 1)]}
    assert values(kept, "things_total", labels={"kind": "b"}) == {("b",): [(15, 1)]}
    assert values(kept, "things_total", by=()) == {(): [(0, 2), (5, 2), (10, 2), (15, 1)]}
    assert values(kept, "things_total", by=("instance",), step_s=20) == {("one",): [(0, 7)]}


def test_a_gauge_that_stands_still_is_what_it_was(kept: Kept) -> None:
    gauge = kept.registry.gauge("depth", "x")
    gauge.set(3)
    for _ in range(4):
        kept.read()
        kept.pass_s(5)
    gauge.set(5)
    kept.read()
    assert values(kept, "depth") == {(): [(0, 3), (5, 3), (10, 3), (15, 3), (20, 5)]}
    assert values(kept, "depth", step_s=10) == {(): [(0, 3), (10, 3), (20, 5)]}


def test_instances_are_added_up_unless_asked_for_apart(kept: Kept, tmp_path: Path) -> None:
    other = Kept(tmp_path, kept.clock, instance="two")
    for one, value in ((kept, 2), (other, 5)):
        one.registry.gauge("depth", "x").set(value)
        one.registry.counter("things_total", "x").inc(value)
        one.read()
    assert values(kept, "depth") == {(): [(0, 7)]}
    assert values(other, "things_total") == {(): [(0, 7)]}
    assert values(kept, "depth", labels={"instance": "two"}) == {("two",): [(0, 5)]}
    other.close()


def test_operations_have_counts_and_percentiles_over_time_and_together(kept: Kept) -> None:
    table = OperationTable(kept.registry)
    for name, milliseconds in (("shop.get", 1), ("shop.buy", 80)):
        stats = table.stats(name, "GET", f"/{name}")
        for number in range(100):
            stats.record(500 if number < 3 else 404 if number < 5 else 200, milliseconds / 1000)
    kept.read()
    (buy, get) = kept.ask(lambda records: records.operations(since=NOW - 60))
    assert (buy.operation, buy.requests, buy.errors, buy.refused) == ("shop.buy", 100, 3, 2)
    assert 0.05 < buy.p50 < 0.1
    assert get.mean == pytest.approx(0.001)
    (point,) = kept.ask(lambda records: records.latency(since=NOW - 60, step_s=60))
    assert (point.requests, point.errors) == (200, 6)
    assert 0.05 < point.p99 < 0.1
    (one,) = kept.ask(lambda records: records.latency("shop.get", since=NOW - 60, step_s=60))
    assert (one.requests, one.errors) == (100, 3)
    assert one.p99 <= 0.0025


def test_coarser_points_say_the_same_as_finer_ones_long_after_these_are_gone(kept: Kept) -> None:
    counter = kept.registry.counter("things_total", "x")
    histogram = kept.registry.histogram("took_seconds", "x")
    gauge = kept.registry.gauge("depth", "x")
    for number in range(3 * 60):  # three hours
        counter.inc()
        histogram.observe(0.02)
        gauge.set(number % 2)
        kept.read()
        kept.pass_s(60)
    at = kept.clock.now()
    for since, step_s in ((at - 3 * 3600, 900), (at - 3 * 3600, 60), (at - 600, 5), (at - 3 * 3600, None)):
        (things,) = kept.ask(
            lambda records, s=since, t=step_s: records.series("things_total", since=s, step_s=t)
        )
        covered = at - max(NOW, things.points[0].at)
        assert sum(point.value for point in things.points) == pytest.approx(covered / 60)
        (took,) = kept.ask(
            lambda records, s=since, t=step_s: records.series("took_seconds", since=s, step_s=t)
        )
        assert sum(point.count for point in took.points) == pytest.approx(covered / 60)
        assert all(sum(point.buckets) == point.count for point in took.points)
    (depth,) = kept.ask(lambda records: records.series("depth", since=at - 3 * 3600, step_s=1800))
    assert {point.value for point in depth.points[1:-1]} == {0.5}  # the first and the last are not whole
    fine = kept.ask(lambda records: records.series("things_total", since=at - 7200, step_s=5))
    assert len(fine[0].points) <= 120 + 5


def test_all_names_are_known_without_walking_over_the_series(kept: Kept) -> None:
    for name in ("b_total", "a_total"):
        counter = kept.registry.counter(name, "x", ("kind",))
        for kind in range(50):
            counter.labels(str(kind)).inc()
    kept.read()
    found = kept.ask(lambda records: records.metrics())
    assert [name for name in found if not name.startswith("tenfold")] == ["a_total", "b_total"]
    assert names.TELEMETRY_DROPPED not in found  # nothing was


@pytest.mark.parametrize("values", [10_000, pytest.param(100_000, marks=pytest.mark.soak)])
def test_label_values_without_end_are_bounded_and_counted(kept: Kept, values: int) -> None:
    kept.registry.children_max = 200_000
    counter = kept.registry.counter("things_total", "x", ("who",))
    for number in range(values):
        counter.labels(f"w{number}").inc()
    kept.read()
    found = kept.ask(lambda records: records.series("things_total", since=NOW - 60))
    status = kept.ask(lambda records: records.status())
    assert len(found) <= 3000
    assert status.dropped["series too many"] >= values - 3000
