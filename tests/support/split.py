"""One app in one process, and the same app as two that call each other over sockets: for tests that hold for both."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Literal

from tenfold import App
from tenfold.runtime import listeners
from tenfold.runtime.listeners import UvicornListener

Way = Literal["together", "apart"]


@asynccontextmanager
async def serving(app: App) -> AsyncGenerator[str]:
    """The app behind a socket on loopback; its URL."""
    sock = listeners.bind("127.0.0.1", 0, where="http.port")
    listener = UvicornListener(app, sock, drain_s=2)
    async with app.lifespan():
        await listener.start()
        try:
            yield listeners.address(sock)
        finally:
            await listener.stop()


def configured(app: App, folder: Path, **settings: Any) -> App:
    """With a database in memory and no worker."""
    defaults = {"app__env": "test", "database__url": "sqlite:///:memory:", "worker__enabled": False}
    app.configure(environ={}, app__data_dir=str(folder), **{**defaults, **settings})
    return app


@asynccontextmanager
async def running(
    make: Callable[[], tuple[App, Any]], way: Way, folder: Path, *, away: str = "stock", **settings: Any
) -> AsyncGenerator[Any]:
    """What ``make`` made beside the app, callable: with all services here, or with ``away`` in a second app that is
    reached over a socket. ``make`` is called once for each, as each process has code of its own."""
    async with AsyncExitStack() as stack:
        app, things = make()
        if way == "apart":
            other, _ = make()
            other.serve_only(away)
            configured(other, folder, **settings)
            url = await stack.enter_async_context(serving(other))
            app.serve_only(*(service.name for service in app.services if service.name != away))
            settings = {**settings, f"services__{away}__url": url}
        configured(app, folder, **settings)
        await stack.enter_async_context(app.lifespan())
        yield things
