"""Hints cross processes by NOTIFY, and a lost connection is made good."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from support.orders_db import opened
from support.queues import rig
from tenfold.conformance.kit import until
from tenfold.db import Database, Tx
from tenfold.db.backends import _postgresql_line as line
from tenfold.db.backends._postgresql_hints import (
    BUSY_PER_S,
    CROWD_PER_S,
    GAP_BUSY_S,
    GAP_MAX_S,
    GAP_MIN_S,
    gap_after,
)
from tenfold.errors import StatementError
from tenfold.jobs import Job
from tenfold.queue.queue import TOPIC

pytestmark = pytest.mark.anyio

listeners = "FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%' AND pid <> pg_backend_pid()"
listening = sa.text(f"SELECT count(*) {listeners}")
cut = sa.text(f"SELECT count(pg_terminate_backend(pid)) {listeners}")


async def is_listening(db: Database) -> bool:
    return bool(await db.read().scalar(listening))


async def test_a_hint_wakes_other_processes_once_for_many(
    db: Database, tmp_path: Path, postgres_url: str
) -> None:
    async with opened(tmp_path, url=postgres_url) as other:
        woken: list[str] = []
        other.backend.on_hint("queue", lambda: woken.append("other"))
        await until(lambda: woken, "the first call after listening began")
        woken.clear()
        for _ in range(500):
            db.backend.hint("queue")
        await until(lambda: woken, "the hint")
        assert len(woken) <= 2


@pytest.mark.parametrize(
    ("per_s", "gap_s"),
    [(BUSY_PER_S / 2, GAP_MIN_S), (BUSY_PER_S * 2, GAP_BUSY_S), (CROWD_PER_S * 2, GAP_MAX_S)],
)
def test_the_more_hints_come_the_more_of_them_one_call_tells(per_s: float, gap_s: float) -> None:
    gap, given = GAP_MIN_S, 0.0
    for _ in range(100):
        given += per_s * gap
        told, given = int(given), given % 1
        gap = gap_after(gap, told, gap)
    assert gap == gap_s
    assert gap_after(GAP_MAX_S, 0, GAP_MAX_S) == GAP_MIN_S, "who comes after a silence waits for nobody"


@pytest.fixture
async def queues(tmp_path: Path, postgres_url: str) -> AsyncGenerator[tuple[Any, Any]]:
    """A process that enqueues, and another one's calls."""
    job = Job[Any, None]("s", noop)
    async with rig(tmp_path, job, database=postgres_url, connections=1) as r:
        await job.enqueue(r.db)  # its statements are prepared
        async with opened(tmp_path, url=postgres_url) as other:
            woken: list[str] = []
            other.backend.on_hint(TOPIC, lambda: woken.append("other"))
            await until(lambda: woken, "the first call after listening began")
            woken.clear()
            await r.clock.advance(1)  # the next hint is alone
            yield (r, job), woken


async def noop() -> None: ...


async def test_a_hint_that_goes_along_with_its_commit_wakes_others(queues: Any) -> None:
    """With nothing given afterwards: what is told twice is looked for twice."""
    (r, job), woken = queues
    r.db.backend._wire.give = None
    handle = await job.enqueue(r.db)
    await until(lambda: woken, "the hint")
    assert (await handle.status()).state == "ready"  # by the same connection


async def test_what_becomes_of_a_hint_behind_a_commit_is_nobodys_concern(queues: Any) -> None:
    """The server refuses it. The enqueue stands, and the connection serves on."""
    (r, job), _ = queues
    wrong = line.query("NOTIFY nothing, of the kind")
    r.db.backend._wire.along = lambda topic, link: wrong if link.takes_behind else b""
    handles = [await job.enqueue(r.db) for _ in range(5)]
    assert [(await handle.status()).state for handle in handles] == ["ready"] * 5
    assert r.db.stats()["connections_opened_total"] == 1


async def test_one_hint_behind_a_commit_is_on_its_way_at_a_time(queues: Any) -> None:
    """NOTIFY waits for other transactions that do the same; those who commit meanwhile send none, and wait for none."""
    (r, job), _ = queues
    wire = r.db.backend._wire
    real, asked = wire.along, []

    def held_up(topic: str, link: Any) -> bytes:
        asked.append(real(topic, link))
        return asked[-1] and line.query("SELECT pg_sleep(1)")

    wire.along = held_up
    async with asyncio.timeout(0.5):
        await job.enqueue(r.db)
    await r.clock.advance(1)
    assert wire.along(TOPIC, wire._carrier) == b""
    assert [bool(said) for said in asked] == [True, False]


async def test_what_fails_fails_with_a_hint_behind_it_too(queues: Any) -> None:
    (r, job), woken = queues

    async def fail(tx: Tx) -> None:
        tx.channel.commit_with_next(hint=TOPIC)
        await tx.all(
            sa.text("INSERT INTO effect (what) SELECT CAST(1 / CAST(:n AS int) AS text) RETURNING id"), n=0
        )

    with pytest.raises(StatementError, match="by zero"):
        async with r.db.tx() as tx:
            tx.before_commit(fail)
    await r.clock.advance(1)
    assert (await (await job.enqueue(r.db)).status()).state == "ready"
    await until(lambda: woken, "the hint of what was enqueued")
    assert len(woken) == 1  # the server takes no NOTIFY in a transaction that has failed
    assert r.db.stats()["connections_opened_total"] == 1


async def test_after_the_connection_was_lost_everybody_is_woken(db: Database) -> None:
    woken: list[str] = []
    db.backend.on_hint("queue", lambda: woken.append("x"))
    await until(lambda: woken, "the first call")
    await until(lambda: is_listening(db), "LISTEN")
    woken.clear()
    await db.read().scalar(cut)
    await until(lambda: woken, "the call after listening again")
    await until(lambda: is_listening(db), "LISTEN again")


async def test_a_hint_of_ones_own_comes_back_only_once(db: Database) -> None:
    woken: list[str] = []
    db.backend.on_hint("queue", lambda: woken.append("x"))
    await until(lambda: woken, "the first call")
    woken.clear()
    db.backend.hint("queue")
    await asyncio.sleep(0.1)
    assert woken == ["x"]
