"""Tenfold as its guide teaches it: the peers' endpoints, with the defaults that every app has (metrics, deadlines).

``FEATURES=all`` asks for a bearer token on /items, as the peers' "production features" do; access log and traces
are settings (see contenders.py).
"""

from __future__ import annotations

import os
import time

import msgspec
import sqlalchemy as sa

from tenfold import Accounts, App, Reader, ResponseCache, Service, authenticated, public

metadata = sa.MetaData()
product = sa.Table(
    "product",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("price", sa.Float, nullable=False),
)
product_by_id = sa.select(product).where(product.c.id == sa.bindparam("id"))


class Message(msgspec.Struct):
    message: str


class Item(msgspec.Struct):
    name: str
    price: float
    tags: list[str] = []


class ItemOut(msgspec.Struct):
    id: int
    name: str
    q: str


class Product(msgspec.Struct):
    id: int
    name: str
    price: float


class Token(msgspec.Struct):
    token: str


service = Service("bench", auth=public)
db = service.database(metadata)
people = Accounts(db)


@service.on_start
async def seed() -> None:
    async with db.tx() as tx:
        if not await tx.scalar(sa.select(sa.func.count()).select_from(product)):
            rows = [{"id": i, "name": f"product {i}", "price": i / 10} for i in range(1, 1001)]
            await tx.execute(sa.insert(product), rows)


@service.get("/json")
async def json() -> Message:
    return Message("Hello, World!")


@service.get("/items/{i}", auth=authenticated if os.environ.get("FEATURES") else public)
async def items(i: int, q: str = "") -> ItemOut:
    return ItemOut(i, "x", q)


@service.post("/post", status=200)
async def post(item: Item) -> Item:
    return item


@service.get("/busy/{us}")
async def busy(us: int) -> Message:
    """So many µs of CPU time, whoever else wants the core."""
    end = time.thread_time_ns() + us * 1_000
    while time.thread_time_ns() < end:
        pass
    return Message("done")


@service.get("/product_mem/{i}", cache=ResponseCache(ttl_s=60))
async def product_mem(i: int, reader: Reader) -> Product:
    return await reader.one(product_by_id, Product, id=i)


@service.get("/product_redis/{i}", cache=ResponseCache(ttl_s=60))
async def product_redis(i: int, reader: Reader) -> Product:
    """The same, for runs with TENFOLD_CACHE_URL=redis://…"""
    return await reader.one(product_by_id, Product, id=i)


@service.post("/token")
async def token() -> Token:
    email, password = f"{os.urandom(8).hex()}@example.com", os.urandom(16).hex()
    await people.register(email, password)
    return Token((await people.login(email, password)).access_token)


app = App("bench", [service], auth=people)
