"""How an app's parts are put together: declarations and settings in, connected objects out.

``Assembly(app)`` connects nothing: it plans dependencies and compiles every operation, so whatever is wrong with
the declarations is found here. :meth:`Assembly.start` opens what the parts stand on, from the bottom up.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tenfold._core.clock import Clock
from tenfold._core.container import Container, Plan, describe
from tenfold._core.context import Context, use
from tenfold._core.lifecycle import Lifecycle
from tenfold._core.resolve import backend_class
from tenfold._core.sections import Settings
from tenfold.background import Background
from tenfold.cache.cache import Cache
from tenfold.cache.commits import follow
from tenfold.cache.flight import LoadGate
from tenfold.cache.response import ResponseStore
from tenfold.db import migrations
from tenfold.db.finder.finder import Finder
from tenfold.db.finder.page import FindingsPage
from tenfold.db.replicas import Replicas
from tenfold.errors import ConfigError, TenfoldError
from tenfold.guard.lease import Leases
from tenfold.guard.limiter import RateLimiter
from tenfold.guards import Guards
from tenfold.http.asgi import HttpApp
from tenfold.http.asgi import Mount as HttpMount
from tenfold.http.causal import Tokens
from tenfold.http.docs import Docs
from tenfold.http.middleware import Edge
from tenfold.http.rsgi import RsgiApp
from tenfold.http.websocket import WebSocketApp
from tenfold.mail.mailer import Mailer
from tenfold.mail.page import MailboxPage
from tenfold.rpc.binding import Calls
from tenfold.security import keys
from tenfold.security.accounts import Accounts
from tenfold.security.principal import service_principal
from tenfold.switch import Switch
from tenfold.switch_page import SwitchPage
from tenfold.telemetry import names
from tenfold.telemetry.hub import Hub
from tenfold.telemetry.ops import OpsApp

if TYPE_CHECKING:
    from tenfold.app import App
    from tenfold.db.contract import DatabaseBackend
    from tenfold.db.database import Database
    from tenfold.db.finder.findings import Report
    from tenfold.security.sessions import SessionStore
    from tenfold.service import Service

log = logging.getLogger("tenfold.app")


class Assembly:
    """The parts of one running app."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.settings: Settings = app.settings
        self._life = Lifecycle(self.settings.app.stop_timeout_s)
        self.telemetry = Hub(app.name, self.settings, app.clock, app.logging)
        self.checks = self.telemetry.checks
        self.mailer = Mailer()
        self.response_cache = Cache("tenfold.responses")
        self.guards = Guards(app, self.telemetry)
        self._provide()
        self.http = self._http()
        self.rsgi = RsgiApp(self.http)
        self.background = Background(app, self.telemetry)
        self._databases = _Databases(app.databases, self.settings, app.data_dir, app.clock, self.telemetry)
        self.calls = Calls(app.operations, self.http.wiring, self.telemetry.registry)
        self._hooks = [(service.name, _Hooks(service, app.container)) for service in app.services]
        self.ops = OpsApp(
            self.telemetry.registry,
            self.checks,
            self.telemetry.pages,
            self.settings.ops.token,
            app.clock,
            host=self.settings.ops.host,
            title=app.name,
        )

    # ── planning ──

    def _provide(self) -> None:
        """What handlers may ask for by type, besides what services provide."""
        container, app = self.app.container, self.app
        container.provide(Settings, lambda: self.settings)
        container.provide(Clock, lambda: app.clock)
        container.provide(Mailer, lambda: self.mailer)
        container.provide(RateLimiter, lambda: self.guards.limiter)
        container.provide(Leases, lambda: self.guards.leases)
        if isinstance(app.auth, Accounts):
            container.provide(Accounts, lambda: app.auth)
        for service in app.services:
            if service.settings_type is not None:
                own = self.settings.services[service.name]
                container.provide(service.settings_type, lambda own=own: own)
            for provider in service.providers:
                container.provide(provider.type, provider.factory, scope=provider.scope)

    def _http(self) -> HttpApp:
        app, settings = self.app, self.settings.http
        http = HttpApp(
            [operation for operation in app.operations if operation.routed],
            settings=settings,
            container=app.container,
            authenticator=self._authenticator(),
            clock=app.clock,
            telemetry=self.telemetry.http,
            databases={d.name: d for d in app.databases},
            idempotency=self.guards.idempotency,
            limiter=self.guards.limiter,
            limits=app.limits,
            response_cache=ResponseStore(self.response_cache),
            causal=Tokens(self.settings.database.lag_max_s) if self.settings.database.replicas else None,
            edge=Edge(self.settings),
            mounts=[HttpMount(m.path, m.app, m.auth) for service in app.services for m in service.mounts],
            websocket=WebSocketApp(
                [w for service in app.services for w in service.websockets],
                settings=settings,
                container=app.container,
                clock=app.clock,
                authenticator=self._authenticator(),
            ),
        )
        self.docs = Docs(
            list(http.endpoints),
            title=app.name,
            version=app.version,
            description=app.description,
            authenticator=self._authenticator(),
        )
        if self.settings.shows_docs:
            for operation in self.docs.operations():
                http.add(operation)
        return http

    def _authenticator(self) -> Any:
        auth = self.app.auth
        own = auth.authenticator if isinstance(auth, Accounts) else auth
        return own if own is None or self.app.impersonate is None else self.app.impersonate(own)

    @staticmethod
    def problems(app: App) -> list[str]:
        """What is wrong with settings and declarations, found without connecting to anything."""
        found: list[str] = []
        for check in (_check_secrets, Assembly):
            try:
                check(app)
            except TenfoldError as error:
                found.append(str(error))
        return found

    # ── life ──

    async def start(self, worker: bool) -> None:
        """Open everything, bottom up; what was opened is closed again when a later part fails."""
        # What the parts write of their own accord is not what a request or job has to see: their tasks share a
        # context, made here.
        with use(Context(operation="tenfold.parts")):
            await self._start(worker)

    async def _start(self, worker: bool) -> None:
        app, settings, life = self.app, self.settings, self._life
        _check_secrets(app)
        _make_folder(app.data_dir)
        await life.start("telemetry", self.telemetry)
        await life.start("databases", self._databases)
        caches = [*app.caches, self.response_cache]
        await life.start("caches", _Caches(caches, app.databases, settings, app.clock, self.telemetry))
        await life.start("mail", _Mail(self.mailer, settings, app.data_dir, app.clock, self.telemetry))
        await life.start("guards", self.guards)
        if isinstance(app.auth, Accounts):
            sessions = self.guards.sessions(app.auth.database)
            await life.start("accounts", _Accounts(app.auth, app, sessions))
        await life.start("queues", self.background)
        await life.start("switch", self._switch())
        await life.start("dependencies", _Dependencies(app.container))
        await life.start("calls", self.calls)
        await life.start("http", self.http)
        self._show_admission()
        for service_name, hooks in self._hooks:
            await life.start(f"hooks of {service_name}", hooks)
        if worker:
            await life.start("worker", self.background.worker)

    def _switch(self) -> Switch:
        """What moves the databases while the app runs; ``tenfold grow`` reaches it at the operations listener."""
        app = self.app
        switch = Switch(
            app.databases,
            self.background.queues,
            self.settings.database,
            app.data_dir,
            app.clock,
            self._databases.moved,
        )
        if app.databases:
            about = "Where the database is, and whether it is being moved."
            self.telemetry.pages.add("/grow", "Move of the database", about, SwitchPage(switch))
        return switch

    def _show_admission(self) -> None:
        gate = self.http.wiring.admission
        if gate is not None:
            prefix = names.HTTP_SHED.removesuffix("_shed_total")
            about = "Requests that found the process full: waiting for a place, or refused."
            self.telemetry.numbers(
                prefix, about, ({}, lambda: {"shed_total": gate.refused, "waiting": gate.waiting})
            )

    async def stop_worker(self) -> None:
        """Stop taking messages; hand back what cannot end in time."""
        await self.background.worker.stop()

    async def stop(self) -> None:
        """Close everything, top down."""
        await self._life.stop()


def _check_secrets(app: App) -> None:
    if isinstance(app.auth, Accounts):
        keys.check(app.settings.app)


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"the folder {path} cannot be made: {error.strerror or error}.", where="app.data_dir"
        ) from None


class _Databases:
    """One backend per URL, the databases bound to it, their tables made or checked."""

    def __init__(
        self, databases: list[Database], settings: Settings, data_dir: Path, clock: Clock, telemetry: Hub
    ) -> None:
        self._databases, self._settings = databases, settings
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
            await migrations.prepare(self._databases, self._mode())
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
            about = "Slow and repeated statements, missing and unused indexes."
            self._telemetry.pages.add("/database", "Database", about, FindingsPage(self._report))

    def _make(self, url: str, where: str = "database.replicas") -> DatabaseBackend:
        made: DatabaseBackend = backend_class("db", url, where=where).from_url(
            url, settings=self._settings.database, data_dir=self._data_dir, clock=self._clock
        )
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


class _Caches:
    """One backend for every cache; a commit's invalidations reach them all."""

    def __init__(
        self,
        caches: list[Cache],
        databases: list[Database],
        settings: Settings,
        clock: Clock,
        telemetry: Hub,
    ) -> None:
        self._caches, self._databases = caches, databases
        self._settings, self._clock, self._telemetry = settings, clock, telemetry
        self._backend: Any = None
        self._listening: list[Callable[[], None]] = []

    async def start(self) -> None:
        settings = self._settings.cache
        self._backend = backend_class("cache", settings.url, where="cache.url").from_url(
            settings.url, settings, self._clock
        )
        await self._backend.start()
        gate = LoadGate(settings.loads_max)
        for cache in self._caches:
            cache.bind(self._backend, self._clock, ttl_max_s=settings.ttl_max_s, gate=gate)
        self._listening = [follow(database, self._backend, self._caches) for database in self._databases]
        sources = [({"cache": cache.name}, cache.stats.numbers) for cache in self._caches]
        self._telemetry.numbers(names.CACHE_NUMBERS, "The caches of this process.", *sources)
        self._telemetry.numbers(
            names.CACHE_STORE, "The store that caches share.", ({}, lambda: self._store(gate))
        )

    def _store(self, gate: LoadGate) -> Mapping[str, int | float]:
        return {"loads_waiting": gate.waiting, **self._backend.numbers()}

    async def stop(self) -> None:
        while self._listening:
            self._listening.pop()()
        for cache in self._caches:
            await cache.unbind()
        await self._backend.stop()


class _Mail:
    def __init__(
        self, mailer: Mailer, settings: Settings, data_dir: Path, clock: Clock, telemetry: Hub
    ) -> None:
        self._mailer, self._settings = mailer, settings
        self._data_dir, self._clock, self._telemetry = data_dir, clock, telemetry

    async def start(self) -> None:
        self._mailer.bind(self._settings.mail, data_dir=self._data_dir, clock=self._clock)
        if not self._settings.mail.url:
            about = "Mails that this app wrote instead of sending them."
            self._telemetry.pages.add("/mailbox", "Mailbox", about, MailboxPage(self._data_dir / "mailbox"))

    async def stop(self) -> None:
        await self._mailer.stop()


class _Accounts:
    def __init__(self, accounts: Accounts, app: App, sessions: SessionStore) -> None:
        self._accounts, self._app, self._sessions = accounts, app, sessions

    async def start(self) -> None:
        app = self._app
        await self._accounts.bind(
            app.settings, data_dir=app.data_dir, clock=app.clock, name=app.name, sessions=self._sessions
        )

    async def stop(self) -> None:
        await self._accounts.stop()


class _Dependencies:
    """Singletons are made when first asked for, and cleaned up here."""

    def __init__(self, container: Container) -> None:
        self._container = container

    async def start(self) -> None:
        return

    async def stop(self) -> None:
        await self._container.clean_up()


class _Hooks:
    """One service's start and stop functions, with their dependencies."""

    def __init__(self, service: Service, container: Container) -> None:
        self._service = service.name
        self._starts = [(hook, container.plan_all(hook, {Context})) for hook in service.start_hooks]
        self._stops = [(hook, container.plan_all(hook, {Context})) for hook in service.stop_hooks]

    async def start(self) -> None:
        for hook, plan in self._starts:
            await self._run(hook, plan)

    async def stop(self) -> None:
        """Every one of them, last declared first; one that fails does not keep the others from running."""
        for hook, plan in reversed(self._stops):
            try:
                await self._run(hook, plan)
            except Exception:
                log.exception("%s failed", describe(hook))

    async def _run(self, hook: Callable[..., Awaitable[None]], plan: Plan) -> None:
        name = getattr(hook, "__name__", "hook")
        context = Context(
            service=self._service,
            operation=f"{self._service}.{name}",
            principal=service_principal(self._service),
        )
        with use(context):
            async with AsyncExitStack() as stack:
                await hook(**await plan.resolve({Context: context}, stack))
