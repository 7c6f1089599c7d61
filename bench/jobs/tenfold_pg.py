"""Tenfold on PostgreSQL, as the peers' client and driver call it. Worker: ``tenfold worker tenfold_pg:app``."""

from __future__ import annotations

import os

import sqlalchemy as sa
from record import DSN, note

from tenfold import App, Service

os.environ.setdefault("TENFOLD_DATABASE_URL", DSN)
os.environ.setdefault("TENFOLD_LOG_LEVEL", "warning")

PURGE = "delete from tenfold_message; truncate tenfold_message_archive"

service = Service("bench")
db = service.database(sa.MetaData())
app = App("bench", [service])


@service.job()
async def noop(t: float) -> None:
    note(t)


async def open_() -> None:
    await app.start(worker=False)


async def one(t: float) -> None:
    async with db.tx() as tx:
        await noop.enqueue(tx, t=t)


async def bulk(times: list[float]) -> None:
    await noop.enqueue_many(db, [{"t": t} for t in times])


async def close() -> None:
    await app.stop()
