"""Hints cross processes by NOTIFY, and a lost connection is made good."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import sqlalchemy as sa

from support.orders_db import opened
from tenfold.conformance.kit import until
from tenfold.db import Database
from tenfold.db.backends._postgresql_hints import (
    BUSY_PER_S,
    CROWD_PER_S,
    GAP_BUSY_S,
    GAP_MAX_S,
    GAP_MIN_S,
    gap_after,
)

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
