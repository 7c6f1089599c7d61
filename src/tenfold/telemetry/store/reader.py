"""What the pages ask of the store. Each question runs in a thread and takes an index: none walks all that is kept."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

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


class Records(ABC):
    """What was kept, by any instance that feeds the same store. Ask the hub: ``hub.records``.

    Order: pages are newest first, series oldest first. Staleness: what happened up to two seconds ago may be missing.
    Errors: none for what is missing (an empty answer); a store that cannot be read answers empty too, and its
    :meth:`status` says why.
    """

    @abstractmethod
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
        """The metric ``name`` (``tenfold_http_requests_total``) where it has these labels. Instances are added up, unless
        ``by`` or ``labels`` name ``instance``. ``by``: labels that stay apart (default: all of them; ``()``: one series).
        ``step_s`` defaults to what makes about 120 points, and is never finer than what was kept."""

    @abstractmethod
    async def metrics(self) -> list[str]:
        """The names of all metrics kept."""

    @abstractmethod
    async def latency(
        self,
        operation: str = "",
        *,
        since: float,
        until: float | None = None,
        step_s: float | None = None,
        instance: str = "",
    ) -> list[LatencyPoint]:
        """Traffic, errors and percentiles over time, of one operation or of all."""

    @abstractmethod
    async def operations(
        self, *, since: float, until: float | None = None, instance: str = ""
    ) -> list[OperationSummary]:
        """The same for every operation that was asked for, in one number each; the busiest first."""

    @abstractmethod
    async def requests(
        self,
        where: RequestFilter | None = None,
        *,
        before: str = "",
        limit: int = 50,
    ) -> Page[RequestSummary]:
        """Requests. Failed and slow ones are all here; of the others, as many as ``telemetry.requests_per_s`` says."""

    @abstractmethod
    async def traces(
        self,
        where: TraceFilter | None = None,
        *,
        before: str = "",
        limit: int = 50,
    ) -> Page[TraceSummary]:
        """Traces whose spans were kept."""

    @abstractmethod
    async def trace(self, trace_id: str) -> TraceDetail | None:
        """Everything with this trace id, or None when nothing has it."""

    @abstractmethod
    async def jobs(
        self,
        where: JobFilter | None = None,
        *,
        before: str = "",
        limit: int = 50,
    ) -> Page[JobSummary]:
        """Runs of jobs, deliveries of events and ticks of schedules."""

    @abstractmethod
    async def logs(
        self,
        where: LogFilter | None = None,
        *,
        before: str = "",
        limit: int = 100,
    ) -> Page[LogEvent]:
        """Lines of the log (the access log is :meth:`requests`)."""

    @abstractmethod
    async def errors(self, *, since: float, limit: int = 20) -> list[ErrorGroup]:
        """What failed, grouped; the latest first."""

    @abstractmethod
    async def instances(self, *, since: float) -> list[Instance]:
        """Processes that fed the store since then, by name."""

    @abstractmethod
    async def status(self) -> StoreStatus:
        """How the store is doing."""
