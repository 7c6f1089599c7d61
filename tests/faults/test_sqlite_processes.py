"""Several processes write one file: each gets its turn, none loses anything, none waits for ever."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import apsw
import pytest
import sqlalchemy as sa

from support.orders_db import Order, add_order, opened, orders_in
from support.orphans import die_with_parent
from tenfold import errors

CHILD = Path(__file__).with_name("sqlite_child.py")


@contextmanager
def children(folder: Path, count: int) -> Generator[list[subprocess.Popen[bytes]]]:
    """Children that write without pause. What they say goes to files, so that no full pipe slows them."""
    made = [
        subprocess.Popen(
            [sys.executable, str(CHILD), str(folder), f"p{n}", "sound"],
            stdout=(folder / f"said-{n}").open("wb"),
            stderr=(folder / f"errors-{n}").open("wb"),
            preexec_fn=die_with_parent,
        )
        for n in range(count)
    ]
    try:
        yield made
    finally:
        for child in made:
            child.kill()
            child.wait()


def said(folder: Path, n: int) -> list[str]:
    return (folder / f"said-{n}").read_text().split("\n")[:-1]


def wait_for_lines(folder: Path, n: int, lines: int, timeout_s: float = 30.0) -> None:
    until = time.monotonic() + timeout_s
    while len(said(folder, n)) < lines:
        assert time.monotonic() < until, (folder / f"errors-{n}").read_text()
        time.sleep(0.01)


def test_processes_that_write_without_pause_all_make_progress(tmp_path: Path) -> None:
    with children(tmp_path, 3) as running:
        for n in range(3):
            wait_for_lines(tmp_path, n, 1)
        time.sleep(1.0)  # how long they contend
        for child in running:
            child.send_signal(signal.SIGKILL)
            child.wait()
    assert [child.returncode for child in running] == [-signal.SIGKILL] * 3
    acknowledged = [said(tmp_path, n)[1:] for n in range(3)]
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
