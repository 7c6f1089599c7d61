"""An app with outgoing webhooks, a sender that does what the test says, and a server that receives them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import sqlalchemy as sa

from tenfold import App, Service
from tenfold.guard.addresses import Place
from tenfold.testing import TestApp
from tenfold.webhooks.contract import Answer, Sender
from tenfold.webhooks.delivering import http_sender
from tenfold.webhooks.policy import Patience


class Placed(msgspec.Struct):
    order: str


@dataclass
class Posted:
    """One attempt."""

    url: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, object]:
        return msgspec.json.decode(self.body)


@dataclass
class FakeSender(Sender):
    """``answers`` by URL; what is not among them is 204."""

    answers: dict[str, Answer] = field(default_factory=dict)
    posted: list[Posted] = field(default_factory=list)

    async def post(self, place: Place, headers: Mapping[str, str], body: bytes) -> Answer:
        self.posted.append(Posted(place.url, dict(headers), body))
        return self.answers.get(place.url, Answer(status=204))

    def urls(self) -> list[str]:
        return [one.url for one in self.posted]


class Rig:
    """A service that publishes two topics and sends them."""

    def __init__(self, patience: Patience | None = None) -> None:
        self.service = Service("orders")
        self.db = self.service.database(sa.MetaData())
        self.placed = self.service.topic("placed", Placed)
        self.cancelled = self.service.topic("cancelled", Placed)
        self.hooks = self.service.webhooks(self.placed, self.cancelled, patience=patience)
        self.app = App("shop", [self.service])
        self.sender = FakeSender()

    def test(self, **settings: object) -> TestApp:
        return self.app.test(**settings)

    def use_fake(self, t: TestApp) -> None:
        t.override(http_sender, lambda: self.sender)

    async def add(self, url: str = "https://a.example/hook", **more: object) -> str:
        async with self.db.tx() as tx:
            return (await self.hooks.add(tx, url, **more)).endpoint.id

    async def place(self, *orders: str, key: str | None = None) -> None:
        async with self.db.tx() as tx:
            for order in orders:
                await self.placed.publish(tx, Placed(order), key=key)


@dataclass
class Receiver:
    """Answers each request with the next of ``answers`` (the last one again and again)."""

    answers: list[bytes] = field(default_factory=lambda: [b"HTTP/1.1 204 No Content\r\n\r\n"])
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0
    port: int = 0

    @contextlib.asynccontextmanager
    async def running(self, **options: Any) -> AsyncGenerator[Receiver]:
        server = await asyncio.start_server(self._talk, "127.0.0.1", 0, **options)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
                self.requests.append(head + await reader.readexactly(length))
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                if answer == b"HANG":
                    await asyncio.sleep(60)
                if answer == b"ENDLESS":
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
                    while True:
                        writer.write(b"x" * 65_536)
                        await writer.drain()
                writer.write(answer)
                await writer.drain()
                if not answer or b"close" in answer:
                    break
        writer.close()
