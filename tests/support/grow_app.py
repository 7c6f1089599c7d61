"""A small app with one table of every kind, to be moved from SQLite to a server."""

from __future__ import annotations

import datetime as dt
import enum
import uuid
from decimal import Decimal
from typing import Annotated, Any

import sqlalchemy as sa
from msgspec import Struct

from tenfold import App, Header, Service, Tx, public


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


items = Service("items")
metadata = sa.MetaData()
parent_table = sa.Table(
    "parent",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("key", sa.String(64), nullable=False, unique=True),
    sa.Column("before", sa.ForeignKey("parent.id")),
)
child_table = sa.Table(
    "child",
    metadata,
    sa.Column("parent_id", sa.ForeignKey("parent.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("place", sa.Integer, primary_key=True),
    sa.Column("ran", sa.Integer, nullable=False, server_default="0"),
    sa.Column("double", sa.Integer, sa.Computed("place * 2")),
)
types_table = sa.Table(
    "types",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("moment", sa.DateTime(timezone=True)),
    sa.Column("local", sa.DateTime),
    sa.Column("day", sa.Date),
    sa.Column("price", sa.Numeric(10, 2)),
    sa.Column("share", sa.Double),
    sa.Column("yes", sa.Boolean),
    sa.Column("raw", sa.LargeBinary),
    sa.Column("tree", sa.JSON),
    sa.Column("colour", sa.Enum(Colour)),
    sa.Column("big", sa.BigInteger),
    sa.Column("text", sa.Text),
)
keyless_table = sa.Table(
    "keyless", metadata, sa.Column("at", sa.Integer, nullable=False), sa.Column("what", sa.String(20))
)
db = items.database(metadata)


class Made(Struct):
    id: int


@items.post("/items", auth=public, status=201, idempotent="required")
async def make(idempotency_key: Annotated[str, Header()]) -> Made:
    """A parent that refers to the one before, a child, and a job that counts on the child."""
    async with db.tx() as tx:
        before = await tx.scalar(sa.select(sa.func.max(parent_table.c.id)))
        made: int = await tx.scalar(
            sa.insert(parent_table).values(key=idempotency_key, before=before).returning(parent_table.c.id)
        )
        await tx.execute(sa.insert(child_table), parent_id=made, place=1)
        if made % 5 == 0:
            await tx.execute(sa.insert(keyless_table), at=made, what="fifth")
        await count.enqueue(tx, parent=made)
    return Made(made)


@items.get("/items/count", auth=public)
async def how_many() -> int:
    """How many parents there are."""
    return int(await db.read().scalar(sa.select(sa.func.count()).select_from(parent_table)))


@items.job()
async def count(parent: int, tx: Tx) -> None:
    """Runs once for each parent."""
    await tx.execute(
        sa.update(child_table).where(child_table.c.parent_id == parent).values(ran=child_table.c.ran + 1)
    )


@items.on_start
async def fill() -> None:
    """One row of awkward values of each type, and one of NULLs."""
    async with db.tx() as tx:
        if await tx.scalar(sa.select(sa.func.count()).select_from(types_table)) == 0:
            await tx.load(types_table, [awkward(), {**dict.fromkeys(awkward()), "id": uuid.UUID(int=2)}])


def awkward() -> dict[str, Any]:
    return {
        "id": uuid.UUID(int=1),
        "moment": dt.datetime(
            2026, 3, 29, 2, 30, 0, 123456, tzinfo=dt.timezone(dt.timedelta(hours=5, minutes=30))
        ),
        "local": dt.datetime(1999, 12, 31, 23, 59, 59, 999999),
        "day": dt.date(1, 1, 1),
        "price": Decimal("12345678.90"),
        "share": 0.1 + 0.2,
        "yes": True,
        "raw": bytes(range(256)),
        "tree": {"b": [1, None, "ä"], "a": {"x": 1.5}},
        "colour": Colour.BLUE,
        "big": -(2**63),
        "text": "quote ' and \\ and \n and 🙂",
    }


app = App("grow-app", [items])
