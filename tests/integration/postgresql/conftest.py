"""An open PostgreSQL database with the tables of ``support.orders_db``."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from support.orders_db import opened
from tenfold.db import Database


@pytest.fixture
async def db(tmp_path: Path, postgres_url: str, anyio_backend: str) -> AsyncGenerator[Database]:
    """Two connections at most."""
    async with opened(tmp_path, url=postgres_url, pool_max=2) as database:
        yield database
