"""Streams of events move with the positions of what follows them: a projection goes on where it was."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import sqlalchemy as sa

from support.forked import TESTS
from support.projection_worker import NAME, Paid, account, app, configure, db, effect
from tenfold.assembly.eventstores import store_of
from tenfold.eventstore import progress
from tenfold.eventstore.rebuild import Rebuild

EVENTS = 10
_positions = sa.select(effect.c.position)


async def append(count: int) -> None:
    for n in range(count):
        async with db.tx() as tx:
            await account.append(tx, f"a{n % 3}", [Paid(1)])


async def fill(folder: Path) -> None:
    """Ten events, and the projection after its first batch."""
    configure(folder, "sqlite:///app.db", worker=False)
    async with app.lifespan():
        await append(EVENTS)
        assert await app.assembly.eventstores.running[0].turn()
        assert len(await db.read().all(_positions, int)) < EVENTS


async def begin_rebuild(folder: Path) -> None:
    configure(folder, "sqlite:///app.db", worker=False)
    async with app.lifespan():
        await the_rebuild()._begin(anew=False)


def the_rebuild() -> Rebuild:
    return Rebuild(app.assembly.eventstores.projections[0], db, store_of(db), app.clock)


async def go_on(folder: Path, url: str) -> None:
    configure(folder, url, worker=False)
    async with app.lifespan():
        before = await progress.read(db.read(), NAME)
        assert before is not None
        assert 0 < before.position < EVENTS
        await append(EVENTS)
        assert await app.assembly.eventstores.pump() == 2 * EVENTS - before.position
        await judge()
        await the_rebuild().run()
        await judge()


async def judge() -> None:
    """Each event has had its effect once, and streams go on with their next versions."""
    did = Counter(await db.read().all(_positions, int))
    assert len(did) == 2 * EVENTS
    assert set(did.values()) == {1}
    loaded = await account.load_many(db.read(), ["a0", "a1", "a2"])
    assert [found.version for found in loaded.values()] == [8, 6, 6]


def grow(folder: Path, url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tenfold", "grow", "support.projection_worker:app", "--data", str(folder), "--to", url],
        cwd=TESTS, env={**os.environ, "PYTHONPATH": str(TESTS)}, capture_output=True, text=True, timeout=100,
        check=False,
    )  # fmt: skip


def test_a_projection_in_mid_course_goes_on_in_the_new_database(tmp_path: Path, postgres_url: str) -> None:
    asyncio.run(fill(tmp_path))
    done = grow(tmp_path, postgres_url)
    assert done.returncode == 0, done.stdout + done.stderr
    asyncio.run(go_on(tmp_path, postgres_url))


def test_a_rebuild_is_finished_before_its_database_moves(tmp_path: Path, postgres_url: str) -> None:
    asyncio.run(fill(tmp_path))
    asyncio.run(begin_rebuild(tmp_path))
    done = grow(tmp_path, postgres_url)
    assert done.returncode == 2
    assert "error: grow: a projection is being rebuilt" in done.stderr
