"""A small schema and an open database, for the tests of the database layer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa

from tenfold._core.clock import Clock, SystemClock
from tenfold._core.resolve import backend_class
from tenfold._core.sections import DatabaseSettings
from tenfold.db import Database
from tenfold.db.contract import DatabaseBackend

metadata = sa.MetaData()
orders = sa.Table(
    "orders",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("customer", sa.Text, nullable=False),
    sa.Column("total", sa.Integer, nullable=False, default=0),
    sa.CheckConstraint("total >= 0", name="total_not_negative"),
)
lines = sa.Table(
    "lines",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("order_id", sa.ForeignKey("orders.id", deferrable=True, initially="DEFERRED"), nullable=False),
    sa.Column("product", sa.Text, nullable=False),
    sa.UniqueConstraint("order_id", "product"),
)
payments = sa.Table(
    "payments",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("order_id", sa.ForeignKey("orders.id"), nullable=False),
)

add_order = sa.insert(orders).returning(orders)
order_by_id = sa.select(orders).where(orders.c.id == sa.bindparam("id"))
count_orders = sa.select(sa.func.count()).select_from(orders)
_numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
endless = sa.text(f"{_numbers} SELECT count(*) FROM n")
endless_write = sa.text(f"INSERT INTO orders (customer, total) {_numbers} SELECT 'x', i FROM n")


class Order(msgspec.Struct):
    id: int
    customer: str
    total: int


@asynccontextmanager
async def opened(
    folder: Path,
    *,
    url: str = "sqlite:///test.db",
    clock: Clock | None = None,
    metadata: sa.MetaData = metadata,
    **settings: Any,
) -> AsyncGenerator[Database]:
    """A database with its tables: a file below ``folder``, or on the server of ``url``."""
    backend: DatabaseBackend = backend_class("db", url, where="database.url").from_url(
        url, settings=DatabaseSettings(**settings), data_dir=folder, clock=clock or SystemClock()
    )
    await backend.start()
    engine = backend.sync_engine()
    await asyncio.to_thread(metadata.create_all, engine)
    engine.dispose()
    db = Database("shop", metadata)
    db.bind(backend)
    try:
        yield db
    finally:
        await backend.stop()
        db.unbind()


async def orders_in(db: Database) -> int:
    return int(await db.read().scalar(count_orders))
