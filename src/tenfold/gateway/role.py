"""An app in the role of a gateway: its callers and limits, and instead of its services the way to them."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING

from tenfold.client.options import Options
from tenfold.client.state import State
from tenfold.errors import ConfigError
from tenfold.gateway import api
from tenfold.gateway.entry import SERVICE, Gateway
from tenfold.gateway.routes import Routes
from tenfold.gateway.transport import PassingTransport
from tenfold.gateway.upstream import Upstream
from tenfold.rpc.discovery import Places, SettledPlaces
from tenfold.rpc.peer import EVERYWHERE, certificates
from tenfold.security.policy import public
from tenfold.service import Service

if TYPE_CHECKING:
    from tenfold._core.sections import PeerSettings
    from tenfold.app import App
    from tenfold.guard.overrides import Adjustable


def adjustables(app: App) -> list[Adjustable]:
    """What of its gateway's routes may be changed while it runs, for a process that is none. Raises ConfigError."""
    return _made(app, Routes(app.settings.gateway.routes), _Links(app, None)).adjustables


def stand_in_front(app: App, *, docs: bool = True, places: Places | None = None) -> Gateway:
    """Let ``app``, which is configured and has not started, serve the routes of ``[gateway.routes]`` and none of its own
    operations. ``docs``: serve the API document of the services; the app's own must be off (``http.docs``).

    Raises :class:`ConfigError` for routes that cannot work, and for a service that nothing says the place of.
    """
    settings = app.settings.gateway
    if not settings.routes:
        raise ConfigError(
            "a gateway without routes serves nothing.",
            where="gateway.routes",
            remedy='Write [gateway.routes.orders] with path = "/orders" and service = "orders".',
        )
    routes = Routes(settings.routes)
    _check(app, routes, known=places is not None)
    gateway = _made(app, routes, _Links(app, places))
    service = Service(SERVICE)
    service.mount("", gateway, auth=public)
    if docs:
        document = api.Api(
            routes,
            lambda name, path, timeout_s: gateway.upstream(name).fetch(path, timeout_s),
            app.clock,
            title=app.name,
            version=app.version,
        )
        service.operations += api.operations(document)
    app.services, app.elsewhere, app.fronts = (service,), app.everywhere, True
    return gateway


def _made(app: App, routes: Routes, links: _Links) -> Gateway:
    return Gateway(
        routes,
        running=lambda: app.assembly,
        reach=links.reach,
        stop=links.stop,
        cache_body_max_bytes=app.settings.gateway.cache_body_max_bytes,
    )


def _check(app: App, routes: Routes, *, known: bool) -> None:
    settings, peers = app.settings, _peers(app)
    if SERVICE in [service.name for service in app.everywhere]:
        raise ConfigError(
            f"the app has a service {SERVICE!r}, which is the role's own name.", where="gateway"
        )
    for route in routes.ordered:
        where = f"gateway.routes.{route.name}"
        if route.options.auth == "required" and app.auth is None:
            raise ConfigError(
                "the app recognises nobody.", where=f"{where}.auth", remedy="Write App(…, auth=…)."
            )
        for name in route.services:
            if not known and not (name in peers and peers[name].url):
                raise ConfigError(
                    f"nothing says where the service {name!r} is.",
                    where=where,
                    remedy=f'Write url = "http://…" under [services.{name}], or under [gateway.services.{name}] '
                    "where it is no service of the app.",
                )
    if settings.http.docs:
        raise ConfigError(
            "the document of the app stands where that of all services belongs.", where="http.docs"
        )


def _peers(app: App) -> dict[str, PeerSettings]:
    return {**app.settings.peers, **app.settings.gateway.services}


class _Links:
    """What sends to the services, made when first needed."""

    def __init__(self, app: App, places: Places | None) -> None:
        self._app = app
        self._places = places or SettledPlaces(_peers(app), app.clock)
        self._states: list[State] = []

    def reach(self, service: str) -> Upstream:
        app, running = self._app, self._app.assembly
        families, peers = running.clients.families, _peers(app)
        options = self._options()
        trusted: ssl.SSLContext | None = running.identity.client_context(service)
        if trusted is None and service in peers:
            trusted = certificates(service, peers[service].ca_file)
        state = State(
            service,
            options,
            app.clock,
            transport=PassingTransport(idle_max=options.concurrency, context=trusted),
            metrics=families.of(service),
            span_id=running.telemetry.tracer.span_id,
            caller=app.name,
            base=None,
            headers={},
            allowed=EVERYWHERE,
            plain_http=True,
        )
        families.follow(state)
        self._states.append(state)
        return Upstream(service, state, self._places, trusted)

    def _options(self) -> Options:
        settings = self._app.settings
        return Options(
            timeout_s=settings.http.timeout_s,
            connect_timeout_s=settings.gateway.connect_timeout_s,
            read_timeout_s=settings.gateway.silence_s,
            concurrency=settings.gateway.concurrency,
            waiting_max=settings.http.waiting_max,
            attempts=settings.gateway.attempts,
            retry_share=settings.gateway.retry_share,
        )

    async def stop(self) -> None:
        states, self._states = self._states, []
        await asyncio.gather(*(state.transport.stop() for state in states), self._places.stop())
