"""The telemetry of one app in one place: registry, health checks, traces, pages, and the HTTP layer's hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tenfold._core import secrets
from tenfold._core.clock import Clock
from tenfold._core.resolve import backend_class
from tenfold._core.sections import Settings
from tenfold.telemetry.access import Access
from tenfold.telemetry.health import Check, Checks
from tenfold.telemetry.log import Logging
from tenfold.telemetry.metrics import Family, Registry, Sample
from tenfold.telemetry.operations import OperationStats, OperationTable
from tenfold.telemetry.ops import Pages
from tenfold.telemetry.process import LoopLag, build_info
from tenfold.telemetry.redact import Redactor
from tenfold.telemetry.trace import Tracer

Numbers = Callable[[], Mapping[str, int | float]]
Source = tuple[Mapping[str, str], Numbers]


class Hub:
    """A part. ``http`` is what the HTTP layer takes; other parts show their numbers with :meth:`numbers`."""

    def __init__(self, app: str, settings: Settings, clock: Clock, logging: Logging | None) -> None:
        self.registry = Registry()
        self.redactor = logging.redactor if logging is not None else Redactor()
        """Masks secrets in everything that this app tells, its own settings' among them."""
        self.redactor.learn(*secrets.values(settings))
        self.checks = Checks(clock, redactor=self.redactor, registry=self.registry)
        self.pages = Pages()
        exporter = backend_class("telemetry", settings.trace.exporter, where="trace.exporter")
        self.tracer = Tracer(
            exporter.from_url(settings.trace.exporter, clock),
            clock,
            settings=settings.trace,
            redactor=self.redactor,
            registry=self.registry,
        )
        access = logging.access if logging is not None and settings.log.access else None
        self.http = HttpHooks(self.tracer, OperationTable(self.registry), access.record if access else None)
        self._lag = LoopLag(self.registry, clock)
        build_info(self.registry, app=app)
        if logging is not None:
            logging.register(self.registry)

    def numbers(self, prefix: str, about: str, *sources: Source) -> None:
        """Show every number of the sources as ``prefix_key``; keys that end in ``_total`` are counters.

        Sources are ``(labels, read)``; those of one call have the same label names.
        """

        def collect() -> Iterable[Family]:
            by_key: dict[str, list[tuple[dict[str, str], float]]] = {}
            for labels, read in sources:
                for key, value in read().items():
                    by_key.setdefault(key, []).append((dict(labels), value))
            for key, values in by_key.items():
                name, total = f"{prefix}_{key}".removesuffix("_total"), key.endswith("_total")
                suffix = "_total" if total else ""
                samples = [Sample(suffix, labels, value) for labels, value in values]
                yield Family(name, "counter" if total else "gauge", about, samples)

        self.registry.collector(collect, prefix)

    def check(self, name: str, check: Check) -> None:
        """Register a readiness check."""
        self.checks.add(name, check)

    async def start(self) -> None:
        await self.tracer.start()
        await self._lag.start()

    async def stop(self) -> None:
        await self._lag.stop()
        await self.tracer.stop()


class HttpHooks:
    """What the HTTP layer tells about its work."""

    def __init__(
        self, tracer: Tracer, table: OperationTable, record: Callable[[Access], None] | None
    ) -> None:
        self.tracer: Tracer | None = tracer
        self._table = table
        self._record = record
        self.access: Callable[[Any, str, Any, float], None] | None = self._log if record else None

    def stats(self, operation: str, method: str, route: str) -> OperationStats:
        return self._table.stats(operation, method, route)

    def _log(self, request: Any, operation: str, answer: Any, seconds: float) -> None:
        """``answer`` is ``(status, headers, body, stream)``; of a stream, what its head announces is logged."""
        assert self._record is not None
        context, client = request.context, request.scope.get("client")
        self._record(
            Access(
                request.method,
                request.path,
                answer[0],
                seconds,
                len(answer[2]) if answer[3] is None else _announced(request.method, answer[1]),
                operation,
                context.request_id,
                context.trace_id,
                client[0] if client else "",
            )
        )


def _announced(method: str, headers: Iterable[tuple[bytes, bytes]]) -> int:
    """The length of a stream that is known before it is sent; 0 for others, and where no body follows."""
    if method == "HEAD":
        return 0
    return next((int(value) for name, value in headers if name == b"content-length"), 0)
