"""What is kept, and what the reader answers with. Times are seconds since the epoch, UTC; durations are seconds.

Everything here is redacted before it is kept.
"""

from __future__ import annotations

from typing import Any, Generic, Literal, TypeVar

from msgspec import Struct, field

from tenfold.telemetry.contract import Span

T = TypeVar("T")

Level = Literal["debug", "info", "warning", "error", "critical"]
SeriesKind = Literal["counter", "gauge", "histogram"]
Why = Literal["failed", "slow", "first", "sampled"]
"""Why a trace was kept: it failed, was slower than its operation mostly is, was the first of its operation in a while,
or belongs to the share that is kept whatever happens."""


# ── what is kept ──────────────────────────────────────────────────────────────────────────────────


class RequestSummary(Struct, frozen=True, gc=False):
    """One finished request."""

    at: float
    """When it ended."""
    operation: str
    method: str
    route: str
    """As declared: ``/orders/{order_id}``."""
    path: str
    """As asked for, without the query."""
    status: int
    seconds: float
    trace_id: str = ""
    request_id: str = ""
    tenant: str = ""
    instance: str = ""
    error: str = ""
    """Type and message of what the handler raised; empty where it answered."""


class JobSummary(Struct, frozen=True, gc=False):
    """One run of a message: a job, an event's delivery, a schedule's tick."""

    at: float
    """When the run ended."""
    queue: str
    handler: str
    outcome: str
    """``done``, ``retry``, ``wait``, ``dead``, ``cancelled``, ``park``, ``release``, ``crash`` or ``lost``."""
    seconds: float
    wait_s: float = 0.0
    """From when it was due to when the run began."""
    attempt: int = 1
    trace_id: str = ""
    job_id: str = ""
    tenant: str = ""
    instance: str = ""
    error: str = ""


class LogEvent(Struct, frozen=True, gc=False):
    """One line of the log."""

    at: float
    level: str
    event: str
    logger: str
    fields: dict[str, Any] = {}
    """Without those below. ``trace`` is the traceback, where there was an exception."""
    trace_id: str = ""
    request_id: str = ""
    instance: str = ""


class Point(Struct, frozen=True, gc=False):
    """One step of a series, from ``at`` on. Of a counter, ``value`` is how much it grew in the step; of a gauge, its
    mean; of a histogram, ``count``, ``sum`` and ``buckets`` (not cumulative) are those of the step."""

    at: float
    value: float = 0.0
    sum: float = 0.0
    count: float = 0
    buckets: tuple[float, ...] = ()


# ── what is answered ──────────────────────────────────────────────────────────────────────────────


class Page(Struct, Generic[T], frozen=True):
    """Newest first. ``before`` is what to ask with for the next, older page; empty when there is none."""

    items: list[T]
    before: str = ""


class Series(Struct, frozen=True):
    """The points of one metric and one set of labels, oldest first; steps without a value are left out."""

    name: str
    labels: dict[str, str]
    kind: SeriesKind
    points: list[Point]
    bounds: tuple[float, ...] = ()
    """Upper bounds of a histogram's buckets; the last bucket is beyond them."""


class LatencyPoint(Struct, frozen=True, gc=False):
    """One step of an operation, or of all; percentiles are interpolated within the histogram's buckets."""

    at: float
    requests: float = 0
    errors: float = 0
    """Answered with 5xx."""
    mean: float = 0.0
    p50: float = 0.0
    p95: float = 0.0
    p99: float = 0.0


class OperationSummary(Struct, frozen=True, gc=False):
    """What one operation did in a time."""

    operation: str
    method: str
    route: str
    requests: float = 0
    errors: float = 0
    """Answered with 5xx."""
    refused: float = 0
    """Answered with 4xx."""
    mean: float = 0.0
    p50: float = 0.0
    p95: float = 0.0
    p99: float = 0.0


class TraceSummary(Struct, frozen=True, gc=False):
    """One kept trace: what its outermost span here was."""

    trace_id: str
    at: float
    """When it began."""
    operation: str
    """Operation, job or subscription."""
    kind: str
    """``request``, ``job``, ``event`` or ``schedule``."""
    seconds: float
    spans: int
    why: Why
    error: str = ""
    instance: str = ""


class KeptSpan(Struct, frozen=True):
    """A span, and the instance that made it."""

    span: Span
    instance: str


class TraceDetail(Struct, frozen=True):
    """Everything kept of one trace. Of one whose spans were not kept, ``spans`` is empty and the rest stands."""

    trace_id: str
    spans: list[KeptSpan] = field(default_factory=list[KeptSpan])
    """In the order they began."""
    requests: list[RequestSummary] = field(default_factory=list[RequestSummary])
    jobs: list[JobSummary] = field(default_factory=list[JobSummary])
    logs: list[LogEvent] = field(default_factory=list[LogEvent])
    why: Why | None = None


class ErrorGroup(Struct, frozen=True, gc=False):
    """Failures that are alike: same place, same error."""

    kind: Literal["request", "job", "log"]
    where: str
    """Operation, handler or logger."""
    error: str
    count: int
    first_at: float
    last_at: float
    status: int = 0
    trace_id: str = ""
    """Of the latest one, as is ``request_id``."""
    request_id: str = ""


class Instance(Struct, frozen=True, gc=False):
    """A process that feeds the store."""

    name: str
    first_at: float
    last_at: float


class StoreStatus(Struct, frozen=True):
    """How the store itself is doing."""

    path: str
    size_bytes: int
    keep_bytes: int
    keep_s: float
    oldest_at: float | None
    rows: dict[str, int]
    """About how many are kept, by kind: ``requests``, ``jobs``, ``traces``, ``logs``, ``points``."""
    dropped: dict[str, int]
    """What this process could not keep since its start, by reason."""
    sentence: str = ""
    """What is wrong, in words; empty when nothing is."""


# ── what is asked ─────────────────────────────────────────────────────────────────────────────────


class RequestFilter(Struct, frozen=True, kw_only=True):
    """All of what is set has to hold."""

    operation: str = ""
    status_min: int = 0
    status_max: int = 999
    seconds_min: float = 0.0
    path: str = ""
    """Begins with this."""
    tenant: str = ""
    instance: str = ""
    trace_id: str = ""
    request_id: str = ""
    since: float = 0.0
    until: float | None = None


class TraceFilter(Struct, frozen=True, kw_only=True):
    """All of what is set has to hold."""

    operation: str = ""
    kind: str = ""
    why: str = ""
    failed: bool = False
    seconds_min: float = 0.0
    instance: str = ""
    since: float = 0.0
    until: float | None = None


class JobFilter(Struct, frozen=True, kw_only=True):
    """All of what is set has to hold."""

    handler: str = ""
    queue: str = ""
    outcome: str = ""
    failed: bool = False
    """``retry``, ``dead``, ``crash`` or ``lost``."""
    job_id: str = ""
    instance: str = ""
    since: float = 0.0
    until: float | None = None


class LogFilter(Struct, frozen=True, kw_only=True):
    """All of what is set has to hold."""

    text: str = ""
    """Words that all occur in event, logger or fields; the last may be the beginning of a word."""
    level: str = ""
    """This level or more severe."""
    logger: str = ""
    """Begins with this."""
    instance: str = ""
    trace_id: str = ""
    request_id: str = ""
    since: float = 0.0
    until: float | None = None
