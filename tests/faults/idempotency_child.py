"""Handles keyed operations on one SQLite file until it is done or killed; run by test_idempotency_kill.py.

    Forked("faults.idempotency_child", FILE, FIRST, COUNT, "right" | "broken")

Every key from ``key-0`` on is asked for, those of earlier runs again. A line of JSON goes out per reply, after
``finish`` returned: it is what the client has seen.
"""

from __future__ import annotations

import asyncio
import faulthandler
from pathlib import Path

import sqlalchemy as sa

from support.keyed import ask
from tenfold._core.clock import SystemClock
from tenfold._core.sections import DatabaseSettings
from tenfold.db.backends.sqlite import Backend
from tenfold.db.database import Database
from tenfold.guard.backends._sql_idempotency import SqlIdempotencyStore, _encode, _SqlAttempt, table
from tenfold.guard.idempotency import Attempt, IdempotencyGuard
from tenfold.guard.keys import StoredReply

LEASE_S = 0.15
metadata = sa.MetaData()
effects = sa.Table(
    "effect",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("key", sa.Text, nullable=False),
)
INSERT = sa.insert(effects).values(key=sa.bindparam("of")).returning(effects.c.id)


class BrokenStore(SqlIdempotencyStore):
    """Effect first, reply afterwards in a transaction of its own: the mistake that the checker must catch."""

    def attempt(self, scope: str, key: str, claim: str) -> Attempt:
        return _BrokenAttempt(self, scope, key, claim)


class _BrokenAttempt(_SqlAttempt):
    def __init__(self, store: SqlIdempotencyStore, scope: str, key: str, claim: str) -> None:
        super().__init__(store, scope, key, claim)
        self._operation._leave()

    async def complete(self, reply: StoredReply, keep_s: float, *, effect: bool) -> bool:
        store = self._store
        values = {**self._row, "new_reply": _encode(reply), "keep_s": keep_s, **store.clock()}
        async with store.db.tx() as tx:
            return await tx.execute(store.sql.complete, values) == 1


async def request(db: Database, guard: IdempotencyGuard, key: str) -> None:
    """An operation with one block."""

    async def place() -> int:
        async with db.tx() as tx:
            return int(await tx.scalar(INSERT, of=key))

    await ask(guard, key, place, again_s=0.05)


async def main(file: Path, first: int, count: int, broken: bool) -> None:
    clock = SystemClock()
    backend = Backend.from_url(
        f"sqlite:///{file}", settings=DatabaseSettings(), data_dir=file.parent, clock=clock
    )
    await backend.start()
    engine = backend.sync_engine()
    metadata.create_all(engine)
    table.create(engine, checkfirst=True)
    engine.dispose()
    db = Database("shop", metadata)
    db.bind(backend)
    guard = IdempotencyGuard((BrokenStore if broken else SqlIdempotencyStore)(db), clock, lease_s=LEASE_S)
    for start in range(0, first + count, 4):
        keys = range(start, min(start + 4, first + count))
        async with asyncio.TaskGroup() as group:
            for n in keys:
                group.create_task(request(db, guard, f"key-{n}"))
    await backend.stop()


def child(file: str, first: str, count: str, build: str) -> None:
    faulthandler.dump_traceback_later(40, exit=True)  # a hang is a failure with a traceback
    asyncio.run(main(Path(file), int(first), int(count), build == "broken"))
