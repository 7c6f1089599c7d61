"""WebSockets through a gateway."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from integration.gateway.conftest import Fronts, listening
from support.cluster import eventually
from tenfold import App, Service, WebSocket, public

pytestmark = pytest.mark.anyio


def talkative() -> App:
    service = Service("chat", auth=public)

    @service.websocket("/chat")
    async def chat(socket: WebSocket) -> None:
        await socket.send_text(
            f"{socket.request.query.get('room')} {socket.request.headers['x-forwarded-for']}"
        )
        while (text := await socket.receive_text()) != "bye":
            await (socket.send_bytes(b"x" * 100_000) if text == "large" else socket.send_text(text.upper()))
        await socket.close(4001, "as you like")

    return App("chat", [service])


@pytest.fixture
async def chat(tmp_path: Path) -> AsyncGenerator[str]:
    app = talkative()
    app.configure(None, environ={}, app__data_dir=str(tmp_path / "chat"), log__access=False)
    async with listening(app) as url:
        yield url


def ws(url: str) -> str:
    return url.replace("http", "ws", 1)


async def test_messages_go_both_ways_and_the_close_code_comes_through(fronts: Fronts, chat: str) -> None:
    async with fronts({"chat": chat}, {"chat": {"path": "/chat"}}) as front:
        async with connect(f"{ws(front.url)}/chat?room=7") as socket:
            assert await socket.recv() == "7 127.0.0.1"
            await socket.send("hello")
            assert await socket.recv() == "HELLO"
            await socket.send("large")
            assert await socket.recv() == b"x" * 100_000
            await socket.send("bye")
            with pytest.raises(ConnectionClosed):
                await socket.recv()
            assert (socket.close_code, socket.close_reason) == (4001, "as you like")
        places = front.gateway.upstream("chat").state.places
        await eventually(lambda: not places.in_flight)


async def test_a_client_that_leaves_gives_its_place_back(fronts: Fronts, chat: str) -> None:
    async with fronts({"chat": chat}, {"chat": {}}) as front:
        async with connect(f"{ws(front.url)}/chat") as socket:
            await socket.recv()
            places = front.gateway.upstream("chat").state.places
            assert places.in_flight == 1
        await eventually(lambda: not places.in_flight)


@pytest.mark.parametrize(
    ("path", "routes", "status"),
    [
        ("/other", {"chat": {"path": "/chat"}}, 404),
        ("/none", {"chat": {}}, 404),
        ("/chat", {"chat": {"limit": "1/hour per address"}}, 429),
    ],
)
async def test_a_handshake_is_refused_with_the_status_that_says_why(
    fronts: Fronts, chat: str, path: str, routes: dict[str, Any], status: int
) -> None:
    async with fronts({"chat": chat}, routes) as front:
        await front.client.get("/")
        with pytest.raises(InvalidStatus) as refused:
            async with connect(f"{ws(front.url)}{path}"):
                pass
        assert refused.value.response.status_code == status


async def test_a_service_that_is_away_is_named_to_a_websocket_too(fronts: Fronts) -> None:
    async with fronts({"chat": "http://127.0.0.1:9"}, {"chat": {}}) as front:
        with pytest.raises(InvalidStatus) as refused:
            async with connect(f"{ws(front.url)}/chat"):
                pass
    answer = refused.value.response
    assert answer.status_code == 503
    assert b"The service chat cannot be reached." in (answer.body or b"")
    assert "retry-after" in answer.headers
