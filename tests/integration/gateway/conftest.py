"""A gateway on a socket, and what stands behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tenfold import App
from tenfold.gateway.entry import Gateway
from tenfold.gateway.role import stand_in_front
from tenfold.rpc.discovery import Places
from tenfold.runtime import listeners
from tenfold.runtime.listeners import UvicornListener


@asynccontextmanager
async def listening(app: App) -> AsyncGenerator[str]:
    """A configured app on a port of this machine."""
    sock = listeners.bind("127.0.0.1", 0, where="http.port")
    await app.start(worker=False)
    listener = UvicornListener(app, sock, drain_s=2)
    await listener.start()
    try:
        yield listeners.address(sock)
    finally:
        await listener.stop()
        await app.stop()


class Front:
    """A gateway that runs."""

    def __init__(self, app: App, gateway: Gateway, url: str, client: httpx2.AsyncClient) -> None:
        self.app, self.gateway, self.url, self.client = app, gateway, url, client


Fronts = Callable[..., AbstractAsyncContextManager[Front]]


@pytest.fixture
def fronts(tmp_path: Path) -> Fronts:
    """``async with fronts({"orders": url, …}, {"orders": {"path": …}}) as front``; more are settings, and ``app=``."""

    @asynccontextmanager
    async def front(
        services: dict[str, Any],
        routes: dict[str, Any],
        *,
        app: App | None = None,
        docs: bool = False,
        places: Places | None = None,
        **more: Any,
    ) -> AsyncGenerator[Front]:
        app = app or App("front", [])
        routes = {name: {"service": name, **said} for name, said in routes.items()}
        app.configure(
            None,
            environ={},
            app__data_dir=str(tmp_path / "front"),
            http__docs=False,
            gateway__routes=routes,
            gateway__services={name: {"url": url} for name, url in services.items()},
            log__access=False,
            **more,
        )
        gateway = stand_in_front(app, docs=docs, places=places)
        async with (
            asyncio.timeout(30),
            listening(app) as url,
            httpx2.AsyncClient(base_url=url, timeout=10.0) as client,
        ):
            yield Front(app, gateway, url, client)

    return front
