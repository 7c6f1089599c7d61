"""An app's databases without the rest of it, for the commands that only look at rows or change tables."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from tenfold.errors import ConfigError

if TYPE_CHECKING:
    from tenfold.app import App
    from tenfold.db.contract import DatabaseBackend


@asynccontextmanager
async def connected(app: App) -> AsyncGenerator[None]:
    """Bind the databases of a configured app; nothing is migrated or started."""
    from tenfold._core.resolve import backend_class

    if not app.databases:
        raise ConfigError(
            f"no service of {app.name!r} has a database.",
            remedy="Declare one: db = service.database(metadata).",
        )
    settings = app.settings.database
    app.data_dir.mkdir(parents=True, exist_ok=True)
    backend: DatabaseBackend = backend_class("db", settings.url, where="database.url").from_url(
        settings.url, settings=settings, data_dir=app.data_dir, clock=app.clock
    )
    await backend.start()
    for database in app.databases:
        database.bind(backend)
    try:
        yield
    finally:
        for database in app.databases:
            database.unbind()
        await backend.stop()
