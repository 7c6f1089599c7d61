"""The other side of calls out: a loopback server that does what a test says, and apps that call it."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from tenfold import App, Service
from tenfold._core.clock import Clock
from tenfold.client import HttpClient


@dataclass
class Got:
    """One request as it arrived."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


Handle = Callable[[Got], Awaitable[bytes]]


def reply(content: Any = b"", status: int = 200, **headers: str) -> bytes:
    """An answer's bytes; what is not bytes becomes JSON."""
    body = content if isinstance(content, bytes) else msgspec.json.encode(content)
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    head = "\r\n".join([f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *lines])
    return head.encode() + b"\r\n\r\n" + body


async def ok(_: Got) -> bytes:
    return reply({"ok": True})


async def never(_: Got) -> bytes:
    """A blackhole: the request is taken, and nothing comes."""
    await asyncio.sleep(3600)
    return b""


@dataclass
class Callee:
    """``handle`` makes the bytes of each answer; empty ones break the connection off. It may be replaced at any time."""

    handle: Handle = ok
    got: list[Got] = field(default_factory=list)
    connections: int = 0
    open_now: int = 0
    open_most: int = 0
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextlib.asynccontextmanager
    async def running(self, **options: Any) -> AsyncGenerator[Callee]:
        tasks: set[asyncio.Task[None]] = set()

        def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(self._talk(reader, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        server = await asyncio.start_server(talk, "127.0.0.1", self.port, **options)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in list(tasks):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open_now += 1
        self.open_most = max(self.open_most, self.open_now)
        try:
            while (got := await _read(reader)) is not None:
                self.got.append(got)
                answer = await self._answered(got, reader)
                if not answer:
                    break
                writer.write(answer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open_now -= 1
            writer.transport.abort()

    async def _answered(self, got: Got, reader: asyncio.StreamReader) -> bytes:
        """The answer; nothing when the caller has gone meanwhile."""
        answering = asyncio.ensure_future(self.handle(got))
        gone = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait([answering, gone], return_when=asyncio.FIRST_COMPLETED)
            return answering.result() if answering.done() else b""
        finally:
            answering.cancel()
            gone.cancel()
            await asyncio.gather(answering, gone, return_exceptions=True)


async def _read(reader: asyncio.StreamReader) -> Got | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.strip().split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Got(method, target, headers, body)


@contextlib.asynccontextmanager
async def calling(
    url: str = "", *, allow: list[str] | None = None, clock: Clock | None = None, **options: Any
) -> AsyncGenerator[HttpClient]:
    """A client in an app of its own, which may call this machine."""
    service = Service("caller")
    client = service.http("other", url, **options)
    async with running(App("test", [service], clock=clock), other={"allow": allow or ["127.0.0.1"]}):
        yield client


@contextlib.asynccontextmanager
async def running(app: App, **clients: dict[str, Any]) -> AsyncGenerator[App]:
    """The app, started; ``clients`` are settings of its clients."""
    settings = {
        f"clients__{name}__{key}": value for name, said in clients.items() for key, value in said.items()
    }
    with tempfile.TemporaryDirectory(prefix="tenfold-test-") as folder:
        app.configure(None, environ={}, app__data_dir=folder, worker__enabled=False, **settings)
        async with app.lifespan():
            yield app
