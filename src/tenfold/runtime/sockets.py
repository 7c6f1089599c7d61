"""WebSockets on uvicorn's connections, bounded: what a client sends and does not read, and what it sends in pieces.

Bounded by uvicorn's and the WebSocket library's own means: the size of a message (``http.body_max_bytes``, 1009), messages
that the handler has not taken (nothing is read while one waits), a client that is gone (pings every 20 s).
"""

from __future__ import annotations

import asyncio
from asyncio.transports import BaseTransport
from typing import TYPE_CHECKING, ClassVar

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from tenfold.runtime.connections import Connections, State

if TYPE_CHECKING:
    from uvicorn._types import ASGIReceiveEvent
    from websockets.frames import Frame

FRAGMENTS_MAX = 1_000
"""Pieces of one message. Empty ones have no size that could be bounded."""


def socket_protocol_of(connections: Connections) -> type[SocketProtocol]:
    """The protocol of one listener's WebSockets, for ``uvicorn.Config(ws=…)``."""
    return type("AppSocketProtocol", (SocketProtocol,), {"watched": connections})


class SocketProtocol(WebSocketsSansIOProtocol):
    """One WebSocket. Who does not read is not read from, and is cut off after ``http.write_timeout_s``."""

    watched: ClassVar[Connections]
    transport: asyncio.Transport
    since: float | None = None
    seen = State.BUSY
    mark = 0

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)
        self.watched.all[self] = None

    def connection_lost(self, exc: Exception | None) -> None:
        self.watched.discard(self)
        super().connection_lost(exc)

    def handle_cont(self, event: Frame) -> None:
        if len(self.frames) < FRAGMENTS_MAX:
            super().handle_cont(event)
            return
        self.frames = []
        self.conn.fail(1009, f"a message may have {FRAGMENTS_MAX:,} fragments at most")
        self.handle_parser_exception()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.transport.pause_reading()  # or its pings would be answered into memory
        self.watched.stalls(self, self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        super().resume_writing()
        self.since = None
        self.watched.flows(self)
        if not self.read_paused and not self.transport.is_closing():
            self.transport.resume_reading()

    async def receive(self) -> ASGIReceiveEvent:
        message = await super().receive()
        if not self.writable.is_set():
            self.transport.pause_reading()
        return message

    # ── what the watch asks and does ──

    @property
    def state(self) -> State:
        """It owes nothing but to read what is sent."""
        stalled = not self.writable.is_set() or self.transport.is_closing()
        return State.SENDING if stalled else State.BUSY

    @property
    def moved(self) -> int:
        """Bytes that the client has not taken."""
        return self.transport.get_write_buffer_size()

    def refuse_late(self, state: State) -> None:
        """Never asked: it has no time to send anything by."""
        self.cut()

    def close(self) -> None:
        """Close; what was written is still sent."""
        self.transport.close()

    def cut(self) -> None:
        """Close at once, whatever was not taken."""
        self.transport.abort()
