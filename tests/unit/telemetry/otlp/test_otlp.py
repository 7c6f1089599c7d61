"""OTLP: what is sent, under which names, and what becomes of it when the other side is away.

The endpoint of these tests is a stand-in that decodes with OpenTelemetry's own messages; a real collector takes the same in
tests/integration/observe.
"""

from __future__ import annotations

import asyncio
import logging
import re
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from support.collector import StandIn, silent
from tenfold._core.clock import SystemClock
from tenfold._core.sections.otlp import OtlpSettings
from tenfold.errors import ConfigError
from tenfold.telemetry import names
from tenfold.telemetry.backends import _otlp_messages as messages
from tenfold.telemetry.backends import otlp as module
from tenfold.telemetry.backends.otlp import LINES_MAX, Backend, Otlp
from tenfold.telemetry.contract import Span
from tenfold.telemetry.metrics import Registry
from tenfold.telemetry.operations import OperationTable
from tenfold.telemetry.render import Line

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CLOCK = SystemClock()


def span(**changes: Any) -> Span:
    given: dict[str, Any] = {
        "name": "orders.show",
        "trace_id": TRACE,
        "span_id": SPAN,
        "kind": "server",
        "started": 1_700_000_000.25,
        "ended": 1_700_000_000.75,
        "attributes": {
            "http.request.method": "GET",
            "http.route": "/orders/{order_id}",
            "http.response.status_code": 200,
            "principal": "ann",
        },
    }
    return Span(**{**given, **changes})


def line(**changes: Any) -> Line:
    fields = {"trace_id": TRACE, "order_id": 7, "deep": {"a": [1]}}
    return Line(
        **{"when": 1.5, "level": "warning", "event": "late", "logger": "shop", "fields": fields, **changes}
    )


def otlp(url: str, registry: Registry | None = None, **settings: Any) -> Otlp:
    made = OtlpSettings(url=url, **{"timeout_s": 2.0, "metrics_every_s": 600.0, **settings})
    return Otlp(made, registry or Registry(), CLOCK, {"service.name": "shop"})


def pairs(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


def sent(message: Span) -> Any:
    request = messages.traces([message], messages.resource({}), messages.scope("1"))
    return request.resource_spans[0].scope_spans[0].spans[0]


def test_spans_have_the_names_of_the_conventions() -> None:
    made = sent(span())
    assert (made.name, made.kind) == ("GET /orders/{order_id}", 2)
    assert (made.trace_id.hex(), made.span_id.hex(), made.parent_span_id) == (TRACE, SPAN, b"")
    assert made.end_time_unix_nano - made.start_time_unix_nano == 500_000_000
    assert pairs(made.attributes) == {
        "http.request.method": "GET",
        "http.route": "/orders/{order_id}",
        "http.response.status_code": 200,
        "tenfold.principal": "ann",
        "tenfold.operation": "orders.show",
    }
    assert made.status.code == 0


@pytest.mark.parametrize(
    ("changes", "failed"),
    [
        ({"error": "KeyError: 'x'"}, True),
        ({"attributes": {"http.response.status_code": 500}}, True),
        ({"attributes": {"http.response.status_code": 404}}, False),
        ({"kind": "client", "attributes": {"http.response.status_code": 404}}, True),
    ],
)
def test_what_failed_is_an_error(changes: dict[str, Any], failed: bool) -> None:
    assert sent(span(**changes)).status.code == (2 if failed else 0)


def test_an_exception_is_an_event_of_its_span() -> None:
    made = sent(span(error="KeyError: 'x'"))
    assert pairs(made.events[0].attributes) == {"exception.type": "KeyError", "exception.message": "'x'"}
    assert pairs(made.attributes)["error.type"] == "KeyError"


def test_values_of_any_kind_are_sent_and_cut() -> None:
    odd = {
        "big": 1 << 80,
        "list": [1, "a"],
        "none": None,
        "bad": "\udc80",
        "long": "x" * 100_000,
        "yes": True,
    }
    found = pairs(sent(span(attributes=odd)).attributes)
    assert found["tenfold.big"] == str(1 << 80)
    assert found["tenfold.bad"] == "?"
    assert len(found["tenfold.long"]) == messages.TEXT_MAX_CHARS + 1
    assert found["tenfold.yes"] is True
    assert "tenfold.none" not in found


def test_metrics_keep_our_names_and_have_those_of_the_conventions() -> None:
    registry = Registry()
    stats = OperationTable(registry).stats("orders.show", "GET", "/orders/{order_id}")
    stats.record(200, 0.004)
    stats.record(500, 3.0)

    async def main() -> list[Any]:
        async with StandIn().running() as collector:
            exporter = otlp(collector.url, registry)
            await exporter.start()
            await exporter.stop()
            return collector.of("/v1/metrics")

    (request,) = asyncio.run(main())
    found = {m.name: m for m in request.resource_metrics[0].scope_metrics[0].metrics}
    counter = found["tenfold.http_requests"].sum
    assert counter.is_monotonic
    assert {pairs(p.attributes)["status"]: p.as_double for p in counter.data_points} == {"2xx": 1, "5xx": 1}
    (point,) = found["http.server.request.duration"].histogram.data_points
    assert (point.count, round(point.sum, 3), found["http.server.request.duration"].unit) == (2, 3.004, "s")
    assert sum(point.bucket_counts) == 2
    assert len(point.bucket_counts) == len(point.explicit_bounds) + 1
    assert pairs(point.attributes)["http.route"] == "/orders/{order_id}"
    assert found["http.server.active_requests"].sum.is_monotonic is False
    assert "process.memory.usage" in found
    assert pairs(request.resource_metrics[0].resource.attributes)["service.name"] == "shop"


def test_lines_of_the_log_belong_to_their_trace() -> None:
    async def main() -> Any:
        async with StandIn().running() as collector:
            exporter = otlp(collector.url, metrics=False, headers={"api-key": "k"})
            await exporter.start()
            exporter.line(line())
            await exporter.stop()
            return collector.requests

    ((path, request, headers),) = asyncio.run(main())
    (record,) = request.resource_logs[0].scope_logs[0].log_records
    assert (path, headers["api-key"], headers["content-encoding"]) == ("/v1/logs", "k", "gzip")
    assert (record.body.string_value, record.severity_number, record.severity_text) == ("late", 13, "WARNING")
    assert record.trace_id.hex() == TRACE
    assert pairs(record.attributes)["tenfold.order_id"] == 7


def export(exporter: Otlp, *spans: Span) -> None:
    """Send spans once, as the tracer does."""

    async def main() -> None:
        await exporter.start()
        assert exporter.spans is not None
        await exporter.spans.export(spans)
        await exporter.stop()

    asyncio.run(main())


def test_a_collector_that_is_away_costs_a_count_and_a_sentence(caplog: pytest.LogCaptureFixture) -> None:
    exporter = otlp("http://127.0.0.1:9", metrics=False)
    with caplog.at_level(logging.WARNING):
        export(exporter, *[span()] * 3)
        export(exporter, span())
    assert exporter.dropped == {("traces", "unreachable"): 4}
    (record,) = [r for r in caplog.records if r.message == names.LOG_OTLP_LOST]
    assert "127.0.0.1:9/v1/traces cannot be reached" in record.fields["why"]  # type: ignore[attr-defined]


def test_a_collector_that_is_silent_is_waited_for_no_longer_than_said() -> None:
    listener, url = silent()
    with listener:
        exporter = otlp(url, metrics=False, timeout_s=0.1)
        export(exporter, span())
    assert exporter.dropped == {("traces", "timeout"): 1}


@pytest.mark.parametrize(
    ("status", "words"), [(401, "key in .otlp.headers."), (404, "path too many"), (503, "answered 503")]
)
def test_a_refusal_is_explained(status: int, words: str, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> Otlp:
        async with StandIn(status=status).running() as collector:
            exporter = otlp(collector.url, metrics=False)
            await exporter.start()
            await Backend(exporter).export([span()])
            await exporter.stop()
            return exporter

    assert asyncio.run(main()).dropped == {("traces", f"status {status}"): 1}
    assert any(re.search(words, str(getattr(record, "fields", ""))) for record in caplog.records)


def test_what_a_collector_rejects_of_a_batch_is_counted() -> None:
    answer = ExportTraceServiceResponse()
    answer.partial_success.rejected_spans = 2
    answer.partial_success.error_message = "too old"

    async def main() -> Otlp:
        async with StandIn(answer=answer.SerializeToString()).running() as collector:
            exporter = otlp(collector.url, metrics=False)
            await exporter.start()
            await Backend(exporter).export([span()] * 5)
            await exporter.stop()
            return exporter

    exporter = asyncio.run(main())
    assert (exporter.sent, exporter.dropped) == ({"traces": 3}, {("traces", "rejected"): 2})


def test_lines_wait_in_a_bounded_queue_and_those_of_the_exporter_are_not_sent() -> None:
    exporter = otlp("http://127.0.0.1:9")
    for _ in range(100_000):
        exporter.line(line())
    exporter.line(line(logger=module.__name__))
    assert len(exporter._lines) == LINES_MAX
    assert exporter.dropped == {("logs", "queue full"): 100_000 - LINES_MAX}


def test_label_values_by_the_hundred_thousand_are_sent_in_bounded_requests() -> None:
    registry = Registry()
    counter = registry.counter("hits_total", "Hits.", ("path",))
    for number in range(100_000):
        counter.labels(f"/{number}").inc()
    exposed = module.Exposition(registry).collect()
    requests = list(messages.metrics(exposed, messages.resource({}), messages.scope("1"), 0.0, 1.0))
    points = [module._points(each) for each in requests]
    assert sum(points) < 2 * messages.POINTS_MAX
    assert max(points) <= messages.POINTS_MAX
    assert registry.value(names.METRIC_OVERFLOW, "hits_total") == 99_000


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("localhost:4318", "no URL of an OTLP endpoint"),
        ("http://", "no URL"),
        ("http://x:port", "no URL"),
        ("https://api.example/v1/traces", "ends in /v1/traces, .*'https://api.example'"),
    ],
)
def test_urls_that_cannot_be_are_refused(url: str, words: str) -> None:
    with pytest.raises(ConfigError, match=f"otlp.url: .*{words}"):
        otlp(url)


def test_what_is_no_attribute_of_the_process_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"otlp.resource: 'team' is no attribute"):
        otlp("http://localhost:4318", resource=["service.namespace=store", "team"])


def test_the_setting_for_spans_alone_leads_to_the_section() -> None:
    with pytest.raises(ConfigError, match=r"Set otlp.url"):
        Backend.from_url("otlp+http://localhost:4318", CLOCK)


def test_deltas_are_what_came_since_the_last_time() -> None:
    registry, deltas = Registry(), messages.Deltas()
    counter, level = (
        registry.counter("hits_total", "Hits.").labels(),
        registry.gauge("level", "Level.").labels(),
    )
    histogram = registry.histogram("took_seconds", "Took.", buckets=(1.0,)).labels()

    def sent(now: float) -> dict[str, Any]:
        families = list(module.Exposition(registry, process=False).collect())
        for family in families:
            family.name = f"tenfold_{family.name}"
        who, what = messages.resource({}), messages.scope("1")
        (request,) = messages.metrics(families, who, what, 0.0, now, deltas)
        return {each.name: each for each in request.resource_metrics[0].scope_metrics[0].metrics}

    counter.inc(5)
    level.set(7)
    histogram.observe(0.5)
    assert sent(10.0)["tenfold.hits"].sum.data_points[0].as_double == 5
    counter.inc(2)
    histogram.observe(3.0)
    found = sent(20.0)
    hits, took = found["tenfold.hits"].sum, found["tenfold.took"].histogram
    assert (hits.aggregation_temporality, hits.data_points[0].as_double) == (1, 2)
    assert (hits.data_points[0].start_time_unix_nano, hits.data_points[0].time_unix_nano) == (
        10 * 10**9,
        20 * 10**9,
    )
    assert (took.data_points[0].count, took.data_points[0].sum, list(took.data_points[0].bucket_counts)) == (
        1,
        3.0,
        [0, 1],
    )
    assert found["tenfold.level"].gauge.data_points[0].as_double == 7
