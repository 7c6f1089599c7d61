"""Connections to an app through the protocol of ``tenfold run``, without sockets: what is sent comes in the turn of the loop
that the test chooses."""

from __future__ import annotations

import asyncio
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from tenfold import App
from tenfold.runtime.connections import ConnectionLimits, Connections
from tenfold.runtime.protocol import Protocol, protocol_of


class Wire(asyncio.Transport):
    """Keeps what is sent."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""

    def write(self, data: Any) -> None:
        self.sent += data

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("127.0.0.1", 5), "sockname": ("127.0.0.1", 80)}.get(name, default)

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        return

    @property
    def status(self) -> int:
        """Of the answer; 0 while there is none."""
        return int(self.sent[9:12]) if self.sent else 0


class Connector:
    """A started app."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.protocol = protocol_of(app, Connections(ConnectionLimits.of(app.settings.http), app.clock))
        self._state = ServerState()
        self._config = uvicorn.Config(
            app, http=self.protocol, loop="none", log_level="warning", access_log=False
        )
        self._config.load()

    def connect(self) -> tuple[Protocol, Wire]:
        """Another one."""
        protocol, wire = self.protocol(self._config, self._state, {}), Wire()
        protocol.connection_made(wire)
        return protocol, wire

    def send(self, *requests: bytes) -> list[Wire]:
        """All of them in one turn of the event loop, each on a connection of its own."""
        found = []
        for request in requests:
            protocol, wire = self.connect()
            protocol.data_received(request)
            found.append(wire)
        return found
