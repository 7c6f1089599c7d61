"""The stores of guards by URL, for child processes: ``redis://…``, or the URL of a database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import sqlalchemy as sa

from tenfold._core.clock import Clock, SystemClock
from tenfold._core.resolve import backend_class
from tenfold._core.sections import DatabaseSettings, GuardSettings
from tenfold.db.contract import DatabaseBackend
from tenfold.db.database import Database
from tenfold.db.schema import framework
from tenfold.guard.backends._sql import DatabaseGuards
from tenfold.guard.contract import GuardBackend, GuardStores

metadata = sa.MetaData()
effects = sa.Table(
    "effect",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("key", sa.String(100), nullable=False),
)


@asynccontextmanager
async def opened(url: str, clock: Clock | None = None) -> AsyncGenerator[tuple[GuardStores, Database | None]]:
    """The stores, and the database where the URL names one; its tables have been made (:func:`make_tables`). ``clock``
    is the process's; SQLite has the machine's, as all processes that have the file are on one."""
    clock = clock or SystemClock()
    if url.startswith("redis:"):
        guard: GuardBackend = backend_class("guard", url, where="url").from_url(
            url, settings=GuardSettings(timeout_s=5), clock=clock
        )
        await guard.start()
        try:
            yield guard, None
        finally:
            await guard.stop()
        return
    backend = backend_of(url, None if url.startswith("sqlite") else clock)
    await backend.start()
    try:
        database = Database("test", metadata)
        database.bind(backend)
        yield DatabaseGuards(database), database
    finally:
        await backend.stop()


def backend_of(url: str, clock: Clock | None = None) -> DatabaseBackend:
    made: DatabaseBackend = backend_class("db", url, where="url").from_url(
        url, settings=DatabaseSettings(url=url), data_dir=Path(), clock=clock or SystemClock()
    )
    return made


async def make_tables(url: str) -> None:
    """The framework's tables and those of the tests."""
    backend = backend_of(url)
    await backend.start()

    def work() -> None:
        engine = backend.sync_engine()
        framework.create_all(engine)
        metadata.create_all(engine)
        engine.dispose()

    await asyncio.to_thread(work)
    await backend.stop()
