"""The typed GET and the one-row read, as they come and (``FEATURES=all``) with what a service in production has: a rate
limit and authentication here; access log, traces of 1 % and the store of limits by settings (see contenders.py).
Metrics, admission and deadlines are always on.
"""

from __future__ import annotations

import os
import random

import msgspec
import sqlalchemy as sa

from tenfold import Accounts, App, Reader, Service, authenticated, public

FEATURES = os.environ.get("FEATURES", "")
ROWS = 10_000

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


class Message(msgspec.Struct):
    message: str


class ItemOut(msgspec.Struct):
    id: int
    name: str
    q: str


class World(msgspec.Struct):
    id: int
    randomNumber: int


class Token(msgspec.Struct):
    token: str


service = Service("bench", auth=authenticated if FEATURES in {"all", "auth"} else public)
limit = "100000/second per principal" if FEATURES in {"all", "limit"} else None
db = service.database(metadata)
people = Accounts(db)


@service.get("/json", auth=public)
async def json() -> Message:
    return Message("Hello, World!")


@service.get("/items/{i}", limit=limit)
async def items(i: int, q: str = "") -> ItemOut:
    return ItemOut(i, "x", q)


@service.get("/db", limit=limit)
async def one(reader: Reader) -> World:
    return await reader.one(world_by_id, World, id=random.randint(1, ROWS))


@service.post("/token", auth=public)
async def token() -> Token:
    email, password = f"{os.urandom(8).hex()}@example.com", os.urandom(16).hex()
    await people.register(email, password)
    return Token((await people.login(email, password)).access_token)


app = App("bench", [service], auth=people)
