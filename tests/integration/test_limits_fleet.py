"""G13: a limit is never exceeded over a fleet. Four processes take from one cell; their log is replayed exactly."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from support.guards import make_tables
from support.orphans import die_with_parent
from tenfold.conformance.limits import wrong_decisions
from tenfold.guard.gcra import Taken

CHILD = Path(__file__).with_name("limits_child.py")
PROCESSES, TAKES = 4, 200
COST, ROOM = 10_000, 200_000  # 100 a second, 20 at once


def run_fleet(urls: list[str]) -> list[list[Taken]]:
    """The decisions of all processes, by store."""
    command = [sys.executable, str(CHILD), str(TAKES), str(COST), str(ROOM), *urls]
    fleet = [
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"PYTHONPATH": str(CHILD.parents[1])},
            preexec_fn=die_with_parent,
        )
        for _ in range(PROCESSES)
    ]
    logs: list[list[Taken]] = []
    try:
        for _ in urls:
            for child in fleet:
                assert child.stdout is not None
                assert child.stdout.readline() == "ready\n"
            for child in fleet:
                assert child.stdin is not None
                child.stdin.write("go\n")
                child.stdin.flush()
            lines = [json.loads(child.stdout.readline()) for child in fleet if child.stdout is not None]
            logs.append([Taken(bool(a), at, (ahead,)) for line in lines for a, at, ahead in line])
        assert [child.wait(20) for child in fleet] == [0] * PROCESSES
    finally:
        for child in fleet:
            child.kill()
    return logs


def judge(name: str, log: list[Taken]) -> None:
    assert len(log) == PROCESSES * TAKES
    cell = ("one", COST, ROOM)
    assert wrong_decisions((cell, taken) for taken in log) == [], name
    admitted = [taken for taken in log if taken.admitted]
    seconds = (max(t.at_us for t in log) - min(t.at_us for t in log)) / 1e6
    allowed = min(len(log), 20 + seconds * 100)
    print(
        f"{name}: {len(log)} decisions in {seconds:.2f} s, {len(admitted)} admitted of {allowed:.1f} allowed"
    )
    assert len(admitted) <= allowed + 1
    assert len(admitted) >= min(20, 0.99 * allowed - 1)


def test_a_fleet_admits_what_one_process_would(
    tmp_path: Path, postgres_url: str, mariadb_url: str, redis_url: str
) -> None:
    databases = {
        "SQLite": f"sqlite:///{tmp_path / 'app.db'}", "PostgreSQL": postgres_url, "MariaDB": mariadb_url
    }  # fmt: skip
    for url in databases.values():
        asyncio.run(make_tables(url))
    stores = {**databases, "Redis": redis_url}
    for name, log in zip(stores, run_fleet(list(stores.values())), strict=True):
        judge(name, log)


def test_the_replay_convicts_processes_that_count_each_by_itself() -> None:
    log = [Taken(True, 1_000_000 + n, (COST,)) for n in range(4)]
    with pytest.raises(AssertionError):
        judge("each by itself", log * TAKES)
