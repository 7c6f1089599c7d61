"""The reader over the file: each question in one of two threads, with a connection of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from tenfold._core.clock import Clock
from tenfold._core.threads import contained
from tenfold.telemetry.store import errors, metrics, pages
from tenfold.telemetry.store.file import StoreFile, StoreTrouble
from tenfold.telemetry.store.metrics import Asked
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
from tenfold.telemetry.store.rollup import POINTS_OF_ONE

THREADS = 2
R = TypeVar("R")


class Answers(Records):
    """``status`` adds what the writer of this process knows of itself."""

    def __init__(
        self, path: Path, clock: Clock, about: Callable[[StoreStatus], StoreStatus] = lambda status: status
    ) -> None:
        self._path, self._clock, self._about = path, clock, about
        self._pool: ThreadPoolExecutor | None = None
        self._own = threading.local()
        self._files: list[StoreFile] = []

    def stop(self) -> None:
        """Close the connections. A later question opens them again."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=True)
        while self._files:
            self._files.pop().close()
        self._own = threading.local()

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
        asked = self._asked(since, until, step_s)
        return await self._ask([], lambda file: metrics.series(file, name, labels or {}, by, asked))

    async def metrics(self) -> list[str]:
        return await self._ask([], metrics.names_of)

    async def latency(
        self,
        operation: str = "",
        *,
        since: float,
        until: float | None = None,
        step_s: float | None = None,
        instance: str = "",
    ) -> list[LatencyPoint]:
        asked = self._asked(since, until, step_s)
        return await self._ask([], lambda file: metrics.latency(file, operation, instance, asked))

    async def operations(
        self, *, since: float, until: float | None = None, instance: str = ""
    ) -> list[OperationSummary]:
        asked = Asked.of(since, until, None, self._clock.now(), POINTS_OF_ONE)
        return await self._ask([], lambda file: metrics.operations(file, instance, asked))

    async def requests(
        self, where: RequestFilter | None = None, *, before: str = "", limit: int = 50
    ) -> Page[RequestSummary]:
        given = where or RequestFilter()
        return await self._ask(Page([]), lambda file: pages.requests(file, given, before, limit))

    async def traces(
        self, where: TraceFilter | None = None, *, before: str = "", limit: int = 50
    ) -> Page[TraceSummary]:
        given = where or TraceFilter()
        return await self._ask(Page([]), lambda file: pages.traces(file, given, before, limit))

    async def trace(self, trace_id: str) -> TraceDetail | None:
        return await self._ask(None, lambda file: errors.trace(file, trace_id))

    async def jobs(
        self, where: JobFilter | None = None, *, before: str = "", limit: int = 50
    ) -> Page[JobSummary]:
        given = where or JobFilter()
        return await self._ask(Page([]), lambda file: pages.jobs(file, given, before, limit))

    async def logs(
        self, where: LogFilter | None = None, *, before: str = "", limit: int = 100
    ) -> Page[LogEvent]:
        given = where or LogFilter()
        return await self._ask(Page([]), lambda file: pages.logs(file, given, before, limit))

    async def errors(self, *, since: float, limit: int = 20) -> list[ErrorGroup]:
        return await self._ask([], lambda file: errors.groups(file, since, limit))

    async def instances(self, *, since: float) -> list[Instance]:
        return await self._ask([], lambda file: errors.instances(file, since))

    async def status(self) -> StoreStatus:
        nothing = StoreStatus(str(self._path), 0, 0, 0.0, None, {}, {})
        return self._about(await self._ask(nothing, errors.status))

    def _asked(self, since: float, until: float | None, step_s: float | None) -> Asked:
        return Asked.of(since, until, step_s, self._clock.now())

    async def _ask(self, nothing: R, question: Callable[[StoreFile], R]) -> R:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="tenfold-telemetry-read")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, contained, self._answer, nothing, question)

    def _answer(self, nothing: R, question: Callable[[StoreFile], R]) -> R:
        try:
            file = self._file()
            file.renew()
            return question(file)
        except StoreTrouble:
            return nothing

    def _file(self) -> StoreFile:
        found: StoreFile | None = getattr(self._own, "file", None)
        if found is None:
            found = self._own.file = StoreFile(self._path)
            self._files.append(found)
        return found


class Nothing(Answers):
    """Where no store is: everything is empty."""

    def _answer(self, nothing: R, question: Callable[[StoreFile], R]) -> R:
        return nothing
