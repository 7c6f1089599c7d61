"""A gateway in front of services that take connections of services only."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from integration.gateway.conftest import Fronts, listening
from tenfold import App, Service, WebSocket, public
from tenfold.errors import ConfigError
from tenfold.security.identity import certificates, issuing
from tenfold.security.identity.names import service_name

pytestmark = pytest.mark.anyio


def shop() -> App:
    chat, orders = Service("chat", auth=public, calls=[]), Service("orders", auth=public, calls=[])

    @chat.get("/chat/hello")
    async def hello() -> str:
        return "hello"

    @chat.websocket("/chat")
    async def talk(socket: WebSocket) -> None:
        await socket.send_text((await socket.receive_text()).upper())

    return App("shop", [chat, orders])


@pytest.fixture
async def settings(tmp_path: Path) -> AsyncGenerator[dict[str, Any]]:
    """Those of all processes; `chat` runs in one of its own."""
    keys = tmp_path / "identity"
    issuing.issue(keys, "chat", time.time())
    for name in ("chat", "orders", "gateway"):
        certificates.issue(keys, service_name("shop", name), time.time())
    common: dict[str, Any] = {"identity__folder": str(keys), "identity__tls": True}
    app = shop()
    app.serve_only("chat")
    app.configure(None, environ={}, app__data_dir=str(tmp_path / "chat"), log__access=False, **common)
    async with listening(app) as url:
        yield {**common, "services__chat__url": url.replace("http", "https", 1)}


ROUTES: dict[str, Any] = {"chat": {"path": "/chat"}}


async def test_it_shows_its_certificate_and_looks_at_the_others(
    fronts: Fronts, settings: dict[str, Any]
) -> None:
    async with fronts({}, ROUTES, app=shop(), **settings) as front:
        assert (await front.client.get("/chat/hello")).json() == "hello"
        async with connect(f"{front.url.replace('http', 'ws', 1)}/chat") as socket:
            await socket.send("a")
            assert await socket.recv() == "A"


async def test_who_answers_in_the_place_of_a_service_is_sent_nothing(
    fronts: Fronts, settings: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """`chat` stands where `orders` should be."""
    settings["services__orders__url"] = settings["services__chat__url"]
    async with fronts({}, {"orders": {"path": "/"}}, app=shop(), **settings) as front:
        answer = await front.client.get("/chat/hello")
        assert answer.status_code == 503
        said = "the other end is spiffe://shop/service/chat, and not spiffe://shop/service/orders"
        assert said in caplog.text
        with pytest.raises(InvalidStatus) as refused:
            async with connect(f"{front.url.replace('http', 'ws', 1)}/chat"):
                pass
        assert refused.value.response.status_code in (502, 503)
    settings["services__orders__identity"] = "chat"  # unless the settings say that it is meant to be
    async with fronts({}, {"orders": {"path": "/"}}, app=shop(), **settings) as front:
        assert (await front.client.get("/chat/hello")).status_code == 200


async def test_without_a_certificate_it_does_not_start(
    fronts: Fronts, settings: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "identity" / "gateway" / "certificate.pem").unlink()
    with pytest.raises(ConfigError, match="Make it by: tenfold identity issue gateway --tls"):
        async with fronts({}, ROUTES, app=shop(), **settings):
            pass
