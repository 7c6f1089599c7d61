"""One table on a fresh MariaDB database."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import sqlalchemy as sa

from support.orders_db import opened
from tenfold.db import Database

metadata = sa.MetaData()
things = sa.Table(
    "thing",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(200), nullable=False, unique=True),
    sa.Column("amount", sa.Integer, nullable=False, default=0),
    sa.Column("data", sa.LargeBinary),
)


@pytest.fixture
async def db(tmp_path: Path, mariadb_url: str, anyio_backend: str) -> AsyncGenerator[Database]:
    async with opened(tmp_path, url=mariadb_url, metadata=metadata) as database:
        yield database
