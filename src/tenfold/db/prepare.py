"""What happens to the databases' tables when an app starts: made, migrated, or refused."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tenfold.db.schema import framework

if TYPE_CHECKING:
    from tenfold._core.settings import Settings
    from tenfold.db.database import Database


async def prepare(databases: Sequence[Database], settings: Settings) -> None:
    """Bring the tables of databases that share a backend to what the code has."""
    await asyncio.to_thread(_create, databases)


def _create(databases: Sequence[Database]) -> None:
    engine = databases[0].backend.sync_engine()
    try:
        framework.create_all(engine)
        for database in databases:
            database.metadata.create_all(engine)
    finally:
        engine.dispose()
