"""An app behind our own HTTP/1.1 protocol, on a socket of this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tenfold import App
from tenfold.runtime import listeners
from tenfold.runtime.listeners import UvicornListener


@asynccontextmanager
async def listening(app: App, folder: Path, **settings: Any) -> AsyncGenerator[int]:
    """The port, for at most a minute."""
    app.configure(environ={}, app__data_dir=str(folder), **settings)
    sock = listeners.bind("127.0.0.1", 0, where="http.port")
    async with asyncio.timeout(60):
        await app.start(worker=False)
        listener = UvicornListener(app, sock, drain_s=2)
        await listener.start()
        try:
            yield sock.getsockname()[1]
        finally:
            await listener.stop()
            await app.stop()
