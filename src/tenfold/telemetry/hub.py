"""The telemetry of one app in one place: registry, health checks, traces, pages, and the HTTP layer's hooks."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from tenfold._core import secrets
from tenfold._core.clock import Clock
from tenfold._core.resolve import backend_class
from tenfold._core.sections import Settings
from tenfold.errors import ConfigError, MissingExtra
from tenfold.telemetry.access import AccessLog
from tenfold.telemetry.contract import SpanExporter
from tenfold.telemetry.health import Check, Checks
from tenfold.telemetry.log import Logging
from tenfold.telemetry.metrics import Family, Registry, Sample
from tenfold.telemetry.operations import OperationStats, OperationTable
from tenfold.telemetry.ops import Pages
from tenfold.telemetry.process import LoopLag, build_info, instance_name
from tenfold.telemetry.redact import Redactor
from tenfold.telemetry.store.answers import Nothing
from tenfold.telemetry.store.reader import Records
from tenfold.telemetry.store.requests import Keeper
from tenfold.telemetry.store.store import Store
from tenfold.telemetry.trace import Tracer

if TYPE_CHECKING:
    from tenfold.telemetry.backends.otlp import Otlp

Numbers = Callable[[], Mapping[str, int | float]]
Source = tuple[Mapping[str, str], Numbers]


class Hub:
    """A part. ``http`` is what the HTTP layer takes; other parts show their numbers with :meth:`numbers`."""

    def __init__(
        self, app: str, settings: Settings, clock: Clock, logging: Logging | None, folder: Path | None = None
    ) -> None:
        """``folder``: where the store of telemetry is to be; None: there is none."""
        self.registry = Registry()
        self.redactor = logging.redactor if logging is not None else Redactor()
        """Masks secrets in everything that this app tells, its own settings' among them."""
        self.redactor.learn(*secrets.values(settings))
        self.checks = Checks(clock, redactor=self.redactor, registry=self.registry)
        self.pages = Pages()
        self.otlp = _otlp(app, settings, clock, self.registry)
        self.tracer = Tracer(
            _exporter(self.otlp, settings, clock),
            clock,
            settings=settings.trace,
            redactor=self.redactor,
            registry=self.registry,
        )
        table = OperationTable(self.registry)
        self.store = self._store(settings, clock, logging, folder, table)
        """What is kept; None where nothing is."""
        self.records: Records = self.store.records if self.store else Nothing(Path(), clock)
        """Asks the store; answers empty where there is none."""
        if self.store is not None:
            self.tracer.recorder = self.store.feed
            self.store.feed.changed = self.tracer.pick_anew
        access = logging.access if logging is not None and settings.log.access else None
        keeper = partial(Keeper, self.store.feed, clock.now) if self.store else None
        self.http = HttpHooks(self.tracer, table, access, keeper)
        self._lag = LoopLag(self.registry, clock)
        self._logging = logging
        self._deaf: Callable[[], None] = lambda: None
        self._unheard: Callable[[], None] = lambda: None
        build_info(self.registry, app=app)
        if logging is not None:
            logging.register(self.registry)

    def _store(
        self,
        settings: Settings,
        clock: Clock,
        logging: Logging | None,
        folder: Path | None,
        table: OperationTable,
    ) -> Store | None:
        wanted = settings.telemetry.store
        if folder is None or not (logging is not None if wanted is None else wanted):
            return None
        return Store(
            folder,
            settings.telemetry,
            clock,
            self.registry,
            instance=instance_name(),
            redactor=self.redactor,
            slow=table.slow,
        )

    def numbers(self, prefix: str, about: str, *sources: Source) -> None:
        """Show every number of the sources as ``prefix_key``; keys that end in ``_total`` are counters, and those in ``_s``
        are shown with ``_seconds``, as Prometheus has it.

        Sources are ``(labels, read)``; those of one call have the same label names.
        """

        def collect() -> Iterable[Family]:
            by_key: dict[str, list[tuple[dict[str, str], float]]] = {}
            for labels, read in sources:
                for key, value in read().items():
                    by_key.setdefault(key, []).append((dict(labels), value))
            for key, values in by_key.items():
                shown = f"{key.removesuffix('_s')}_seconds" if key.endswith("_s") else key
                name, total = f"{prefix}_{shown}".removesuffix("_total"), key.endswith("_total")
                suffix = "_total" if total else ""
                samples = [Sample(suffix, labels, value) for labels, value in values]
                yield Family(name, "counter" if total else "gauge", about, samples)

        self.registry.collector(collect, prefix)

    def check(self, name: str, check: Check) -> None:
        """Register a readiness check."""
        self.checks.add(name, check)

    async def start(self) -> None:
        if self.otlp is not None:
            await self.otlp.start()
            if self._logging is not None:
                self._deaf = self._logging.listen(self.otlp.line)
        if self.store is not None:
            await self.store.start()
            if self._logging is not None:
                self._unheard = self._logging.listen(self.store.feed.line)
        await self.tracer.start()
        await self._lag.start()

    async def stop(self) -> None:
        await self._lag.stop()
        await self.tracer.stop()
        self._deaf()
        if self.otlp is not None:
            await self.otlp.stop()
        self._unheard()
        if self.store is not None:
            await self.store.stop()


def _otlp(app: str, settings: Settings, clock: Clock, registry: Registry) -> Otlp | None:
    """What sends telemetry to ``otlp.url``; None without one."""
    if not settings.otlp.url:
        return None
    try:
        from tenfold.telemetry.backends.otlp import Otlp
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"it needs the library {error.name!r}, which is not installed.",
            where="otlp.url",
            remedy="Run: pip install 'tenfold[otlp]'",
        ) from error
    who = {
        "service.name": app,
        "service.instance.id": instance_name(),
        "deployment.environment.name": settings.app.env,
        "host.name": socket.gethostname(),
        "process.pid": str(os.getpid()),
        "telemetry.sdk.name": "tenfold",
        "telemetry.sdk.language": "python",
        "telemetry.sdk.version": version("tenfold"),
    }
    return Otlp(settings.otlp, registry, clock, who)


def _exporter(otlp: Otlp | None, settings: Settings, clock: Clock) -> SpanExporter:
    """Where finished spans go."""
    if otlp is None or otlp.spans is None:
        url = settings.trace.exporter
        made: SpanExporter = backend_class("telemetry", url, where="trace.exporter").from_url(url, clock)
        return made
    if settings.trace.exporter != "none:":
        raise ConfigError(
            "finished spans go to otlp.url already.",
            where="trace.exporter",
            remedy="Leave one of the two out, or set otlp.traces = false.",
        )
    return otlp.spans


class HttpHooks:
    """What the HTTP layer tells about its work."""

    def __init__(
        self,
        tracer: Tracer,
        table: OperationTable,
        access: AccessLog | None,
        keeper: Callable[[str, str, str], Keeper] | None = None,
    ) -> None:
        """``keeper`` makes, for an operation, method and route, what keeps its requests one by one."""
        self.tracer: Tracer | None = tracer
        self._table = table
        self._keeper = keeper
        self.access = access
        """Takes every finished request."""

    def stats(self, operation: str, method: str, route: str) -> OperationStats:
        stats = self._table.stats(operation, method, route)
        if stats.keeping is None and self._keeper is not None:
            stats.keeping = self._keeper(operation, method, route)
        return stats
