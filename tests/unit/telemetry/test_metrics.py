from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from tenfold.errors import DeclarationError
from tenfold.telemetry import names
from tenfold.telemetry.exposition import Exposition
from tenfold.telemetry.metrics import Histogram, Registry
from tenfold.telemetry.operations import OperationTable
from tenfold.telemetry.process import build_info

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def calls_of(work: Callable[[], object]) -> int:
    """Python and C calls of ``work``, itself included."""
    count = 0

    def profile(_frame: Any, event: str, _arg: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count - 1  # setprofile(None)


def samples_of(registry: Registry, accept: str = "") -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    body, _ = Exposition(registry, process=False).render(accept)
    parse = parse_openmetrics if "openmetrics" in accept else parse_text
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parse(body.decode())
        for sample in family.samples
    }


def test_the_hot_path_costs_what_it_says() -> None:
    registry = Registry()
    counter = registry.counter("a_total", "A.").labels()
    histogram = registry.histogram("b", "B.").labels()
    stats = OperationTable(registry).stats("orders.place", "POST", "/orders")
    assert calls_of(counter.inc) == 1
    assert calls_of(lambda: histogram.observe(0.02)) - 1 <= 3
    assert calls_of(lambda: stats.record(200, 0.02)) - 1 == 2


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
def test_what_is_exposed_is_what_was_counted(accept: str) -> None:
    registry = Registry()
    orders = registry.counter("shop_orders_total", "Orders.", ("country",))
    orders.labels("France").inc(3)
    orders.labels('"tricky"\\\n').inc()
    registry.gauge("shop_stock", "Stock.").set(-2.5)
    registry.reading("shop_queue", "Queue.", lambda: {("mail",): 4, ("jobs",): 5}, ("queue",))
    duration = registry.histogram("shop_duration_seconds", "Time.", buckets=(0.1, 1))
    for value in (0.05, 0.1, 0.5, 7):
        duration.observe(value)
    build_info(registry, app="shop")
    got = samples_of(registry, accept)
    assert got["shop_orders_total", (("country", "France"),)] == 3
    assert got["shop_orders_total", (("country", '"tricky"\\\n'),)] == 1
    assert got["shop_stock", ()] == -2.5
    assert got["shop_queue", (("queue", "jobs"),)] == 5
    assert [got["shop_duration_seconds_bucket", (("le", le),)] for le in ("0.1", "1.0", "+Inf")] == [2, 3, 4]
    assert got["shop_duration_seconds_count", ()] == 4
    assert got["shop_duration_seconds_sum", ()] == pytest.approx(7.65)
    assert any(name == names.BUILD_INFO and dict(labels)["app"] == "shop" for name, labels in got)


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
def test_the_whole_document_parses_with_process_metrics(accept: str) -> None:
    registry = Registry()
    OperationTable(registry).stats("orders.place", "POST", "/orders").record(201, 0.004)
    body, content_type = Exposition(registry).render(accept)
    parse = parse_openmetrics if accept else parse_text
    families = [family.name for family in parse(body.decode())]
    assert len(families) == len(set(families))
    assert "process_resident_memory_bytes" in families
    assert "python_gc_collections" in families
    assert content_type.startswith("application/openmetrics-text" if accept else "text/plain; version=0.0.4")


def test_operations_are_counted_by_class_of_status_and_bucket() -> None:
    registry = Registry()
    table = OperationTable(registry)
    stats = table.stats("orders.place", "POST", "/orders")
    stats.record(201, 0.004)
    stats.record(204, 0.2)
    stats.record(503, 20.0)
    assert table.stats("orders.place", "POST", "/orders") is stats
    base = (("method", "POST"), ("operation", "orders.place"), ("route", "/orders"))
    got = samples_of(registry)
    assert got[names.HTTP_REQUESTS, (*base, ("status", "2xx"))] == 2
    assert got[names.HTTP_REQUESTS, (*base, ("status", "5xx"))] == 1
    assert got[f"{names.HTTP_DURATION}_bucket", (("le", "0.005"), *base)] == 1
    assert got[f"{names.HTTP_DURATION}_count", base] == 3


def test_cardinality_is_bounded_and_the_overflow_is_counted() -> None:
    registry = Registry(children_max=5)
    metric = registry.counter("hits_total", "Hits.", ("path",))
    for number in range(100):
        metric.labels(f"/{number}").inc()
    got = samples_of(registry)
    assert sum(value for (name, _), value in got.items() if name == "hits_total") == 100
    assert got["hits_total", (("path", "other"),)] == 95
    assert len([1 for name, _ in got if name == "hits_total"]) == 6
    assert got[names.METRIC_OVERFLOW, (("metric", "hits_total"),)] == 95


def test_a_gauge_that_raises_hides_only_itself_and_is_counted_at_once() -> None:
    registry = Registry()
    registry.reading("broken", "B.", lambda: 1 / 0)
    registry.reading("fine", "F.", lambda: 1)
    got = samples_of(registry)
    assert ("fine", ()) in got
    assert ("broken", ()) not in got
    assert got[names.METRIC_FAILURES, (("metric", "broken"),)] == 1


def test_a_metric_declared_twice_alike_is_the_same_and_otherwise_refused() -> None:
    registry = Registry()
    first = registry.counter("a_total", "A.", ("x",))
    assert registry.counter("a_total", "A.", ("x",)) is first
    with pytest.raises(DeclarationError, match="declared twice"):
        registry.counter("a_total", "A.", ("y",))


@pytest.mark.parametrize(
    ("declare", "sentence"),
    [
        (lambda r: r.counter("orders", "O."), "ends in _total"),
        (lambda r: r.gauge("or ders", "O."), "not a name"),
        (lambda r: r.gauge("orders", "O.", ("le",)), "not a name"),
        (lambda r: r.histogram("h", "H.", buckets=(1, 1)), "ascend"),
        (lambda r: r.counter("c_total", "C.", ("a", "b")).labels("1"), "2|labels"),
    ],
)
def test_a_wrong_declaration_is_a_sentence(declare: Callable[[Registry], object], sentence: str) -> None:
    with pytest.raises(DeclarationError, match=sentence):
        declare(Registry())


@given(
    st.lists(st.floats(min_value=0, max_value=100)),
    st.sets(st.floats(min_value=0.001, max_value=50), min_size=1, max_size=10),
)
def test_every_value_falls_into_the_first_bucket_that_holds_it(
    values: list[float], bounds: set[float]
) -> None:
    histogram = Histogram(tuple(sorted(bounds)))
    for value in values:
        histogram.observe(value)
    cumulative = [s.value for s in histogram.samples({}) if s.suffix == "_bucket"]
    expected = [sum(v <= b for v in values) for b in (*sorted(bounds), float("inf"))]
    assert cumulative == expected
