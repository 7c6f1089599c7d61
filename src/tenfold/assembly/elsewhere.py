"""What connects an app that serves some of its services to the others."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from tenfold.rpc.binding import Calls
from tenfold.rpc.declared import DeclaredCalls
from tenfold.rpc.discovery import SettledPlaces
from tenfold.rpc.door import Door
from tenfold.rpc.peer import Peer

if TYPE_CHECKING:
    from tenfold.app import App
    from tenfold.assembly.identity import IdentityPart
    from tenfold.http.asgi import HttpApp
    from tenfold.http.operation import Operation
    from tenfold.security.identity.edges import Edges
    from tenfold.security.identity.refusals import Refusals
    from tenfold.telemetry.hub import Hub


class Elsewhere:
    """A part: stops looking for services. Raises ConfigError when it is made, for places that are none."""

    def __init__(self, app: App, telemetry: Hub, identity: IdentityPart) -> None:
        self._app, self._telemetry, self._proves = app, telemetry, identity.proves
        settings = app.settings
        self.places = SettledPlaces(settings.peers, app.clock)
        self.peers = {
            service.name: Peer(
                service.name,
                self.places,
                app.clock,
                app=app.name,
                span_id=telemetry.tracer.span_id,
                identity=identity.proves,
                tls=partial(identity.client_context, service.name),
                ca_file=settings.peers[service.name].ca_file if service.name in settings.peers else "",
            )
            for service in app.elsewhere
        }

    def calls(
        self, http: HttpApp, edges: Edges, refusals: Refusals, recognition: Operation[..., Any] | None
    ) -> Calls:
        """What binds the operations; and, where others may call, the endpoint for them. ``recognition`` is what processes
        without the accounts ask by."""
        app, registry = self._app, self._telemetry.registry
        door = Door(self._proves, env=app.settings.app.env, refusals=refusals)
        takes = door.opens and not app.fronts and (app.elsewhere or self._proves is not None)
        here = app.operations
        away = [operation for service in app.elsewhere for operation in service.operations]
        if recognition is not None:
            away += [recognition] if recognition.service in self.peers else []
            here += [recognition] if takes and recognition.service not in self.peers else []
        calls = Calls(
            here, http.wiring, registry, DeclaredCalls(edges, refusals), elsewhere=away, peers=self.peers
        )
        if takes:
            most = [app.settings.http.body_max_bytes]
            most += [operation.policies.body_max_bytes or 0 for operation in app.operations]
            http.add(calls.receiving(door).operation(max(most)))
        return calls

    async def start(self) -> None:
        return

    async def stop(self) -> None:
        await self.places.stop()
