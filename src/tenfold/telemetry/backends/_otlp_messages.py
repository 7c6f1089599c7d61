"""Spans, metrics and lines of the log as messages of OTLP 1.x. The only file that knows opentelemetry-proto. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, InstrumentationScope, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1 import metrics_pb2
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from tenfold.telemetry import semantics

if TYPE_CHECKING:
    from prometheus_client import Metric

    from tenfold.telemetry.contract import Span
    from tenfold.telemetry.render import Line
    from tenfold.telemetry.semantics import Meant

POINTS_MAX: Final = 2_000
"""Data points in one request; more take several."""
TEXT_MAX_CHARS: Final = 8_192
"""Of one attribute or line; longer ones are cut."""

_ANSWERS: Final[Mapping[str, tuple[Any, str]]] = {
    "traces": (ExportTraceServiceResponse, "rejected_spans"),
    "metrics": (ExportMetricsServiceResponse, "rejected_data_points"),
    "logs": (ExportLogsServiceResponse, "rejected_log_records"),
}
_KINDS: Final = {"internal": 1, "server": 2, "client": 3, "producer": 4, "consumer": 5}
_SEVERITIES: Final = {"debug": 5, "info": 9, "warning": 13, "error": 17, "critical": 21}
_CUMULATIVE: Final = metrics_pb2.AGGREGATION_TEMPORALITY_CUMULATIVE
_DELTA: Final = metrics_pb2.AGGREGATION_TEMPORALITY_DELTA


class Deltas:
    """Turns what counts from the start of the process into what came since the last export, for receivers that want that. What
    was lost on the way to them then stays lost."""

    def __init__(self) -> None:
        self._before: dict[tuple[str, tuple[tuple[str, str], ...]], tuple[list[float], int]] = {}

    def since(
        self, name: str, labels: Mapping[str, str], values: list[float], begun: int, at: int
    ) -> tuple[list[float], int]:
        """The growth of these values, and since when; of one that shrank, itself."""
        key = (name, tuple(sorted(labels.items())))
        before, start = self._before.get(key, ([0.0] * len(values), begun))
        self._before[key] = (values, at)
        return [now - was if now >= was else now for now, was in zip(values, before, strict=True)], start


def resource(attributes: Mapping[str, str]) -> Resource:
    """Who speaks: ``service.name``, ``service.instance.id`` and so on."""
    return Resource(attributes=_pairs(attributes))


def scope(version: str) -> InstrumentationScope:
    """What speaks."""
    return InstrumentationScope(name="tenfold", version=version)


def traces(spans: Iterable[Span], who: Resource, what: InstrumentationScope) -> ExportTraceServiceRequest:
    """One request with these spans."""
    request = ExportTraceServiceRequest()
    below = request.resource_spans.add(resource=who).scope_spans.add(scope=what)
    below.spans.extend(_span(span) for span in spans)
    return request


def logs(lines: Iterable[Line], who: Resource, what: InstrumentationScope) -> ExportLogsServiceRequest:
    """One request with these lines."""
    request = ExportLogsServiceRequest()
    below = request.resource_logs.add(resource=who).scope_logs.add(scope=what)
    below.log_records.extend(_record(line) for line in lines)
    return request


def metrics(
    families: Iterable[Metric],
    who: Resource,
    what: InstrumentationScope,
    started: float,
    now: float,
    deltas: Deltas | None = None,
) -> Iterator[ExportMetricsServiceRequest]:
    """Requests with every family, of at most :data:`POINTS_MAX` data points, or of one family where that has more."""
    begun, at = _nanos(started), _nanos(now)
    request, points = _metrics_request(who, what), 0
    for family in families:
        for message, count in _metric(family, begun, at, deltas):
            if points and points + count > POINTS_MAX:
                yield request
                request, points = _metrics_request(who, what), 0
            request.resource_metrics[0].scope_metrics[0].metrics.append(message)
            points += count
    if points:
        yield request


def _metrics_request(who: Resource, what: InstrumentationScope) -> ExportMetricsServiceRequest:
    request = ExportMetricsServiceRequest()
    request.resource_metrics.add(resource=who).scope_metrics.add(scope=what)
    return request


def _span(span: Span) -> SpanMessage:
    message = SpanMessage(
        trace_id=bytes.fromhex(span.trace_id),
        span_id=bytes.fromhex(span.span_id),
        parent_span_id=bytes.fromhex(span.parent_id),
        name=semantics.span_name(span),
        kind=_KINDS.get(span.kind, 1),  # type: ignore[arg-type]  # an enumeration's number
        start_time_unix_nano=_nanos(span.started),
        end_time_unix_nano=_nanos(span.ended),
        attributes=_pairs(semantics.attributes(span)),
        flags=0x101,  # sampled; that the parent is elsewhere or not is not known
    )
    if semantics.failed(span):
        message.status.CopyFrom(Status(code=Status.STATUS_CODE_ERROR, message=_cut(span.error)))
    if span.error:
        kind, _, text = span.error.partition(": ")
        about = {"exception.type": kind, "exception.message": text}
        message.events.add(name="exception", time_unix_nano=_nanos(span.ended), attributes=_pairs(about))
    return message


def _record(line: Line) -> LogRecord:
    fields = dict(line.fields)
    trace_id, span_id = (
        _bytes_of(fields.pop(name, ""), size) for name, size in (("trace_id", 16), ("span_id", 8))
    )
    if line.trace:
        fields["exception.stacktrace"] = line.trace
    attributes = {semantics.outer(key): value for key, value in fields.items()}
    return LogRecord(
        time_unix_nano=_nanos(line.when),
        observed_time_unix_nano=_nanos(line.when),
        severity_number=_SEVERITIES.get(line.level, 9),  # type: ignore[arg-type]  # an enumeration's number
        severity_text=line.level.upper(),
        body=_value(line.event),
        attributes=_pairs({"tenfold.logger": line.logger, **attributes}),
        trace_id=trace_id,
        span_id=span_id,
    )


def _metric(
    family: Metric, begun: int, at: int, deltas: Deltas | None
) -> Iterator[tuple[metrics_pb2.Metric, int]]:
    """The family under our name, and under that of the conventions where there is one; each with its data points."""
    meant = semantics.METRICS.get(family.name)
    if family.name.startswith("tenfold_"):
        name, unit = semantics.metric_name(family.name)
        yield _message(family, semantics.Meant(name, unit, {}), begun, at, deltas)
    if meant is not None:
        yield _message(family, meant, begun, at, deltas)


def _message(
    family: Metric, meant: Meant, begun: int, at: int, deltas: Deltas | None
) -> tuple[metrics_pb2.Metric, int]:
    message = metrics_pb2.Metric(name=meant.name, unit=meant.unit, description=family.documentation)
    if family.type == "histogram":
        points = list(_histograms(family, meant, begun, at, deltas))
        message.histogram.aggregation_temporality = _CUMULATIVE if deltas is None else _DELTA
        message.histogram.data_points.extend(points)
        return message, len(points)
    grows = family.type == "counter"
    numbers = list(_numbers(family, meant, begun, at, deltas if grows else None))
    if grows or meant.up_down:
        # What goes up and down is cumulative in either way: the growth of a level says nothing.
        message.sum.aggregation_temporality = _DELTA if grows and deltas is not None else _CUMULATIVE
        message.sum.is_monotonic = grows
        message.sum.data_points.extend(numbers)
    else:
        message.gauge.data_points.extend(numbers)
    return message, len(numbers)


def _numbers(
    family: Metric, meant: Meant, begun: int, at: int, deltas: Deltas | None
) -> Iterator[metrics_pb2.NumberDataPoint]:
    for sample in family.samples:
        if sample.name.endswith("_created"):
            continue
        values, start = [float(sample.value)], begun
        if deltas is not None:
            values, start = deltas.since(meant.name, sample.labels, values, begun, at)
        yield metrics_pb2.NumberDataPoint(
            start_time_unix_nano=start,
            time_unix_nano=at,
            attributes=_labels(sample.labels, meant),
            as_double=values[0],
        )


class _Buckets:
    """One set of labels of a histogram, as it was exposed: cumulative."""

    def __init__(self, labels: dict[str, str]) -> None:
        self.labels = labels
        self.bounds: list[float] = []
        self.running: list[float] = [0.0]
        self.sum = 0.0

    @property
    def values(self) -> list[float]:
        """Counts of each bucket, then the sum."""
        return [*(after - before for before, after in pairwise(self.running)), self.sum]


def _histograms(
    family: Metric, meant: Meant, begun: int, at: int, deltas: Deltas | None
) -> Iterator[metrics_pb2.HistogramDataPoint]:
    found: dict[tuple[tuple[str, str], ...], _Buckets] = {}
    for sample in family.samples:
        labels = {key: value for key, value in sample.labels.items() if key != "le"}
        one = found.setdefault(tuple(labels.items()), _Buckets(labels))
        if sample.name.endswith("_bucket"):
            one.running.append(sample.value)
            if (le := sample.labels["le"]) != "+Inf":
                one.bounds.append(float(le))
        elif sample.name.endswith("_sum"):
            one.sum = sample.value
    for one in found.values():
        values, start = one.values, begun
        if deltas is not None:
            values, start = deltas.since(meant.name, one.labels, values, begun, at)
        counts = [int(value) for value in values[:-1]]
        yield metrics_pb2.HistogramDataPoint(
            start_time_unix_nano=start,
            time_unix_nano=at,
            attributes=_labels(one.labels, meant),
            count=sum(counts),
            sum=values[-1],
            bucket_counts=counts,
            explicit_bounds=one.bounds,
        )


def _labels(labels: Mapping[str, str], meant: Meant) -> list[KeyValue]:
    named = {meant.labels.get(key, key): value for key, value in labels.items()}
    return _pairs({**meant.fixed, **named})


def _pairs(values: Mapping[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=key, value=_value(value)) for key, value in values.items()]


def _value(value: Any) -> AnyValue:
    match value:
        case bool():
            return AnyValue(bool_value=value)
        case int() if abs(value) < 1 << 63:
            return AnyValue(int_value=value)
        case float():
            return AnyValue(double_value=value)
        case str():
            return AnyValue(string_value=_cut(value))
        case list() | tuple():
            items: Sequence[Any] = value[:100]
            return AnyValue(array_value=ArrayValue(values=[_value(item) for item in items]))
        case _:
            return AnyValue(string_value=_cut(str(value)))


def _cut(text: str) -> str:
    short = text if len(text) <= TEXT_MAX_CHARS else f"{text[:TEXT_MAX_CHARS]}…"
    return short.encode(errors="replace").decode()  # lone surrogates are no text to protobuf


def _bytes_of(text: Any, size: int) -> bytes:
    try:
        made = bytes.fromhex(str(text))
    except ValueError:
        return b""
    return made if len(made) == size else b""


def _nanos(seconds: float) -> int:
    return max(0, int(seconds * 1_000_000)) * 1_000


def rejected(signal: str, body: bytes) -> tuple[int, str]:
    """How many of a request's items were not taken, and why: from the answer of who took the others. What is no message
    says nothing."""
    kind, field = _ANSWERS[signal]
    try:
        partial = kind.FromString(body).partial_success
    except DecodeError:
        return 0, ""
    return int(getattr(partial, field)), _cut(partial.error_message)
