"""A process that commits transfers and says on its standard output which were acknowledged.

    Forked("faults.sqlite_child", FOLDER, NAME, "sound" | "early" | "torn" | "unsynced", URL)

Each transfer writes two rows that belong together, in several tasks at once. The other modes are broken on purpose, so
that the checker can be seen to notice: ``early`` acknowledges before COMMIT, ``torn`` commits half, ``unsynced`` does
not wait for the disk (SQLite only).
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import sqlalchemy as sa

from tenfold._core.clock import SystemClock
from tenfold._core.resolve import backend_class
from tenfold._core.sections import DatabaseSettings
from tenfold.db import Database, Tx
from tenfold.db.backends.sqlite import Backend as SQLite
from tenfold.db.contract import DatabaseBackend
from tenfold.errors import DatabaseUnavailable, OutcomeUnknown

metadata = sa.MetaData()
entries = sa.Table(
    "entries",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("transfer", sa.String(64), nullable=False, index=True),
    sa.Column("amount", sa.Integer, nullable=False),
)
add = sa.insert(entries)
TASKS = 16


def acknowledge(transfer: str) -> None:
    os.write(1, f"{transfer}\n".encode())  # one write: a killed process leaves whole lines


async def first_half(tx: Tx, transfer: str) -> None:
    await tx.execute(add, {"transfer": transfer, "amount": -5})


async def second_half(tx: Tx, transfer: str) -> None:
    await tx.execute(add, {"transfer": transfer, "amount": 5})


async def transfer_money(db: Database, transfer: str, mode: str) -> None:
    if mode == "torn":
        async with db.tx() as tx:
            await first_half(tx, transfer)
        async with db.tx() as tx:
            await second_half(tx, transfer)
    else:
        async with db.tx() as tx:
            await first_half(tx, transfer)
            await second_half(tx, transfer)
            if mode == "early":
                acknowledge(transfer)
    if mode != "early":
        acknowledge(transfer)


async def run(db: Database, name: str, mode: str) -> None:
    async def work(task: int) -> None:
        n = 0
        while True:
            try:
                await transfer_money(db, f"{name}-{task}-{n}", mode)
            except (
                DatabaseUnavailable,
                OutcomeUnknown,
            ):  # the server was killed: no acknowledgement, another try
                await asyncio.sleep(0.02)
            n += 1

    async with asyncio.TaskGroup() as group:
        for task in range(TASKS):
            group.create_task(work(task))


async def open_database(folder: Path, url: str) -> Database:
    backend: DatabaseBackend = backend_class("db", url, where="database.url").from_url(
        url, settings=DatabaseSettings(pool_max=TASKS), data_dir=folder, clock=SystemClock()
    )
    await backend.start()
    engine = backend.sync_engine()
    with engine.begin() as connection:
        metadata.create_all(connection)
    engine.dispose()
    db = Database("bank", metadata)
    db.bind(backend)
    return db


def do_not_sync(db: Database) -> None:
    assert isinstance(db.backend, SQLite)
    assert db.backend._writer is not None
    db.backend._writer.link.do("PRAGMA synchronous=OFF")


async def main(folder: Path, name: str, mode: str, url: str) -> None:
    db = await open_database(folder, url)
    if mode == "unsynced":
        do_not_sync(db)
    os.write(1, b"ready\n")
    await run(db, name, mode)


def child(folder: str, name: str, mode: str, url: str = "sqlite:///bank.db") -> None:
    asyncio.run(main(Path(folder), name, mode, url))
