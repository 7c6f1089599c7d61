"""Stores for idempotency keys: memory, and a real SQLite file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from tenfold._core.clock import ManualClock
from tenfold._core.sections import DatabaseSettings
from tenfold.db.backends.sqlite import Backend
from tenfold.db.database import Database
from tenfold.guard.backends._memory_idempotency import MemoryIdempotencyStore
from tenfold.guard.backends._sql_idempotency import SqlIdempotencyStore, table
from tenfold.guard.idempotency import IdempotencyGuard, IdempotencyStore

metadata = sa.MetaData()
effects = sa.Table(
    "effect", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("note", sa.Text)
)


@pytest.fixture
async def db(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Database]:
    backend = Backend.from_url(
        "sqlite:///app.db", settings=DatabaseSettings(), data_dir=tmp_path, clock=clock
    )
    await backend.start()
    engine = backend.sync_engine()
    metadata.create_all(engine)
    table.create(engine)
    engine.dispose()
    database = Database("shop", metadata)
    database.bind(backend)
    yield database
    database.unbind()
    await backend.stop()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=["memory", "sql"])
def store(request: pytest.FixtureRequest, clock: ManualClock) -> IdempotencyStore:
    if request.param == "memory":
        return MemoryIdempotencyStore(clock)
    return SqlIdempotencyStore(request.getfixturevalue("db"))


@pytest.fixture
def guard(store: IdempotencyStore, clock: ManualClock) -> IdempotencyGuard:
    return IdempotencyGuard(store, clock)
