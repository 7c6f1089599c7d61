"""Migrations on PostgreSQL: one process makes the tables, the others find them; what is missing is said."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import sqlalchemy as sa

from tenfold import errors
from tenfold._core.clock import SystemClock
from tenfold._core.sections import DatabaseSettings
from tenfold.db import Database, migrations
from tenfold.db.backends.postgresql import Backend

pytestmark = pytest.mark.anyio

metadata = sa.MetaData()
sa.Table("things", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.Text))


async def bound(url: str) -> Database:
    backend = Backend.from_url(url, settings=DatabaseSettings(), data_dir=Path(), clock=SystemClock())
    await backend.start()
    db = Database("things", metadata)
    db.bind(backend)
    return db


async def test_of_several_processes_one_makes_the_tables(postgres_url: str) -> None:
    databases = [await bound(postgres_url) for _ in range(4)]
    done = await asyncio.gather(*(migrations.prepare([db], "auto") for db in databases))
    assert sorted(len(lines) > 0 for lines in done) == [False, False, False, True]
    assert await migrations.prepare([databases[0]], "check") == []
    for db in databases:
        await db.backend.stop()


async def test_a_database_that_is_behind_is_refused_with_the_command(postgres_url: str) -> None:
    db = await bound(postgres_url)
    with pytest.raises(errors.SchemaBehind, match="tenfold migrate"):
        await migrations.prepare([db], "check")
    await db.backend.stop()
