"""The typed GET and the one-row read on the embedded database, for what telemetry costs (see telemetry_rounds.py)."""

from __future__ import annotations

import random

import msgspec
import sqlalchemy as sa

from tenfold import App, Reader, Service, public

ROWS = 10_000


class ItemOut(msgspec.Struct):
    id: int
    name: str
    q: str


class World(msgspec.Struct):
    id: int
    randomNumber: int


def made() -> App:
    """The app; there may be several in a process."""
    metadata = sa.MetaData()
    world = sa.Table(
        "world",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("randomnumber", sa.Integer, nullable=False),
    )
    world_by_id = sa.select(world.c.id, world.c.randomnumber.label("randomNumber")).where(
        world.c.id == sa.bindparam("id")
    )
    service = Service("bench", auth=public)
    db = service.database(metadata)

    @service.on_start
    async def fill() -> None:
        async with db.tx() as tx:
            if not await tx.scalar(sa.select(sa.func.count()).select_from(world)):
                await tx.load(world, ({"id": one, "randomnumber": one % 997} for one in range(1, ROWS + 1)))

    @service.get("/items/{i}")
    async def items(i: int, q: str = "") -> ItemOut:
        return ItemOut(i, "x", q)

    @service.get("/db")
    async def one(reader: Reader) -> World:
        return await reader.one(world_by_id, World, id=random.randint(1, ROWS))

    return App("bench", [service])


app = made()
