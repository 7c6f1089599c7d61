from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from support.orders_db import opened
from tenfold.db import Database


@pytest.fixture
async def db(tmp_path: Path, anyio_backend: str) -> AsyncGenerator[Database]:
    """An open SQLite database with the tables of ``support.orders_db``."""
    async with opened(tmp_path) as database:
        yield database
