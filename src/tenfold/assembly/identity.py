"""Who the services of a process are, as a part of an app."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from tenfold.errors import ConfigError
from tenfold.security.identity.identity import Identity
from tenfold.security.identity.names import GATEWAY, IN_FRONT
from tenfold.telemetry import names

if TYPE_CHECKING:
    from tenfold.app import App
    from tenfold.rpc.door import Identity as Proves
    from tenfold.security.identity.edges import Edges
    from tenfold.telemetry.hub import Hub

ISSUE = "Run: tenfold identity issue"


class IdentityPart:
    """``proves`` is what calls are signed and judged by: that of ``[identity] folder``, unless the app was given one;
    None where there is neither."""

    def __init__(self, app: App, edges: Edges, telemetry: Hub) -> None:
        self._app, self._telemetry = app, telemetry
        settings, served = app.settings.identity, [service.name for service in app.services]
        self._own: Identity | None = None
        if app.identity is None and settings.folder and (settings.tls or not app.fronts):
            folder = app.data_dir / settings.folder
            shown = [GATEWAY] if app.fronts else served if app.answers or app.elsewhere else []
            self._own = Identity(
                settings, folder, app.name, [] if app.fronts else served, shown, edges, app.clock
            )
        self.proves: Proves | None = app.identity or (None if app.fronts else self._own)

    async def start(self) -> None:
        """Raises ConfigError for keys and certificates that are missing or bad, and for a process of some of the
        services without any in production."""
        app = self._app
        if self.proves is None and app.elsewhere and not app.fronts and app.settings.app.env == "production":
            raise ConfigError(
                "services in processes of their own have to prove who they are in production.",
                where="identity.folder",
                remedy=f'{ISSUE}, and set [identity] folder = "identity".',
            )
        if self._own is None:
            if app.settings.identity.tls and app.identity is None:
                raise ConfigError(
                    "mutual TLS needs certificates.",
                    where="identity.folder",
                    remedy=f'{ISSUE} --tls, and set [identity] folder = "identity".',
                )
            return
        if app.settings.identity.tls:
            self._check_names()
            self._check_urls()
        await self._own.start()
        about = "Keys and certificate of this process."
        self._telemetry.numbers(names.IDENTITY, about, ({}, self._own.numbers))

    async def stop(self) -> None:
        if self._own is not None:
            await self._own.stop()

    def client_context(self, callee: str) -> ssl.SSLContext | None:
        """What to call a service by; None where connections are not to be mutual TLS. A backend of a gateway that is no
        service of the app has a name among services only where its settings say so."""
        app = self._app
        ours = [service.name for service in app.everywhere]
        peer = app.settings.peers.get(callee) if callee in ours else app.settings.gateway.services.get(callee)
        name = (peer.identity if peer is not None else "") or (callee if callee in ours else "")
        return self._own.client_context(name) if self._own is not None and name else None

    def server_context(self) -> ssl.SSLContext | None:
        """What the public listener of a process that serves some of the services takes connections by; None: as they
        come."""
        # Whoever comes to a gateway has no certificate of ours.
        calls = self._app.elsewhere and not self._app.fronts
        return self._own.server_context() if self._own is not None and calls else None

    def _check_names(self) -> None:
        for name in IN_FRONT:
            if name in [service.name for service in self._app.services] and not self._app.fronts:
                raise ConfigError(
                    f"a service of the name {name!r} would be taken for what stands in front of services.",
                    where="identity.tls",
                    remedy="Rename it.",
                )

    def _check_urls(self) -> None:
        for name, peer in self._app.settings.peers.items():
            urls = peer.url.split(",") if isinstance(peer.url, str) else peer.url
            for url in urls:
                if url.strip().partition("://")[0].rpartition("+")[2] == "http":
                    raise ConfigError(
                        "calls would go there without TLS, which identity.tls asks for.",
                        where=f"services.{name}.url",
                        remedy="Write https:// for it.",
                    )
