"""The clients of an app, and of the services elsewhere, as one part: declarations and settings become something that sends."""

from __future__ import annotations

import ipaddress
import ssl
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tenfold._core.sections import ClientSettings
from tenfold._core.text import nearest
from tenfold.client.metrics import Families
from tenfold.client.state import State
from tenfold.errors import ConfigError
from tenfold.guard.addresses import Place, networks, place_of, refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tenfold.app import App
    from tenfold.client.client import HttpClient
    from tenfold.rpc.peer import Peer
    from tenfold.telemetry.hub import Hub

_NOTHING = ClientSettings()
_LOOPBACK = (ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1"))
"""What ``localhost`` stands for (RFC 6761 § 6.3)."""


class ClientsPart:
    """Checks everything when it is made, opens nothing before it starts. Raises :class:`ConfigError`."""

    def __init__(self, app: App, telemetry: Hub, peers: Mapping[str, Peer]) -> None:
        self._app, self._clients = app.name, app.clients
        self._clock, self._telemetry = app.clock, telemetry
        self._settings = app.settings
        self._peers = list(peers.values())
        known = [client.name for service in app.everywhere for client in service.clients]
        for name in self._settings.clients:
            if name not in known:
                raise ConfigError(
                    f"there is no client {name!r}.",
                    where=f"clients.{name}",
                    remedy=nearest(name, known).strip(),
                )
        for client in self._clients:
            client.check()
            self._wired(client)

    def _wired(self, client: HttpClient) -> _Wired:
        said = self._settings.clients.get(client.name, _NOTHING)
        return _Wired(client, said, production=self._settings.app.env == "production")

    @cached_property
    def families(self) -> Families:
        """The metrics of all clients."""
        return Families(self._telemetry.registry)

    async def start(self) -> None:
        if not self._clients and not self._peers:
            return
        families = self.families
        for peer in self._peers:
            peer.start(families)
        if not self._clients:
            return
        from tenfold.client.transport import HttpTransport

        for client in self._clients:
            wired = self._wired(client)
            options = client.declared.over(wired.settings)
            state = State(
                client.name,
                options,
                self._clock,
                transport=HttpTransport(
                    wired.allowed, idle_max=options.concurrency, context=wired.certificates()
                ),
                metrics=families.of(client.name),
                span_id=self._telemetry.tracer.span_id,
                caller=self._app,
                base=wired.base,
                headers=wired.headers,
                allowed=wired.allowed,
                plain_http=wired.plain_http,
            )
            families.follow(state)
            client.bind(state)

    async def stop(self) -> None:
        for client in self._clients:
            await client.stop()
        for peer in self._peers:
            await peer.stop()


class _Wired:
    """One client with its settings, checked."""

    def __init__(self, client: HttpClient, settings: ClientSettings, *, production: bool) -> None:
        self.settings, self._where = settings, f"clients.{client.name}"
        self.allowed = self._checked(lambda: networks(settings.allow), "allow", 'Write ["10.1.0.0/16"].')
        url = settings.url or client.url
        if settings.url and not client.url:
            raise ConfigError(
                "this client is declared without a URL: it takes whole ones.", where=f"{self._where}.url"
            )
        plain = url.startswith("http://") if url else not production
        self.plain_http = plain if settings.plain_http is None else settings.plain_http
        self.base: Place | None = self._base(url) if url else None
        self.headers = dict(client.headers)
        if settings.token:
            self.headers["Authorization"] = f"Bearer {settings.token}"

    def _base(self, url: str) -> Place:
        where = f"{self._where}.url"
        allow = f"If it is meant to be called, allow its network under [{self._where}]: allow = "
        try:
            place = place_of(url, plain_http=self.plain_http, allowed=self.allowed)
        except ValueError as error:
            remedy = allow + '["10.1.0.0/16"].' if "public addresses" in str(error) else ""
            raise ConfigError(f"{url!r} cannot be called: {error}", where=where, remedy=remedy) from None
        if "?" in place.target:
            raise ConfigError("it has a query (?…).", where=where)
        if place.host.rpartition(".")[2] == "localhost" and all(refusal(a, self.allowed) for a in _LOOPBACK):
            remedy = allow + '["127.0.0.1", "::1"].'
            raise ConfigError("it is this machine, which is not public.", where=where, remedy=remedy)
        return place

    def certificates(self) -> ssl.SSLContext | None:
        """Whom to trust; None for whom the system trusts. Raises :class:`ConfigError`."""
        file = self.settings.ca_file
        if not file:
            return None
        try:
            return ssl.create_default_context(cafile=file)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"{file} has no certificates that can be read: {error}.", where=f"{self._where}.ca_file"
            ) from None

    def _checked(self, make: Callable[[], Any], name: str, remedy: str) -> Any:
        try:
            return make()
        except ValueError as error:
            raise ConfigError(str(error), where=f"{self._where}.{name}", remedy=remedy) from None
