"""A statement ends with its time or its caller, in the server too."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
import sqlalchemy as sa

from integration.mariadb.conftest import things
from tenfold.db import Database
from tenfold.errors import DatabaseUnavailable, StatementTimeout, TransactionMisuse

pytestmark = pytest.mark.anyio

COUNT = sa.text("SELECT benchmark(2000000000, sha2('x', 512))")
SLEEP = sa.text("SELECT sleep(20)")
AT_WORK = sa.text(
    "SELECT count(*) FROM information_schema.processlist WHERE db = database() AND id <> connection_id() "
    "AND command IN ('Query', 'Execute')"
)
CANCELLED_WITHIN_S = 0.1


async def ends(db: Database) -> float:
    """Seconds until the server works at nothing for this database."""
    began = time.monotonic()
    while await db.read().scalar(AT_WORK):
        assert time.monotonic() - began < 5, "a statement goes on in the server"
        await asyncio.sleep(0.005)
    return time.monotonic() - began


def limit(db: Database, seconds: float) -> None:
    backend: Any = db.backend
    backend._time.statement_timeout_s = seconds


@pytest.mark.parametrize("statement", [COUNT, SLEEP], ids=["busy", "asleep"])
async def test_past_its_deadline_a_statement_is_stopped_in_the_server(db: Database, statement: Any) -> None:
    limit(db, 0.3)
    began = time.monotonic()
    with pytest.raises(StatementTimeout):
        await db.read().all(statement, tuple)
    late_s = time.monotonic() - began - 0.3
    limit(db, 10)
    assert late_s + await ends(db) < CANCELLED_WITHIN_S * 3  # the machine is shared with other tests
    if statement is SLEEP:  # it was killed with an error, so what the connection is in is known
        assert db.stats()["connections_opened_total"] == 1


async def test_a_cancelled_statement_is_stopped_in_the_server_and_its_connection_destroyed(
    db: Database,
) -> None:
    task = asyncio.create_task(db.read().all(SLEEP, tuple))
    while not await db.read().scalar(AT_WORK):  # noqa: ASYNC110 - only the server knows
        await asyncio.sleep(0.005)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await ends(db) < CANCELLED_WITHIN_S * 3
    assert db.stats()["connections_dropped_total"] == 1


async def test_a_cancelled_transaction_lets_its_locks_go(db: Database) -> None:
    async with db.tx() as tx:
        await tx.execute(sa.insert(things), name="a")
    held = asyncio.Event()

    async def hold() -> None:
        async with db.tx() as tx:
            await tx.execute(sa.update(things).values(amount=1))
            held.set()
            await tx.all(SLEEP, tuple)

    task = asyncio.create_task(hold())
    await held.wait()
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(2), db.tx() as tx:
        await tx.execute(sa.update(things).values(amount=2))


async def test_a_statement_that_ran_out_of_time_is_undone_by_its_savepoint(db: Database) -> None:
    async with db.tx() as tx:
        await tx.execute(sa.insert(things), name="kept")
        limit(db, 0.2)
        with pytest.raises(StatementTimeout):
            async with tx.savepoint():
                await tx.all(SLEEP, tuple)
        limit(db, 10)
        assert await tx.scalar(sa.select(sa.func.count()).select_from(things)) == 1
    assert await db.read().scalar(sa.select(things.c.name)) == "kept"


async def test_who_waits_for_a_row_too_long_is_told(db: Database) -> None:
    async with db.tx() as tx:
        await tx.execute(sa.insert(things), name="a")

    async def want() -> None:
        async with db.tx() as second:
            await second.execute(sa.text("SET SESSION innodb_lock_wait_timeout = 1"))
            await second.execute(sa.update(things).values(amount=2))

    async with db.tx() as first:
        await first.execute(sa.update(things).values(amount=1))
        with pytest.raises(DatabaseUnavailable, match="lock_timeout_s"):
            await asyncio.create_task(want())


async def test_a_reader_cannot_write_however_it_is_written(db: Database) -> None:
    for text in (
        "INSERT INTO thing (name, amount) VALUES ('x', 1)",
        "CREATE TABLE more (id INT)",
        "DELETE FROM thing",
    ):
        with pytest.raises(TransactionMisuse):
            await db.read().all(sa.text(text), tuple)
