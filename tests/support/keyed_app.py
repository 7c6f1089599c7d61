"""A backend with one keyed operation, which a test runs twice on one database and kills in mid-request.

``die`` in the body ends the process by SIGKILL where ``KEYED_DIES`` is set: ``before`` the commit of effect and reply,
or ``after`` it, before the reply has left. ``KEYED_BROKEN=key`` is a build that does not look at keys.
"""

from __future__ import annotations

import os
import signal
from typing import Literal

import sqlalchemy as sa
from msgspec import Struct

from tenfold import App, Reply, Service, public

metadata = sa.MetaData()
effects = sa.Table(
    "keyed_effect",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True),
    sa.Column("name", sa.String(100), nullable=False),
)
orders = Service("orders")
db = orders.database(metadata)

_of_name = sa.select(sa.func.count()).select_from(effects).where(effects.c.name == sa.bindparam("of"))


class Order(Struct):
    name: str
    die: Literal["", "before", "after"] = ""


class Placed(Struct):
    name: str
    process: int
    """Which one has done it: a reply that is made anew differs."""
    copies: int


def end() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@orders.post("/orders", auth=public, idempotent=os.environ.get("KEYED_BROKEN") != "key")
async def place(order: Order) -> Reply[Placed]:
    mortal = bool(os.environ.get("KEYED_DIES"))
    async with db.tx() as tx:
        await tx.execute(sa.insert(effects), name=order.name)
        if mortal and order.die == "before":
            end()
        if mortal and order.die == "after":
            tx.on_commit(end)
        copies = int(await tx.scalar(_of_name, of=order.name))
    return Reply(Placed(order.name, os.getpid(), copies), 201, headers={"Location": f"/orders/{order.name}"})


@orders.get("/orders/{name}/copies", auth=public)
async def copies(name: str) -> int:
    return int(await db.read().scalar(_of_name, of=name))


app = App("keyed", services=[orders])
