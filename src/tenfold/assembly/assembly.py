"""``Assembly(app)`` connects nothing: it plans dependencies and compiles every operation, so whatever is wrong with
the declarations is found there. :meth:`Assembly.start` opens what the parts stand on, from the bottom up.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tenfold._core.clock import Clock
from tenfold._core.context import Context, use
from tenfold._core.fairness import Weights
from tenfold._core.lifecycle import Lifecycle
from tenfold._core.sections import Settings
from tenfold.assembly.adjusting import Changes, overrides_of
from tenfold.assembly.admission import pressure_of, show_admission, station_of
from tenfold.assembly.alerts import watch_of
from tenfold.assembly.background import Background
from tenfold.assembly.caches import CachesPart
from tenfold.assembly.clients import ClientsPart
from tenfold.assembly.databases import DatabasesPart
from tenfold.assembly.elsewhere import Elsewhere
from tenfold.assembly.eventstores import EventStores
from tenfold.assembly.guards import Guards
from tenfold.assembly.identity import IdentityPart
from tenfold.assembly.ownership import OwnershipPart, owned_by
from tenfold.assembly.parts import DependenciesPart, HooksPart, MailPart
from tenfold.assembly.policies import PoliciesPart
from tenfold.assembly.recognition import Recognition
from tenfold.assembly.switch import Switch
from tenfold.assembly.switch_page import SwitchPage
from tenfold.cache.cache import Cache
from tenfold.cache.response import ResponseStore
from tenfold.errors import ConfigError, MissingExtra, TenfoldError
from tenfold.guard.lease import Leases
from tenfold.guard.limiter import RateLimiter
from tenfold.http.asgi import HttpApp
from tenfold.http.asgi import Mount as HttpMount
from tenfold.http.causal import Tokens
from tenfold.http.docs import Docs
from tenfold.http.middleware import Edge
from tenfold.http.rsgi import RsgiApp
from tenfold.http.websocket import WebSocketApp
from tenfold.mail.mailer import Mailer
from tenfold.security import keys
from tenfold.security.accounts import Accounts
from tenfold.security.identity.edges import Edges
from tenfold.security.identity.refusals import Refusals
from tenfold.telemetry.hub import Hub
from tenfold.telemetry.ops import OpsApp

if TYPE_CHECKING:
    from tenfold.app import App

log = logging.getLogger("tenfold.app")


class Assembly:
    """The parts of one running app."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.settings: Settings = app.settings
        self._life = Lifecycle(self.settings.app.stop_timeout_s)
        self.telemetry = Hub(app.name, self.settings, app.clock, app.logging, app.data_dir)
        self.checks = self.telemetry.checks
        self.mailer = Mailer()
        self.alerts = watch_of(app, self.telemetry, self.mailer)
        """Looks at the rules and tells people; None where no telemetry is kept."""
        self.response_cache = Cache("tenfold.responses")
        self.weights = Weights(
            {name: one.weight for name, one in self.settings.tenants.items()}, app.tenant_weight
        )
        self.guards = Guards(app, self.telemetry)
        self._provide()
        self._limits = app.limits
        self.http = self._http()
        self.rsgi = RsgiApp(self.http)
        self.background = Background(app, self.telemetry, pressure_of(self.http.wiring.admission))
        self.eventstores = EventStores(app, self.telemetry)
        self.databases = DatabasesPart(
            app.databases,
            self.settings,
            app.data_dir,
            app.clock,
            self.telemetry,
            self.weights.of,
            unused=set() if app.fronts else {t.name for o in owned_by(app, app.elsewhere) for t in o.tables},
        )
        self.recognition = Recognition(app)
        self.edges = Edges(app, self.recognition.open)
        self.refusals = Refusals(self.telemetry.registry, app.clock)
        self.identity = IdentityPart(app, self.edges, self.telemetry)
        self.elsewhere = Elsewhere(app, self.telemetry, self.identity)
        self.calls = self.elsewhere.calls(self.http, self.edges, self.refusals, self.recognition.operation)
        changes = Changes(self.http, self.calls, self._limits)
        self.overrides = overrides_of(app, changes)
        self.policies = PoliciesPart(app, self.overrides, changes, self.telemetry)
        self.clients = ClientsPart(app, self.telemetry, self.elsewhere.peers)
        self._hooks = [(service.name, HooksPart(service, app.container)) for service in app.services]
        self.ops = OpsApp(
            self.telemetry.registry,
            self.checks,
            self.telemetry.pages,
            self.settings.ops.token,
            app.clock,
            host=self.settings.ops.host,
            read_token=self.settings.ops.read_token,
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
        for service in app.everywhere:  # what fills parameters of operations elsewhere is known here, too
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
            limits=self._limits,
            inherited=app.inherited,
            response_cache=ResponseStore(self.response_cache),
            causal=Tokens(self.settings.database.lag_max_s) if self.settings.database.replicas else None,
            edge=Edge(self.settings),
            weight_of=self.weights.of,
            calls_out=bool(app.clients or app.elsewhere),
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
            topics=[topic for service in app.services for topic in service.topics],
            subscriptions=[each for service in app.services for each in service.subscriptions],
            broker=self.settings.events.url,
            prefix=self.settings.events.prefix,
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
        for check in (_check_secrets, _check_webhooks, Assembly):
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
        await life.start("identity", self.identity)
        await life.start("databases", self.databases)
        await life.start("ownership", OwnershipPart(app))
        caches = [*app.caches, self.response_cache]
        shared = CachesPart(caches, app.databases, settings, app.clock, self.telemetry, self.weights.of)
        await life.start("caches", shared)
        await life.start("mail", MailPart(self.mailer, settings, app.data_dir, app.clock, self.telemetry))
        await life.start("guards", self.guards)
        if (recognising := self.recognition.part(self.guards)) is not None:
            await life.start("accounts", recognising)
        await life.start("queues", self.background)
        await life.start("event stores", self.eventstores)
        await life.start("switch", self._switch())
        await life.start("dependencies", DependenciesPart(app.container))
        await life.start("services elsewhere", self.elsewhere)
        await life.start("calls", self.calls)
        await life.start("clients", self.clients)
        await life.start("http", self.http)
        self._show_admission()
        await life.start("policies", self.policies)
        self.policies.show_bulkheads(self.http.wiring)
        if self.alerts is not None:
            await life.start("alerts", self.alerts)
        for service_name, hooks in self._hooks:
            await life.start(f"hooks of {service_name}", hooks)
        if worker:
            await life.start("worker", self.background.worker)
            if app.work == "all":
                await life.start("projections", self.eventstores.followers)

    def _switch(self) -> Switch:
        """What moves the databases while the app runs; ``tenfold grow`` reaches it at the operations listener."""
        app = self.app
        switch = Switch(
            app.databases,
            self.background.queues,
            self.settings.database,
            app.data_dir,
            app.clock,
            self.databases.moved,
        )
        if app.databases:
            about = "Where the database is, and whether it is being moved."
            self.telemetry.pages.add("/grow", "Move of the database", about, SwitchPage(switch))
        return switch

    def _show_admission(self) -> None:
        gate = self.http.wiring.admission
        if gate is not None:
            show_admission(gate, self.telemetry)
            for database in self.app.databases:
                gate.add_station(station_of(database))

    async def stop_worker(self) -> None:
        """Stop taking messages; hand back what cannot end in time."""
        await self.eventstores.followers.stop()
        await self.background.worker.stop()

    async def stop(self) -> None:
        """Close everything, top down."""
        await self._life.stop()


def _check_secrets(app: App) -> None:
    if isinstance(app.auth, Accounts) and app.auth.database in app.databases:
        keys.check(app.settings.app)


def _check_webhooks(app: App) -> None:
    if not any(service.webhooks_out for service in app.services):
        return
    from tenfold.webhooks import outgoing

    outgoing.check_networks(app.settings)
    if sentence := outgoing.missing_library():
        raise MissingExtra(f"webhooks: {sentence}")


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"the folder {path} cannot be made: {error.strerror or error}.", where="app.data_dir"
        ) from None
