"""Tenfold on PostgreSQL: the peers' database endpoints on the peers' tables. Settings say where the database is."""

from __future__ import annotations

import random

import msgspec
import sqlalchemy as sa
from burn import burn
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tenfold import App, Reader, Service, Tx, public

ROWS = 10_000


class Base(DeclarativeBase):
    pass


class OrmWorld(Base):
    __tablename__ = "world"
    id: Mapped[int] = mapped_column(primary_key=True)
    randomnumber: Mapped[int]


class OrmFortune(Base):
    __tablename__ = "fortune"
    id: Mapped[int] = mapped_column(primary_key=True)
    message: Mapped[str] = mapped_column(sa.Text)


metadata = Base.metadata
world, fortune = OrmWorld.__table__, OrmFortune.__table__
orders = sa.Table(
    "orders",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("sku", sa.Text, nullable=False),
    sa.Column("qty", sa.Integer, nullable=False),
)
product = sa.Table(
    "product",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("price", sa.Float, nullable=False),
)

world_by_id = sa.select(world.c.id, world.c.randomnumber.label("randomNumber")).where(
    world.c.id == sa.bindparam("id")
)
fortunes_all = sa.select(fortune.c.id, fortune.c.message)
new_order = sa.insert(orders).returning(orders.c.id)
product_by_id = sa.select(product).where(product.c.id == sa.bindparam("id"))


class Message(msgspec.Struct):
    message: str


class World(msgspec.Struct):
    id: int
    randomNumber: int


class Fortune(msgspec.Struct):
    id: int
    message: str


class Order(msgspec.Struct):
    sku: str
    qty: int


class Created(msgspec.Struct):
    id: int


class Product(msgspec.Struct):
    id: int
    name: str
    price: float


service = Service("bench", auth=public)
db = service.database(metadata)
products = service.cache(ttl_s=60)


@service.job()
async def ship(order_id: int) -> None: ...


@service.get("/json")
async def json() -> Message:
    return Message("Hello, World!")


@service.get("/db")
async def one(reader: Reader) -> World:
    return await reader.one(world_by_id, World, id=random.randint(1, ROWS))


async def read_and_burn(reader: Reader) -> World:
    found = await reader.one(world_by_id, World, id=random.randint(1, ROWS))
    burn()
    return found


@service.get("/work")
async def work(reader: Reader) -> World:
    return await read_and_burn(reader)


@service.get("/work/critical", priority="critical")
async def critical_work(reader: Reader) -> World:
    return await read_and_burn(reader)


@service.get("/queries")
async def queries(reader: Reader, n: int = 1) -> list[World]:
    return [await reader.one(world_by_id, World, id=random.randint(1, ROWS)) for _ in range(n)]


@service.get("/queries_each")
async def queries_each(reader: Reader, n: int = 1) -> list[World]:
    return await reader.one_each(world_by_id, World, id=[random.randint(1, ROWS) for _ in range(n)])


@service.get("/fortunes")
async def fortunes(reader: Reader) -> list[Fortune]:
    rows = await reader.all(fortunes_all, Fortune)
    rows.sort(key=lambda f: f.message)
    return rows


@service.get("/db_orm")
async def one_orm(reader: Reader) -> World:
    found = await reader.session.get_one(OrmWorld, random.randint(1, ROWS))
    return World(found.id, found.randomnumber)


@service.get("/fortunes_orm")
async def fortunes_orm(reader: Reader) -> list[Fortune]:
    rows = (await reader.session.scalars(sa.select(OrmFortune))).all()
    return [Fortune(f.id, f.message) for f in sorted(rows, key=lambda f: f.message)]


@service.post("/orders", status=200)
async def place(order: Order, tx: Tx) -> Created:
    id_ = await tx.scalar(new_order, sku=order.sku, qty=order.qty)
    await ship.enqueue(tx, id_)
    return Created(id_)


@products.cached(key="{i}")
async def cached_product(i: int) -> Product:
    return await db.read().one(product_by_id, Product, id=i)


@service.get("/product_redis/{i}")
async def product_redis(i: int) -> Product:
    return await cached_product(i)


app = App("bench", [service])
