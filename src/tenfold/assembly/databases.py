"""The databases of an app as one part."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tenfold._core.clock import Clock
from tenfold._core.fairness import WeightOf
from tenfold._core.resolve import backend_class
from tenfold._core.sections import Settings
from tenfold.db import migrations
from tenfold.db.finder.finder import Finder
from tenfold.db.finder.page import FindingsPage
from tenfold.db.replicas import Replicas
from tenfold.telemetry import names
from tenfold.telemetry.hub import Hub
from tenfold.telemetry.metrics import Family, Sample

if TYPE_CHECKING:
    from tenfold.db.contract import DatabaseBackend
    from tenfold.db.database import Database
    from tenfold.db.finder.findings import Report


class DatabasesPart:
    """One backend per URL, the databases bound to it, their tables made or checked."""

    def __init__(
        self,
        databases: list[Database],
        settings: Settings,
        data_dir: Path,
        clock: Clock,
        telemetry: Hub,
        weight_of: WeightOf,
        *,
        unused: Collection[str] = (),
    ) -> None:
        self._unused = unused
        """Tables of the framework that belong to services elsewhere."""
        self._databases, self._settings, self._weight_of = databases, settings, weight_of
        self._data_dir, self._clock, self._telemetry = data_dir, clock, telemetry
        self._backend: DatabaseBackend | None = None
        self._replicas: Replicas | None = None
        self._finder: Finder | None = None
        self._left: list[DatabaseBackend] = []
        """Those that the databases have moved away from: reads that began there end there."""

    async def start(self) -> None:
        if not self._databases:
            return
        url = self._settings.database.url
        backend = self._make(url, where="database.url")
        copies = self._settings.database.replicas
        replicas = Replicas(backend, self._settings.database, self._clock, self._make) if copies else None
        await backend.start()
        self._backend = backend
        for database in self._databases:
            database.bind(backend)
        try:
            await migrations.prepare(self._databases, self._mode(), unused=self._unused)
            if replicas is not None:
                await self._read_from(replicas, backend)
        except BaseException:
            await self.stop()
            raise
        self._telemetry.numbers("tenfold_db", "The database of this process.", ({}, self._stats))
        self._telemetry.check("database", self._health)
        if self._settings.database.watch:
            self._finder = Finder(
                backend,
                self._databases,
                slow_s=self._settings.database.slow_s,
                trial=self._settings.app.env == "development",
            )
            self._finder.start()
            self._telemetry.registry.collector(self._statements, names.DB_STATEMENTS)
            about = "Slow and repeated statements, missing and unused indexes."
            self._telemetry.pages.add("/database", "Database", about, FindingsPage(self._report))

    def _make(self, url: str, where: str = "database.replicas") -> DatabaseBackend:
        made: DatabaseBackend = backend_class("db", url, where=where).from_url(
            url, settings=self._settings.database, data_dir=self._data_dir, clock=self._clock
        )
        made.weight_of = self._weight_of
        made.rows_max = self._settings.database.rows_max
        return made

    async def _read_from(self, replicas: Replicas, primary: DatabaseBackend) -> None:
        """After the migrations: no read may go to a replica that has not got them."""
        await replicas.start()
        self._replicas = replicas
        for database in self._databases:
            database.bind(primary, replicas)
        self._telemetry.numbers(
            "tenfold_db_reads", "Reads that replicas could have answered.", ({}, replicas.stats)
        )
        sources = [
            ({"replica": node.backend.address}, partial(replicas.stats_of, node)) for node in replicas.nodes
        ]
        self._telemetry.numbers("tenfold_db_replica", "The replicas, as this process sees them.", *sources)

    @property
    def finder(self) -> Finder | None:
        """What watches the statements; None without databases, or with ``database.watch`` off."""
        return self._finder

    async def _report(self) -> Report:
        assert self._finder is not None
        return await self._finder.report()

    def _mode(self) -> Literal["auto", "check"]:
        given = self._settings.database.migrate
        return given or ("check" if self._settings.app.env == "production" else "auto")

    def moved(self, old: DatabaseBackend, new: DatabaseBackend) -> None:
        """For the switch: ``new`` is the backend from now on."""
        self._left.append(old)
        self._backend = new
        for topic, callback in old.hints:
            new.on_hint(topic, callback)
        if self._finder is not None:
            self._finder = self._finder.moved(new)

    def _statements(self) -> Iterable[Family]:
        """What each service asks of the database."""
        assert self._finder is not None
        found = self._finder.services()
        shown = (
            (names.DB_STATEMENTS, "Statements, by the service that ran them.", 0),
            (names.DB_TIMED, "Statements whose time was taken: those not answered at once.", 1),
            (names.DB_TIMED_SECONDS, "Seconds that they took.", 2),
        )
        for name, about, n in shown:
            samples = [Sample("_total", {names.DATABASE: s}, numbers[n]) for s, numbers in found.items()]
            yield Family(name.removesuffix("_total"), "counter", about, samples)

    def _stats(self) -> Mapping[str, int | float]:
        assert self._backend is not None
        return self._backend.stats()

    async def _health(self) -> str:
        assert self._backend is not None
        await self._backend.health()
        if self._replicas is None:
            return "The database answers."
        nodes = self._replicas.nodes
        return f"The database answers; replicas in use: {sum(node.up for node in nodes)} of {len(nodes)}."

    async def stop(self) -> None:
        if self._finder is not None:
            self._finder.stop()
        for database in self._databases:
            database.unbind()
        if self._replicas is not None:
            await self._replicas.stop()
        for backend in (self._backend, *self._left):
            if backend is not None:
                await backend.stop()
