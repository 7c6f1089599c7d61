"""An app's guards: rate limits, leases, idempotency keys and sessions, in the store that ``[guard] url`` names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tenfold._core.resolve import backend_class
from tenfold.errors import DeclarationError
from tenfold.guard.backends._sql import DatabaseGuards
from tenfold.guard.contract import GuardBackend, GuardStores
from tenfold.guard.idempotency import IdempotencyGuard
from tenfold.guard.lease import Leases
from tenfold.guard.limiter import RateLimiter
from tenfold.telemetry import names

if TYPE_CHECKING:
    from tenfold.app import App
    from tenfold.db.database import Database
    from tenfold.security.sessions import SessionStore
    from tenfold.telemetry.hub import Hub

ALONE = "memory:"
"""Where an app without a database keeps them when nothing is said."""


class Guards:
    """A part, made before anything connects. ``limiter`` and ``leases`` are injected by type."""

    def __init__(self, app: App, telemetry: Hub) -> None:
        settings = app.settings.guard
        self._app, self._telemetry = app, telemetry
        self._databases: dict[str, Database] = {d.name: d for d in app.databases}
        self._backend: GuardBackend | None = None
        url = settings.url or ("" if self._databases else ALONE)
        if url:
            self._backend = backend_class("guard", url, where="guard.url").from_url(
                url, settings=settings, clock=app.clock
            )
        self._stores: GuardStores = self._backend or DatabaseGuards(app.databases[0])
        self._guards: dict[str, IdempotencyGuard] = {}
        self.limiter = RateLimiter(
            self._stores.limits(),
            app.clock,
            away=settings.away,
            timeout_s=settings.timeout_s,
            lease_s=settings.lease_s,
        )
        self.leases = Leases(self._stores.leases(), app.clock)
        self._check()

    def idempotency(self, service: str) -> IdempotencyGuard:
        """The keys of a service's operations; beside their effects, unless ``guard.url`` says otherwise.

        Raises DeclarationError for a service without a database then.
        """
        if service not in self._guards:
            database = self._databases.get(service)
            if database is None and not self._app.settings.guard.url:
                raise DeclarationError(
                    "an idempotent operation keeps its keys in the service's database, and there is none.",
                    where=f"service {service}",
                    remedy="Declare one: db = service.database(metadata). Or set guard.url.",
                )
            self._guards[service] = IdempotencyGuard(self._stores.idempotency(database), self._app.clock)
        return self._guards[service]

    def sessions(self, accounts: Database) -> SessionStore:
        """Where the sessions of the accounts in this database are."""
        stores = self._stores if self._app.settings.guard.url else DatabaseGuards(accounts)
        return stores.sessions(accounts)

    async def start(self) -> None:
        if self._backend is not None:
            await self._backend.start()
        for guard in self._guards.values():
            await guard.start()
        await self.limiter.start()
        about = "Requests and other work that rate limits counted in this process."
        self._telemetry.numbers(names.LIMIT_NUMBERS, about, ({}, self.limiter.numbers))

    async def stop(self) -> None:
        await self.limiter.stop()
        for guard in self._guards.values():
            await guard.stop()
        if self._backend is not None:
            await self._backend.stop()

    def _check(self) -> None:
        """In production each process by itself would not be what a limit says."""
        app = self._app
        if app.settings.app.env != "production" or app.settings.guard.url or self._databases:
            return
        limited = [f"{o.method} {o.path}" for o in app.operations if o.policies.limit]
        if limited or any(app.limits.values()):
            raise DeclarationError(
                "its rate limits are counted in the app's database, and there is none.",
                where=limited[0] if limited else f"app {app.name}",
                remedy='Set guard.url: "redis://…", or "memory:" when each process may count by itself.',
            )
