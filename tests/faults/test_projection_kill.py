"""Processes killed while they run or rebuild a projection: each event's effect once, and the position with it."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import sqlalchemy as sa

from support.forked import TESTS
from support.orphans import die_with_parent
from support.projection_worker import NAME, Paid, account, app, configure, db, effect
from support.queue_fire import until
from support.trials import Trials, soak
from tenfold._core.failpoints import KNOWN
from tenfold.assembly.eventstores import store_of
from tenfold.eventstore import progress
from tenfold.eventstore.contract import END

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

KILLS = ["projection.effect@2", "projection.moved@3", "projection.effect@4"]
REBUILD_KILLS = ["rebuild.effect@3", "rebuild.moved@2", "rebuild.swapping@1", "rebuild.swapped@1"]
_positions = sa.select(effect.c.position)
_pids = sa.select(effect.c.pid)


class Scene:
    """Events that are appended here, and processes that run the projection."""

    def __init__(self, folder: Path, database: str) -> None:
        self._folder = folder
        self._pids: list[int] = []
        self._zygote = subprocess.Popen(
            [sys.executable, "-m", "support.projection_worker", str(folder), database],
            cwd=TESTS, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=die_with_parent,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path]), "TENFOLD_APP_ENV": "test"},
        )  # fmt: skip
        self.appended = 0

    async def start(self, mode: str = "right", kill_at: str = "") -> int:
        """A process that is up; it dies at the failpoint ``kill_at``, if one is named. Answers its pid."""
        point, _, visit = kill_at.partition("@")
        assert self._zygote.stdin is not None
        assert self._zygote.stdout is not None
        self._zygote.stdin.write(f"{mode} {f'{point}=kill@{visit}' if point else ''}\n")
        self._zygote.stdin.flush()
        pid = int(await asyncio.to_thread(self._zygote.stdout.readline))
        self._pids.append(pid)
        assert await until(lambda: (self._folder / f"works-{pid}").exists() or not lives(pid))
        return pid

    def kill(self, pid: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def end(self) -> None:
        for pid in self._pids:
            self.kill(pid)
        self._zygote.kill()
        self._zygote.communicate()

    async def append(self, count: int = 1) -> None:
        for _ in range(count):
            async with db.tx() as tx:
                await account.append(tx, f"a{self.appended % 3}", [Paid(1)])
            self.appended += 1

    async def append_until_dead(self, pid: int) -> None:
        """Work for a process that dies of it."""
        for _ in range(600):
            if not lives(pid):
                return
            await self.append()
            await asyncio.sleep(0.02)
        raise AssertionError(f"process {pid} did not die at its failpoint")

    async def caught_up(self) -> bool:
        rows = await db.read().all(_positions, int)
        return len(rows) >= self.appended

    async def rebuilt(self, kill_at: str = "") -> bool:
        """Run a rebuild until its end; False when it was killed."""
        pid = await self.start("rebuild", kill_at)
        assert await until(lambda: not lives(pid))
        return (self._folder / f"done-{pid}").exists()

    async def rebuild_position(self) -> int | None:
        row = await progress.read(db.read(), NAME)
        return None if row is None else row.rebuild_position

    async def pids(self) -> set[int]:
        """Of the processes that the effects are from."""
        return set(await db.read().all(_pids, int))

    async def judge(self) -> dict[str, list[int]]:
        """In one state of the database: what the effects are, and what they should be at the position."""
        async with db.read() as reader:
            row = await progress.read(reader, NAME)
            position = 0 if row is None else row.position
            did = Counter(await reader.all(_positions, int))
            events = await store_of(db).follow(reader, [account.name], 0, END, 10**6)
        wanted = {event.id for event in events if event.id <= position}
        return {
            "missing": sorted(wanted - did.keys()),
            "doubled": sorted(place for place, times in did.items() if times > 1),
            "phantom": sorted(did.keys() - wanted),
        }


NOTHING: dict[str, list[int]] = {"missing": [], "doubled": [], "phantom": []}


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@asynccontextmanager
async def scene(folder: Path, database: str) -> AsyncGenerator[Scene]:
    configure(folder, database, worker=False)
    async with app.lifespan():
        made = Scene(folder, database)
        try:
            yield made
        finally:
            made.end()


async def test_a_projection_killed_at_every_point_has_each_effect_once(
    tmp_path: Path, quick_database: str, trials: Trials
) -> None:
    assert {kill.partition("@")[0] for kill in KILLS} == {p for p in KNOWN if p.startswith("projection.")}
    async with scene(tmp_path, quick_database) as s:
        for kill in KILLS:
            await s.append_until_dead(await s.start(kill_at=kill))
            assert await s.judge() == NOTHING
        await s.start()
        assert await until(s.caught_up)
        assert await s.judge() == NOTHING
        trials("G1", s.appended, quick_database)


async def test_a_rebuild_killed_at_every_point_goes_on_while_the_old_rows_serve_and_events_come(
    tmp_path: Path, typical_database: str, trials: Trials
) -> None:
    assert {kill.partition("@")[0] for kill in REBUILD_KILLS} == {
        p for p in KNOWN if p.startswith("rebuild.")
    }
    async with scene(tmp_path, typical_database) as s:
        runs = await s.start()
        await s.append(20)
        assert await until(s.caught_up)
        resumes_at: list[int | None] = []
        for kill in REBUILD_KILLS:
            assert not await s.rebuilt(kill), kill
            assert await s.judge() == NOTHING, kill
            resumes_at.append(await s.rebuild_position())
            await s.append(2)
        assert resumes_at == [6, 12, resumes_at[2], None], "it goes on where it was"
        assert await s.rebuilt()
        assert await until(s.caught_up)
        assert await s.judge() == NOTHING
        assert await s.pids() - {runs}, "the rows are those of a rebuild"
        assert await s.rebuild_position() is None
        trials("G1", s.appended * 2, typical_database)


async def test_of_several_processes_one_runs_a_projection_until_it_dies(
    tmp_path: Path, typical_database: str
) -> None:
    """And hints wake it: where they come from other processes, it looks by itself once a minute only."""
    async with scene(tmp_path, typical_database) as s:
        for pid in {await s.start(), await s.start()}:
            assert lives(pid)
        await s.append()
        assert await until(s.caught_up)
        [first] = await s.pids()
        for _ in range(10):
            await s.append()
            assert await until(s.caught_up, 10)
        assert await s.pids() == {first}
        s.kill(first)
        await s.append(3)
        assert await until(s.caught_up, 10)
        assert len(await s.pids()) == 2
        assert await s.judge() == NOTHING


@pytest.mark.soak
@pytest.mark.timeout(3600)
async def test_projections_and_rebuilds_killed_at_any_moment_have_each_effect_once(
    tmp_path: Path, quick_database: str, trials: Trials
) -> None:
    dice, kills = random.Random(4), soak(200)
    async with scene(tmp_path, quick_database) as s:
        for _ in range(kills):
            pids = [
                await s.start(dice.choice(["right", "right", "rebuild"])) for _ in range(dice.choice([1, 2]))
            ]
            end_s = asyncio.get_running_loop().time() + dice.uniform(0.0, 1.0)
            while asyncio.get_running_loop().time() < end_s:
                await s.append(dice.randint(1, 5))
            for pid in pids:
                s.kill(pid)
            assert await until(lambda pids=pids: not any(map(lives, pids)))  # type: ignore[misc] # no default
            assert await s.judge() == NOTHING
        await s.start()
        assert await until(s.caught_up)
        assert await s.judge() == NOTHING
        trials("G1", s.appended, quick_database)
        trials("G4", kills, quick_database)


async def test_the_checker_finds_a_build_that_moves_its_position_after_the_effect(
    tmp_path: Path, broken_on: str
) -> None:
    async with scene(tmp_path, broken_on) as s:
        await s.append_until_dead(await s.start("apart", "projection.effect@2"))
        assert (await s.judge())["phantom"], "effects that the position knows nothing of"
        await s.start()
        assert await until(s.caught_up)
        assert await until(lambda: doubled(s), 10)


async def doubled(s: Scene) -> bool:
    return bool((await s.judge())["doubled"])
