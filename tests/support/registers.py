"""An app of versioned registers, to find reads that go back behind a write: by HTTP, call, event and job."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import sqlalchemy as sa

from tenfold import App, Service, public
from tenfold.db import Tx

metadata = sa.MetaData()
register = sa.Table(
    "register",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("version", sa.Integer, nullable=False),
)
SETUP = (
    "CREATE TABLE register (id integer PRIMARY KEY, version integer NOT NULL)",
    "INSERT INTO register SELECT n, 0 FROM generate_series(0, 999) AS n",
)

_next = (
    sa.update(register)
    .where(register.c.id == sa.bindparam("of_id"))
    .values(version=register.c.version + 1)
    .returning(register.c.version)
)
_version = sa.select(register.c.version).where(register.c.id == sa.bindparam("of_id"))


class Changed(msgspec.Struct):
    key: int
    version: int


registers = Service("registers", auth=public)
front = Service("front", auth=public)
db = registers.database(metadata)
front_db = front.database(metadata)
changed = registers.topic("changed", Changed)

pairs: Counter[str] = Counter()
"""Written and read again, by the way that the write's news took."""
stale: Counter[str] = Counter()
"""Of those, the reads that did not see the write."""


WAYS = ("request", "HTTP", "call", "job", "event")


def judge(way: str, written: int, seen: int) -> None:
    pairs[way] += 1
    stale[way] += seen < written


async def _bump(tx: Tx, key: int) -> int:
    version: int = await tx.scalar(_next, of_id=key)
    return version


@registers.get("/registers/{key}")
async def look(key: int) -> int:
    version: int = await db.read().scalar(_version, of_id=key)
    return version


@registers.post("/registers/{key}")
async def bump(key: int) -> int:
    async with db.tx() as tx:
        version = await _bump(tx, key)
    judge("request", version, await db.read().scalar(_version, of_id=key))
    return version


@registers.post("/keyed/{key}", idempotent=True)
async def bump_once(key: int) -> int:
    async with db.tx() as tx:
        return await _bump(tx, key)


@registers.get("/quiet/{key}")
async def look_in_transaction(key: int) -> int:
    async with db.tx() as tx:
        version: int = await tx.scalar(_version, of_id=key)
        return version


@front.post("/called/{key}")
async def bump_by_call(key: int) -> int:
    version = await bump(key)
    judge("call", version, await front_db.read().scalar(_version, of_id=key))
    return version


@registers.post("/later/{key}")
async def bump_and_tell(key: int, tx: Tx) -> int:
    version = await _bump(tx, key)
    await check.enqueue(tx, key=key, version=version)
    await changed.publish(tx, Changed(key, version))
    tx.on_commit(lambda: pairs.update(["sent"]))
    return version


@registers.job()
async def check(key: int, version: int) -> None:
    judge("job", version, await db.read().scalar(_version, of_id=key))


@front.on(changed)
async def follow(event: Changed) -> None:
    async with front_db.read() as reader:
        judge("event", event.version, await reader.scalar(_version, of_id=event.key))


def app(url: str, *replicas: str, data_dir: Any, **settings: Any) -> App:
    """The app on a PostgreSQL that :data:`SETUP` has prepared."""
    pairs.clear()
    stale.clear()
    made = App("registers", [registers, front])
    made.configure(
        environ={}, app__data_dir=str(data_dir), database__url=url, database__replicas=list(replicas),
        log__access=False, log__level="error", **{"http__concurrency": 64, **settings},
    )  # fmt: skip  # a machine that others keep busy would teach the app to refuse, which is not what is asked here
    return made
