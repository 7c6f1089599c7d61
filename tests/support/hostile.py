"""A served app and raw sockets, for clients that do not behave."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tenfold import App, Service
from tenfold.runtime import listeners
from tenfold.runtime.listeners import UvicornListener


@asynccontextmanager
async def served(
    tmp_path: Path, service: Service, *, ops: bool = False, **settings: Any
) -> AsyncGenerator[tuple[int, UvicornListener]]:
    """The port of an app with this service, and its listener."""
    app = App("hostile", [service])
    app.configure(environ={}, app__data_dir=str(tmp_path), **settings)
    sock = listeners.bind("127.0.0.1", 0, where="http.port")
    async with asyncio.timeout(60):
        await app.start(worker=False)
        listener = UvicornListener(app, sock, drain_s=2, ops=ops)
        await listener.start()
        try:
            yield sock.getsockname()[1], listener
        finally:
            await listener.stop()
            await app.stop()


class Raw:
    """One socket and what comes from it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def to(cls, port: int, data: bytes = b"", *, receive_buffer: int = 0) -> Raw:
        """Connect, and send ``data``."""
        sock = socket.socket()
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        raw = cls(*await asyncio.open_connection(sock=sock))
        raw.writer.write(data)
        return raw

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """The next answer: status, headers, body."""
        async with asyncio.timeout(20):
            head = await self.reader.readuntil(b"\r\n\r\n")
            first, *rest = head.decode("latin-1").strip().split("\r\n")
            headers = dict(line.split(": ", 1) for line in rest)
            body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return int(first.split(" ")[1]), headers, body

    async def problem(self) -> tuple[int, str]:
        """Status and detail of the problem document that comes next."""
        status, headers, body = await self.answer()
        assert headers["content-type"] == "application/problem+json", headers
        document = json.loads(body)
        assert document["status"] == status
        return status, document["detail"]

    async def ended(self) -> bool:
        """Whether the server ends the connection with nothing more to say."""
        async with asyncio.timeout(20):
            try:
                return await self.reader.read() == b""
            except ConnectionResetError:
                return True

    async def cut(self) -> bool:
        """Whether the server ends the connection, whatever it had said before."""
        async with asyncio.timeout(20):
            try:
                while await self.reader.read(65_536):
                    pass
            except ConnectionResetError:
                pass
        return True

    def abort(self) -> None:
        """Hang up."""
        self.writer.transport.abort()
