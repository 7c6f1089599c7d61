"""Several processes write one file: each gets its turn, none loses anything, none waits for ever."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

import apsw
import pytest
import sqlalchemy as sa

from support.bank import Child
from support.orders_db import Order, add_order, opened, orders_in
from tenfold import errors


def test_processes_that_write_without_pause_all_make_progress(tmp_path: Path) -> None:
    running = [Child(tmp_path, "sqlite:///bank.db", f"p{n}") for n in range(3)]
    try:
        for child in running:
            child.until(0)
        time.sleep(1.0)  # how long they contend
    finally:
        errors_of = [child.end() for child in running]
    assert [child.code for child in running] == [-signal.SIGKILL] * 3, errors_of
    acknowledged = [child.acknowledged for child in running]
    conn = apsw.Connection(str(tmp_path / "bank.db"))
    found: dict[str, int] = dict(
        conn.execute("SELECT transfer, count(*) FROM entries GROUP BY transfer").fetchall()
    )
    conn.close()
    assert set(found.values()) == {2}
    assert [transfer for lines in acknowledged for transfer in lines if transfer not in found] == []
    assert min(len(lines) for lines in acknowledged) > 100


@pytest.mark.anyio
async def test_a_lock_held_elsewhere_is_waited_for_and_then_refused_while_reads_go_on(tmp_path: Path) -> None:
    async with opened(tmp_path, lock_timeout_s=0.1) as db:
        for _ in range(5):
            async with db.tx() as tx:
                await tx.one(add_order, Order, customer="warm")
        other = apsw.Connection(str(tmp_path / "test.db"))
        other.execute("BEGIN IMMEDIATE")
        other.execute("INSERT INTO orders (customer, total) VALUES ('theirs', 0)")

        started = time.monotonic()
        with pytest.raises(errors.DatabaseUnavailable, match="locked by another process for too long"):
            async with db.tx() as tx:
                await tx.one(add_order, Order, customer="refused")
        assert 0.1 <= time.monotonic() - started < 3
        assert await orders_in(db) == 5

        async def ours() -> None:
            async with db.tx() as tx:
                await tx.one(add_order, Order, customer="ours")

        waiting = asyncio.create_task(ours())
        while db.stats()["begins_busy"] < 2:  # noqa: ASYNC110 - nothing signals that it began to wait
            await asyncio.sleep(0)
        other.execute("COMMIT")
        await waiting
        other.close()
        assert await orders_in(db) == 7
        assert await db.read().scalar(sa.text("PRAGMA integrity_check")) == "ok"


@pytest.mark.anyio
async def test_cancelled_while_another_process_holds_the_file_the_writer_stays_usable(tmp_path: Path) -> None:
    async with opened(tmp_path, lock_timeout_s=5) as db:
        other = apsw.Connection(str(tmp_path / "test.db"))
        other.execute("BEGIN IMMEDIATE")

        async def ours() -> None:
            async with db.tx() as tx:
                await tx.one(add_order, Order, customer="ours")

        waiting = asyncio.create_task(ours())
        while db.stats()["begins_busy"] < 1:  # noqa: ASYNC110 - nothing signals that it began to wait
            await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        other.execute("ROLLBACK")
        other.close()
        await ours()
        assert await orders_in(db) == 1
