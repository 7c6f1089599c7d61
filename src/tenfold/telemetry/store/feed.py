"""Where telemetry comes in: bounded rings that the event loop puts into, and a thread takes out of.

Nothing here waits, writes, or raises. What does not fit is counted by kind and reason; what there is too much of is
thinned before anything is made of it (see :mod:`.budget`).
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Final, TypeVar

from msgspec import Struct

from tenfold.telemetry.metrics import Family
from tenfold.telemetry.recording import Recording
from tenfold.telemetry.render import Line
from tenfold.telemetry.store.budget import Bucket, Budget
from tenfold.telemetry.store.records import JobSummary, RequestSummary
from tenfold.telemetry.store.schema import LEVELS

REQUESTS_MAX: Final = 10_000
JOBS_MAX: Final = 10_000
LOGS_MAX: Final = 2_000
RECORDINGS_MAX: Final = 500
SPANS_MAX: Final = 20_000
"""In all recordings that wait."""
SNAPSHOTS_MAX: Final = 3
EVENT_MAX_CHARS: Final = 2_000
FIELD_MAX_CHARS: Final = 2_000
FIELDS_MAX_CHARS: Final = 16_000
"""Of one line, its traceback included."""
FAILED: Final = frozenset({"retry", "dead", "crash", "lost"})

T = TypeVar("T")


class LineIn(Struct, frozen=True, gc=False):
    """A line of the log on its way in, cut to size."""

    at: float
    level: int
    event: str
    logger: str
    fields: dict[str, str | int | float | bool | None]
    trace_id: str
    request_id: str


class Snapshot(Struct, frozen=True):
    """All metrics as they were at a time."""

    at: float
    families: list[Family]


class Batch(Struct):
    """What was taken out of the rings at a time."""

    requests: list[tuple[RequestSummary, bool]]
    """With whether it belongs to the fair sample, from which is learned what is slow."""
    jobs: list[JobSummary]
    logs: list[LineIn]
    recordings: list[Recording]
    snapshots: list[Snapshot]

    def __bool__(self) -> bool:
        return bool(self.requests or self.jobs or self.logs or self.recordings or self.snapshots)


class Feed:
    """The rings. One per app; see the module's docstring."""

    def __init__(
        self,
        monotonic: Callable[[], float],
        *,
        requests_per_s: int,
        logs_per_s: int,
        traces_per_s: int,
        log_level: str,
    ) -> None:
        self.dropped: Counter[str] = Counter()
        """By ``kind reason``, for example "log too many"."""
        self.sample = Budget(requests_per_s)
        """Of requests that go well; ``sample.mask`` is what the hot path reads."""
        self.traces = Budget(traces_per_s)
        """Of what is recorded span by span."""
        self.allowances = (self.traces, self.sample)
        self.changed: Callable[[], object] = lambda: None
        """Called when these may allow what they have not before."""
        self._bad = Budget(requests_per_s)
        self._jobs_sample = Budget(requests_per_s)
        self._log_bucket = Bucket(logs_per_s, logs_per_s * 10)
        self._log_level = LEVELS[log_level]
        self._monotonic = monotonic
        self._requests: deque[tuple[RequestSummary, bool]] = deque()
        self._jobs: deque[JobSummary] = deque()
        self._logs: deque[LineIn] = deque()
        self._recordings: deque[Recording] = deque()
        self._snapshots: deque[Snapshot] = deque()
        self._spans = 0
        self._lock = threading.Lock()
        """Of what several threads put in: log lines, and the bucket they use."""

    def tick(self, seconds: float) -> None:
        """So many seconds have passed."""
        for budget in (self.sample, self.traces, self._bad, self._jobs_sample):
            budget.tick(seconds)
        self.changed()

    # ── in ──

    def request(self, summary: RequestSummary, *, fair: bool) -> None:
        """One that is in the sample (``fair``), has failed, or was slow."""
        if not (self.sample if fair else self._bad).take():
            # The sample is thinned on purpose; what failed or was slow and is not kept is a loss.
            if not fair:
                self.dropped["request too many"] += 1
            return
        self._put(self._requests, (summary, fair), REQUESTS_MAX, "request")

    def wants_run(self, outcome: str, number: int) -> bool:
        """Whether a run that ended so is to be told by :meth:`job`; ``number`` decides for those that went well."""
        if outcome not in FAILED:
            return number & self._jobs_sample.mask == 0 and self._jobs_sample.take()
        if self._bad.take():
            return True
        self.dropped["job too many"] += 1
        return False

    def job(self, summary: JobSummary) -> None:
        """A run that has ended, and is wanted."""
        self._put(self._jobs, summary, JOBS_MAX, "job")

    def recording(self, recording: Recording) -> None:
        """A recorded trace whose outermost span here has ended."""
        spans = len(recording.spans)
        if self._spans + spans > SPANS_MAX:
            self.dropped["trace queue full"] += 1
            return
        self._spans += spans
        if not self._put(self._recordings, recording, RECORDINGS_MAX, "trace"):
            self._spans -= spans

    def snapshot(self, at: float, families: list[Family]) -> None:
        """A reading of all metrics."""
        self._put(self._snapshots, Snapshot(at, families), SNAPSHOTS_MAX, "metrics")

    def line(self, line: Line) -> None:
        """A line of the log, redacted already. From any thread."""
        level = LEVELS.get(line.level, 20)
        if level < self._log_level:
            return
        with self._lock:
            if not self._log_bucket.take(self._monotonic()):
                self.dropped["log too many"] += 1
                return
            self._put(self._logs, _cut(line, level), LOGS_MAX, "log")

    def _put(self, ring: deque[T], item: T, most: int, kind: str) -> bool:
        if len(ring) >= most:
            self.dropped[f"{kind} queue full"] += 1
            return False
        ring.append(item)
        return True

    # ── out ──

    def take(self) -> Batch:
        """Everything that waits, in the writer's thread."""
        self._spans = 0
        return Batch(
            _emptied(self._requests),
            _emptied(self._jobs),
            _emptied(self._logs),
            _emptied(self._recordings),
            _emptied(self._snapshots),
        )

    def lost(self, batch: Batch, reason: str) -> None:
        """A batch could not be written."""
        for kind in ("requests", "jobs", "logs", "recordings", "snapshots"):
            if count := len(getattr(batch, kind)):
                name = {"recordings": "trace", "snapshots": "metrics"}.get(kind, kind.removesuffix("s"))
                self.dropped[f"{name} {reason}"] += count


def _emptied(ring: deque[T]) -> list[T]:
    # One by one from the left: others may put in meanwhile.
    return [ring.popleft() for _ in range(len(ring))]


def _cut(line: Line, level: int) -> LineIn:
    fields: dict[str, str | int | float | bool | None] = {}
    left = FIELDS_MAX_CHARS
    trace_id = request_id = ""
    given: list[tuple[str, Any]] = [*line.fields.items(), *([("trace", line.trace)] if line.trace else [])]
    for key, value in given:
        if key == "trace_id":
            trace_id = str(value)
        elif key == "request_id":
            request_id = str(value)
        elif left > 0:
            # A traceback tells most at its end, and may have what the others leave.
            kept = _short(value, left) if key != "trace" else str(value)[-left:]
            left -= len(key) + (len(kept) if isinstance(kept, str) else 8)
            fields[key[:FIELD_MAX_CHARS]] = kept
    return LineIn(
        line.when, level, line.event[:EVENT_MAX_CHARS], line.logger[:200], fields, trace_id, request_id[:200]
    )


def _short(value: Any, left: int) -> str | int | float | bool | None:
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int) and abs(value) < 1 << 53:
        return value
    return str(value)[: min(left, FIELD_MAX_CHARS)]
