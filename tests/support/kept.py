"""Records that a test writes itself, for pages: what the store would answer, without a store."""

from __future__ import annotations

from collections.abc import Mapping

from tenfold.telemetry.store.reader import Records
from tenfold.telemetry.store.records import (
    ErrorGroup,
    Instance,
    JobFilter,
    JobSummary,
    LatencyPoint,
    LogEvent,
    LogFilter,
    OperationSummary,
    Page,
    RequestFilter,
    RequestSummary,
    Series,
    StoreStatus,
    TraceDetail,
    TraceFilter,
    TraceSummary,
)


class Kept(Records):
    """Answers with what its attributes hold, whatever was asked for."""

    def __init__(self) -> None:
        self.all_series: dict[str, list[Series]] = {}
        self.points: list[LatencyPoint] = []
        self.all_operations: list[OperationSummary] = []
        self.all_requests: list[RequestSummary] = []
        self.all_traces: list[TraceSummary] = []
        self.details: dict[str, TraceDetail] = {}
        self.all_jobs: list[JobSummary] = []
        self.all_logs: list[LogEvent] = []
        self.all_errors: list[ErrorGroup] = []
        self.asked: list[object] = []
        """The filters that pages asked with."""

    async def series(
        self,
        name: str,
        labels: Mapping[str, str] | None = None,
        *,
        since: float,
        until: float | None = None,
        step_s: float | None = None,
        by: tuple[str, ...] | None = None,
    ) -> list[Series]:
        wanted = (labels or {}).items()
        return [
            one for one in self.all_series.get(name, []) if wanted <= one.labels.items() or not one.labels
        ]

    async def metrics(self) -> list[str]:
        return list(self.all_series)

    async def latency(
        self,
        operation: str = "",
        *,
        since: float,
        until: float | None = None,
        step_s: float | None = None,
        instance: str = "",
    ) -> list[LatencyPoint]:
        return self.points

    async def operations(
        self, *, since: float, until: float | None = None, instance: str = ""
    ) -> list[OperationSummary]:
        return self.all_operations

    async def requests(
        self, where: RequestFilter | None = None, *, before: str = "", limit: int = 50
    ) -> Page[RequestSummary]:
        self.asked.append(where)
        return Page(self.all_requests[:limit])

    async def traces(
        self, where: TraceFilter | None = None, *, before: str = "", limit: int = 50
    ) -> Page[TraceSummary]:
        self.asked.append(where)
        return Page(self.all_traces[:limit])

    async def trace(self, trace_id: str) -> TraceDetail | None:
        return self.details.get(trace_id)

    async def jobs(
        self, where: JobFilter | None = None, *, before: str = "", limit: int = 50
    ) -> Page[JobSummary]:
        self.asked.append(where)
        return Page(self.all_jobs[:limit])

    async def logs(
        self, where: LogFilter | None = None, *, before: str = "", limit: int = 100
    ) -> Page[LogEvent]:
        self.asked.append(where)
        return Page(self.all_logs[:limit])

    async def errors(self, *, since: float, limit: int = 20) -> list[ErrorGroup]:
        return self.all_errors[:limit]

    async def instances(self, *, since: float) -> list[Instance]:
        return []

    async def status(self) -> StoreStatus:
        return StoreStatus("telemetry.sqlite", 0, 0, 0.0, None, {}, {})
