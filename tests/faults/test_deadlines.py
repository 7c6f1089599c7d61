"""G16: over three hops, nothing begins after its deadline, and the statement in the database is cancelled.

When a statement ended is what its server says: a watch of its own asks what the server works at, with the time of its
clock. A trial during which the machine held up the watch itself tells nothing and is made again.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from itertools import pairwise
from pathlib import Path

import httpx2
import msgspec
import psycopg
import pymysql
import pytest
import sqlalchemy as sa

from support import deadline_chain as chain
from support.deadline_chain import MARK, Entry
from support.process import Process
from support.servers import free_port
from support.trials import Trials, soak
from tenfold.testing.client import Client

CANCELLED_WITHIN_S = 0.1
HELD_UP_S = 0.04
"""A watch that could not look for so long was held up, as the process that it watches may have been."""
AT_ONCE = 8

Look = Callable[[], set[int]]


class Watch:
    """Looks every few milliseconds at which trials the server is at work."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.last_seen: dict[int, float] = {}
        """When each trial was seen at work last, monotonic."""
        self.looks: list[float] = []

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.002):
            before = time.monotonic()  # what is found was so at this moment, or later
            for trial in self._look():
                self.last_seen[trial] = before
            self.looks.append(before)

    def was_held_up(self, since: float, until: float) -> bool:
        looks = [since, *(at for at in self.looks if since < at < until), until]
        return max(b - a for a, b in pairwise(looks)) > HELD_UP_S


def trials_in(texts: list[str]) -> set[int]:
    return {int(text.partition(MARK)[2].split()[0]) for text in texts}


@contextmanager
def looking_at(name: str, url: str) -> Generator[Look]:
    """How to ask a server what it works at; SQLite has none, and says itself when it has ended."""
    if name == "sqlite":
        yield set
    elif name == "postgresql":
        sql = f"SELECT query FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT pg_sleep%{MARK}%'"
        with psycopg.connect(url, autocommit=True) as postgres:
            yield lambda: trials_in([row[0] for row in postgres.execute(sql)])
    else:
        sql = f"SELECT info FROM information_schema.processlist WHERE info LIKE 'SELECT sleep%{MARK}%'"
        where = sa.make_url(url)
        connection = pymysql.connect(
            host=where.host,
            port=where.port or 3306,
            user=where.username,
            password=where.password or "",
            database=where.database,
        )

        def look() -> set[int]:
            with connection.cursor() as cursor:
                cursor.execute(sql)
                return trials_in([row[0] for row in cursor.fetchall()])

        with connection:
            yield look


@contextmanager
def behind(folder: Path, broken: str = "", **urls: str) -> Generator[str]:
    """The second process; its address."""
    port, ops = free_port(), free_port()
    given = {f"DEADLINE_{name.upper()}": url for name, url in urls.items()}
    tests = str(Path(__file__).parents[1])
    env = {
        **given, "DEADLINE_DATA": str(folder), "DEADLINE_BROKEN": broken, "PYTHONPATH": tests,
        "TENFOLD_LOG_ACCESS": "false",
    }  # fmt: skip
    command = [
        "run",
        "support.deadline_chain:back",
        "--port",
        str(port),
        "--ops-port",
        str(ops),
        "--data",
        str(folder),
    ]
    argv = [sys.executable, "-m", "tenfold", *command]
    with Process(argv, cwd=folder, env=env, ready=f"http://127.0.0.1:{ops}/health/ready") as process:
        process.wait_ready()
        yield f"http://127.0.0.1:{port}"


@asynccontextmanager
async def in_front(folder: Path, url: str) -> AsyncGenerator[Client]:
    """The first process is this one."""
    chain.front.configure(
        None, environ={}, app__env="test", app__data_dir=str(folder), database__url="sqlite:///:memory:",
        worker__enabled=False, clients={"behind": {"url": url, "allow": ["127.0.0.1"]}},
    )  # fmt: skip
    await chain.front.start(worker=False)
    try:
        yield Client(chain.front)
    finally:
        await chain.front.stop()


async def ask(client: Client, name: str, trial: int, timeout_ms: int) -> int:
    answer = await client.get(f"/order/{name}/{trial}", headers={"Tenfold-Timeout-Ms": str(timeout_ms)})
    return answer.status


def wrong(name: str, trial: int, entries: list[Entry], watch: Watch) -> str | None:
    """What the log of a trial shows that must not be; empty when the machine was held up; None when all is well."""
    of = {entry.hop: entry for entry in entries if entry.trial == trial}
    end = of["front"].deadline
    if watch.was_held_up(of["front"].at, end + CANCELLED_WITHIN_S):
        return ""
    for hop in ("desk", "store", "rows"):
        if hop not in of:
            continue
        # A hop away, the time that is left is counted from its arrival there.
        way_s = of["store"].at - of["sent"].at if hop in ("store", "rows") else 0.0
        if of[hop].at >= end + way_s:
            return f"{hop} began {of[hop].at - end:.3f} s after the deadline"
        if of[hop].deadline > end + way_s:
            return f"{hop} believed in a deadline {of[hop].deadline - end:.3f} s later"
    ended = of["ended"].at if name == "sqlite" else watch.last_seen.get(trial, of["front"].at)
    if name != "sqlite" and trial not in watch.last_seen:
        return f"the statement of trial {trial} was never seen at work"
    late_s = ended - end
    return (
        None
        if late_s <= CANCELLED_WITHIN_S
        else f"the statement was at work {late_s:.3f} s after the deadline"
    )


async def violations(folder: Path, name: str, url: str, address: str, n: int) -> list[str]:
    """What ``n`` trials on one database show."""
    found: list[str] = []
    judged = first = 0
    with looking_at(name, url) as look:
        async with in_front(folder, address) as client:
            while judged < n:
                assert first < 20 * n, "the machine was too busy to measure at all"
                trials = range(first, first + min(AT_ONCE, n))
                first += len(trials)
                verdicts = [
                    verdict for verdict in await a_round(client, name, address, look, trials) if verdict != ""
                ]
                judged += len(verdicts)
                found += [verdict for verdict in verdicts if verdict is not None]
    return found


async def a_round(client: Client, name: str, address: str, look: Look, trials: range) -> list[str | None]:
    """Trials at the same time, and what each shows: see :func:`wrong`."""
    chain.log.clear()
    with Watch(look) as watch:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ask(client, name, t, 300 + t % AT_ONCE * 7)) for t in trials]
        await asyncio.sleep(2 * CANCELLED_WITHIN_S)  # what goes on, the watch sees
    assert {task.result() for task in tasks} == {504}
    behind_there = msgspec.json.decode(httpx2.get(f"{address}/log").content, type=list[Entry])
    entries = [*chain.log, *behind_there]
    return [wrong(name, trial, entries, watch) for trial in trials]


async def everywhere(folder: Path, n: int, trials: Trials, urls: dict[str, str]) -> None:
    with behind(folder, **urls) as address:
        for name, url in urls.items():
            assert await violations(folder, name, url, address, n) == []
            trials("G16", n, name)


@pytest.fixture
def urls(postgres_url: str, mariadb_url: str) -> dict[str, str]:
    return {"sqlite": "sqlite:///slow.db", "postgresql": postgres_url, "mariadb": mariadb_url}


@pytest.mark.anyio
async def test_nothing_begins_late_and_the_statement_is_cancelled(
    tmp_path: Path, urls: dict[str, str], trials: Trials
) -> None:
    await everywhere(tmp_path, 4, trials, urls)


@pytest.mark.soak
@pytest.mark.anyio
@pytest.mark.timeout(1800)
async def test_nothing_begins_late_over_many_trials(
    tmp_path: Path, urls: dict[str, str], trials: Trials
) -> None:
    await everywhere(tmp_path, soak(1_000), trials, urls)


@pytest.mark.soak
@pytest.mark.anyio
@pytest.mark.parametrize(
    ("broken", "why"), [("hop", "rows believed in a deadline"), ("statement", "the statement was at work")]
)
async def test_a_broken_build_is_convicted(tmp_path: Path, postgres_url: str, broken: str, why: str) -> None:
    """One that forgets the deadline at a hop, and one that does not cancel the statement."""
    with behind(tmp_path, broken, postgresql=postgres_url) as address:
        found = await violations(tmp_path, "postgresql", postgres_url, address, 3)
    assert found
    assert all(why in verdict for verdict in found), found
