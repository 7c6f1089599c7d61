"""Instances for a balancer to stand in front of: small HTTP/1.1 servers that say who they are and what they were asked.

In this process (:class:`Instance`), or as a child that can be killed (``python -m support.balanced PORT LEDGER``).
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Self

from websockets.utils import accept_key

from support.servers import free_port


class Asked(NamedTuple):
    """A request as it came in."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


async def read_message(reader: asyncio.StreamReader) -> tuple[str, dict[str, str], bytes]:
    """First line, headers and body of the next message. Raises IncompleteReadError at the end."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip("\r\n").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while size := int(await reader.readuntil(b"\r\n"), 16):
            body += await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readexactly(2)
        return first, headers, body
    return first, headers, await reader.readexactly(int(headers.get("content-length", 0)))


class Instance:
    """A server with keep-alive. ``answer_headers`` go with every answer; ``pause_s`` is how long each takes."""

    def __init__(self, name: str, *, port: int = 0, pause_s: float = 0.0, ledger: Path | None = None) -> None:
        self.name, self.port, self.pause_s, self.ledger = name, port or free_port(), pause_s, ledger
        self.asked: list[Asked] = []
        self.answer_headers: dict[str, str] = {}
        self.first_was_read = asyncio.Event()
        self.body: bytes | None = None
        self.ready = True
        """What it says at /health/ready; it answers everything else in either case."""
        self.breaks_off = False
        """Takes a request and closes the connection."""
        self.connections = 0
        self._busy = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.leave()

    async def leave(self) -> None:
        """As the runtime does on SIGTERM: refuse connections, answer what is in flight, close the rest at once."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        while self._busy:  # noqa: ASYNC110 - a few at most
            await asyncio.sleep(0.005)
        for writer in list(self._writers):
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                first, headers, body = await read_message(reader)
                self._busy += 1
                try:
                    await self._answer(first, headers, body, writer)
                finally:
                    self._busy -= 1
        self._writers.discard(writer)
        writer.close()

    async def _answer(
        self, first: str, headers: dict[str, str], body: bytes, writer: asyncio.StreamWriter
    ) -> None:
        method, path, _ = first.split(" ")
        self.asked.append(Asked(method, path, headers, body))
        if self.ledger is not None and method == "POST":
            with self.ledger.open("ab", buffering=0) as ledger:
                ledger.write(body + b"\n")
        if self.breaks_off:
            writer.transport.abort()
            return
        if headers.get("upgrade") == "websocket":
            await self._greet(headers["sec-websocket-key"], writer)
            return
        if self.pause_s:
            await asyncio.sleep(self.pause_s)
        if path == "/stream":
            await self._stream(writer)
            return
        said = self.body or json.dumps({"instance": self.name, "path": path}).encode()
        extra = "".join(f"{name}: {value}\r\n" for name, value in self.answer_headers.items())
        kind = "" if "Content-Type" in self.answer_headers else "Content-Type: application/json\r\n"
        status = "503 Service Unavailable" if path == "/health/ready" and not self.ready else "200 OK"
        writer.write(f"HTTP/1.1 {status}\r\n{kind}Content-Length: {len(said)}\r\n{extra}\r\n".encode() + said)
        await writer.drain()

    async def _greet(self, key: str, writer: asyncio.StreamWriter) -> None:
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Accept: " + accept_key(key).encode() + b"\r\n\r\nhello"
        )
        await writer.drain()

    async def _stream(self, writer: asyncio.StreamWriter) -> None:
        """One event, and the second only once the first was read by whoever asked: a buffer in between would stop both."""
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX-Accel-Buffering: no\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n"
        )
        await writer.drain()
        await self.first_was_read.wait()
        writer.write(b"9\r\ndata: 2\n\n\r\n0\r\n\r\n")
        await writer.drain()


class Lost(Exception):
    """A request was sent, and no whole answer came back."""


class Client:
    """One client with keep-alive. A connection that was closed in front of a request is opened again, as clients do; one
    that is closed behind it has lost the request."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.connections = 0
        self._open: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        if self._open is not None and self._open[0].at_eof():
            self.close()
        if self._open is None:
            self._open = await asyncio.open_connection("127.0.0.1", self.port)
            self.connections += 1
        reader, writer = self._open
        lines = {"Host": "shop.example", "Content-Length": str(len(body)), **(headers or {})}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        try:
            writer.write(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body)
            first, answered, said = await read_message(reader)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            self.close()
            raise Lost(f"{method} {path}: {error!r}") from None
        if answered.get("connection", "").lower() == "close":
            self.close()
        return int(first.split(" ")[1]), answered, said

    def close(self) -> None:
        if self._open is not None:
            self._open[1].close()
            self._open = None


async def _child(port: int, ledger: Path) -> None:
    async with Instance(f"child {os.getpid()}", port=port, pause_s=0.002, ledger=ledger):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_child(int(sys.argv[1]), Path(sys.argv[2])))
