"""An app with outgoing webhooks and a sender that does what the test says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec
import sqlalchemy as sa

from tenfold import App, Service
from tenfold.testing import TestApp
from tenfold.webhooks.addresses import Place
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
