"""App: the composition root. Services and settings go in; something that runs comes out.

``App`` is an ASGI application. Making one touches nothing: no file, socket or thread. :meth:`App.start` reads the
settings, connects the databases, applies or checks migrations, and starts the worker; :meth:`App.stop` undoes it
in reverse. A server that speaks ASGI lifespan does both; without lifespan the first request starts the app.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, MutableMapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from typing_extensions import Unpack

from tenfold._core import settings as settings_module
from tenfold._core.clock import Clock, SystemClock
from tenfold._core.container import Container
from tenfold._core.loading import keep_started
from tenfold._core.sections import Settings
from tenfold._core.settings import Loaded
from tenfold._core.text import nearest
from tenfold.assembly import Assembly
from tenfold.errors import ConfigError, DeclarationError, NotBound
from tenfold.http.policies import Layers, Shared, SharedOptions, check
from tenfold.telemetry.ops import not_running

if TYPE_CHECKING:
    from tenfold.assembly.background import Work
    from tenfold.cache.cache import Cache
    from tenfold.client.client import HttpClient
    from tenfold.db.database import Database
    from tenfold.guard.rates import Limit
    from tenfold.http.docs import Docs
    from tenfold.http.operation import Operation
    from tenfold.jobs.job import Job
    from tenfold.rpc.door import Identity
    from tenfold.security.accounts import Accounts
    from tenfold.security.authenticator import Authenticator
    from tenfold.service import Service
    from tenfold.telemetry.log import Logging
    from tenfold.telemetry.ops import Front
    from tenfold.testing.app import Jobs, TestApp

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


# Assembly is imported whole, although commands that only look at an app need none of it: with it come the framework's own
# tables, which migrations have to know.


class App:
    """A backend: ``App("shop", [accounts, catalog, orders])``.

    ``auth`` recognises callers: an :class:`~tenfold.security.accounts.Accounts` or any
    :class:`~tenfold.security.authenticator.Authenticator`. ``limit`` is a rate limit that all operations share, besides
    those of their services and their own; ``timeout_s``, ``priority``, ``concurrency``, ``idempotent``,
    ``slo`` and ``body_max_bytes`` are those of operations whose service says nothing of them either. ``tenant_weight`` says how
    many turns a tenant has, where tenants take turns under pressure, for every one of a tenant of weight 1 (from 0.01
    to 1000; it is asked once for each while its answer is remembered, and must not wait). ``version`` and ``description`` appear in the OpenAPI
    document. Raises :class:`DeclarationError` for services, jobs or topics that share a name.
    """

    def __init__(
        self,
        name: str,
        services: Sequence[Service],
        *,
        auth: Accounts | Authenticator | None = None,
        tenant_weight: Callable[[str], float] | None = None,
        version: str = "0.1.0",
        description: str = "",
        clock: Clock | None = None,
        **policies: Unpack[SharedOptions],
    ) -> None:
        self.name = name
        self.services = tuple(services)
        """Those that this process serves: all, unless :meth:`serve_only` says otherwise."""
        self.elsewhere: tuple[Service, ...] = ()
        """The others. Calls of their operations go to the processes that serve them."""
        self.work: Work = "all"
        """What a process that works does: everything, or nothing but moving events to and from the broker, or nothing
        but letting schedules tick. Before :meth:`start`."""
        self.answers = True
        """Whether it takes requests of others; a process that only works does not."""
        self.fronts = False
        """Whether this process is the gateway in front of the services: it calls none of them in a name of its own."""
        self.identity: Identity | None = None
        """Proves to services elsewhere who calls, and tells of their calls who makes them."""
        self.auth = auth
        self.tenant_weight = tenant_weight
        self.policies = Shared(**cast("dict[str, Any]", policies))
        """What the operations of all services inherit."""
        check(self.policies, f"app {name}")
        self.version = version
        self.description = description
        self.clock: Clock = clock or SystemClock()
        self.container = Container()
        self.logging: Logging | None = None
        """Set by whoever owns the process's log (``tenfold run``); gives the app its access log."""
        self.dashboard: Callable[[App], Front] | None = None
        """Set by whoever owns the process (``tenfold run``, :func:`tenfold.dashboard.attach`): makes the pages for people
        at the operations listener."""
        self.impersonate: Callable[[Authenticator], Authenticator] | None = None
        """Wraps the authenticator at start, so that tests can act as anybody."""
        self._loaded: Loaded | None = None
        self._assembly: Assembly | None = None
        self._turn: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None
        _refuse_twins("service", [service.name for service in services])
        _refuse_twins("job", [job.name for job in self.jobs])
        _refuse_twins("client", [client.name for client in self.clients])
        _refuse_twins("topic", [topic.name for service in services for topic in service.topics])

    def __repr__(self) -> str:
        return f"<App {self.name}: {', '.join(service.name for service in self.services)}>"

    # ── what it is made of ──

    @property
    def operations(self) -> list[Operation[..., Any]]:
        """Every operation of every service, in the order of declaration."""
        return [operation for service in self.services for operation in service.operations]

    @property
    def jobs(self) -> list[Job[..., Any]]:
        return [job for service in self.services for job in service.jobs]

    @property
    def databases(self) -> list[Database]:
        """Those of the services here; in front of all services, also the one that callers are recognised by."""
        found = [database for service in self.services for database in service.databases]
        own = getattr(self.auth, "database", None) if self.fronts else None
        return [*found, own] if own is not None else found

    @property
    def caches(self) -> list[Cache]:
        return [cache for service in self.services for cache in service.caches]

    @property
    def limits(self) -> dict[str, list[tuple[str, Limit]]]:
        """By service: the limits that all its operations have, each with the name of who declared it."""
        own = [("app", self.policies.limit)] if self.policies.limit else []
        return {
            s.name: [*own, *([(f"service {s.name}", s.policies.limit)] if s.policies.limit else [])]
            for s in self.services
        }

    @property
    def inherited(self) -> dict[str, Layers]:
        """By service: who else may say which policies its operations have, the nearest first."""
        return {s.name: ((f"service {s.name}", s.policies), ("app", self.policies)) for s in self.everywhere}

    @property
    def clients(self) -> list[HttpClient]:
        """For calls out."""
        return [client for service in self.services for client in service.clients]

    def service(self, name: str) -> Service:
        """The service of that name. Raises KeyError with the nearest name."""
        for service in self.everywhere:
            if service.name == name:
                return service
        names = [service.name for service in self.everywhere]
        raise KeyError(f"There is no service {name!r}.{nearest(name, names)}")

    @property
    def everywhere(self) -> tuple[Service, ...]:
        """All services of the app, wherever they run."""
        return (*self.services, *self.elsewhere)

    def serve_only(self, *names: str) -> None:
        """Serve these services in this process, and call the others where they are (``[services.NAME] url``); without
        names, serve all. Before :meth:`start`. Raises ConfigError for a name that no service has.

        Routes, jobs, subscribers, schedules and hooks of a service run where it is served.
        """
        if self.started:
            raise DeclarationError("what it serves is said before it starts.", where=f"app {self.name}")
        declared = self.everywhere
        known = [service.name for service in declared]
        for name in names:
            if name not in known:
                raise ConfigError(
                    f"there is no service {name!r}.{nearest(name, known)}",
                    where="--service",
                    remedy=f"The app has {', '.join(known)}.",
                )
        self.services = tuple(s for s in declared if not names or s.name in names)
        self.elsewhere = tuple(s for s in declared if s not in self.services)

    # ── settings ──

    def configure(
        self, file: Path | None = None, *, environ: Mapping[str, str] | None = None, **overrides: Any
    ) -> Loaded:
        """Read ``tenfold.toml`` and ``TENFOLD_…`` variables; ``overrides`` are paths with ``__`` for dots.

        Called by :meth:`start` when nobody did before. Raises :class:`ConfigError`.
        """
        own = {service.name: service.settings_type for service in self.everywhere}
        dotted = {path.replace("__", "."): value for path, value in overrides.items()}
        self._loaded = settings_module.load(file, environ=environ, overrides=dotted, services=own)
        return self._loaded

    @property
    def settings(self) -> Settings:
        """What this app runs with; reads them when nobody configured it."""
        return self.loaded.settings

    @property
    def loaded(self) -> Loaded:
        """The settings with the source of every value."""
        return self._loaded or self.configure()

    @property
    def data_dir(self) -> Path:
        """Folder of everything the embedded backends keep."""
        return Path(self.settings.app.data_dir)

    # ── life ──

    @property
    def assembly(self) -> Assembly:
        """The running parts. Raises :class:`NotBound` before :meth:`start`."""
        if self._assembly is None:
            raise NotBound(f"app {self.name!r} has not started; run it, or use `async with app.lifespan()`.")
        return self._assembly

    @property
    def started(self) -> bool:
        return self._assembly is not None

    async def start(self, *, worker: bool | None = None) -> None:
        """Connect, migrate, start. ``worker`` overrides the setting ``worker.enabled``. Again is harmless."""
        async with self._one_at_a_time():
            if self._assembly is None:
                assembly = Assembly(self)
                await assembly.start(self.settings.worker.enabled if worker is None else worker)
                self._assembly = assembly
                if self.dashboard is not None:
                    assembly.ops.front = self.dashboard(self)
                keep_started()

    async def stop(self) -> None:
        """Stop every part, last started first. Again is harmless."""
        async with self._one_at_a_time():
            assembly, self._assembly = self._assembly, None
            if assembly is not None:
                await assembly.stop()

    def _one_at_a_time(self) -> asyncio.Lock:
        """Starting and stopping take turns. A lock belongs to its loop, and an app may outlive several (tests)."""
        loop = asyncio.get_running_loop()
        if self._turn is None or self._turn[0] is not loop:
            self._turn = loop, asyncio.Lock()
        return self._turn[1]

    async def stop_worker(self) -> None:
        """Hand unfinished jobs back and take no more, while requests are still answered."""
        if self._assembly is not None:
            await self._assembly.stop_worker()

    @asynccontextmanager
    async def lifespan(self, _outer: Any = None) -> AsyncGenerator[None]:
        """``async with app.lifespan():`` runs the app; also the ``lifespan=`` of a FastAPI or Starlette app
        that mounts this one."""
        await self.start()
        try:
            yield  # nothing: Starlette would take a value for state of its requests
        finally:
            await self.stop()

    @property
    def draining(self) -> bool:
        """Whether the process is about to stop: not ready, answers ``Connection: close``."""
        return self._assembly is not None and self._assembly.checks.draining

    @draining.setter
    def draining(self, value: bool) -> None:
        self.assembly.checks.draining = value

    def test(
        self, *, jobs: Jobs = "inline", raise_errors: bool = True, network: bool = False, **settings: Any
    ) -> TestApp:
        """This app for a test: ``async with app.test() as t:``; see :class:`~tenfold.testing.TestApp`."""
        from tenfold.testing import TestApp

        return TestApp(self, jobs=jobs, raise_errors=raise_errors, network=network, **settings)

    def check(self) -> list[str]:
        """Everything that can be found wrong without starting: one sentence each, none when all is well."""
        return [] if self.started else Assembly.problems(self)

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI 3.1 document; needs nothing running."""
        return self._docs.document

    def asyncapi(self) -> dict[str, Any]:
        """The AsyncAPI 3.0 document of topics and subscribers; needs nothing running."""
        return self._docs.events

    @property
    def _docs(self) -> Docs:
        return (self._assembly or Assembly(self)).docs

    # ── entries ──

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "lifespan":
            await self._serve_lifespan(receive, send)
            return
        if self._assembly is None:
            await self.start()
            assert self._assembly is not None
        await self._assembly.http(scope, receive, send)

    async def ops(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI application of the operations listener: metrics, health, pages; 503 before the start and after the end."""
        if self._assembly is None:
            await not_running(scope, send)
        else:
            await self._assembly.ops(scope, receive, send)

    @property
    def speaks_rsgi(self) -> bool:
        """Whether every part can be served over RSGI: mounted applications and WebSockets need ASGI."""
        return not any(service.mounts or service.websockets for service in self.services)

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        if not loop.is_running():  # a server of its own; inside ours, the runtime has started the app
            loop.run_until_complete(self.start())

    def __rsgi_del__(self, loop: asyncio.AbstractEventLoop) -> None:
        if not loop.is_running():
            loop.run_until_complete(self.stop())

    def __rsgi__(self, scope: Any, protocol: Any) -> Awaitable[None]:
        """Granian's own protocol, a thinner entry than ASGI."""
        if self._assembly is None:
            return self._first_rsgi(scope, protocol)
        return self._assembly.rsgi.__rsgi__(scope, protocol)

    async def _first_rsgi(self, scope: Any, protocol: Any) -> None:
        await self.start()
        await self.assembly.rsgi.__rsgi__(scope, protocol)

    async def _serve_lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        ours = not self.started  # who has started it otherwise stops it too
        try:
            await self.start()
        except Exception as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            raise
        await send({"type": "lifespan.startup.complete"})
        await receive()
        if ours:
            await self.stop()
        await send({"type": "lifespan.shutdown.complete"})


def _refuse_twins(kind: str, names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise DeclarationError(
                f"there is more than one {kind} named {name!r}.", where="App", remedy="Rename one of them."
            )
