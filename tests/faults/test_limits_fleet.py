"""G13: a limit is never exceeded over a fleet, with units taken ahead, and with wall clocks that are minutes apart.

Eight processes check one limit in waves. What they admitted is replayed on the machine's clock, which all share, by a
judge that knows nothing of leases: a bucket that must not overflow.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.envelopes import allowed, over
from support.guards import make_tables
from support.orphans import die_with_parent
from support.servers import Redis
from support.trials import Trials, soak

CHILD = Path(__file__).with_name("limits_fleet.py")
INSTANCES = 8
COST, ROOM = 2_500, 2_000_000  # 400 a second, 800 at once


def run_fleet(waves: int, jobs: list[str]) -> dict[str, Any]:
    """What was wanted and admitted, by job."""
    done = subprocess.run(
        [sys.executable, str(CHILD), str(INSTANCES), str(waves), *jobs],
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": str(CHILD.parents[1])},
        preexec_fn=die_with_parent,
        check=True,
    )
    logs: dict[str, Any] = json.loads(done.stdout)
    return logs


def judge(name: str, log: Any) -> int:
    """By how much the limit was exceeded, in microseconds of it."""
    wanted, admitted = ([(at, cost) for at, cost in log[kind]] for kind in ("wanted", "admitted"))
    local, without = (sum(numbers) for numbers in zip(*log["local"], strict=True))
    best = allowed(wanted, ROOM)
    got = sum(cost for _, cost in admitted)
    print(
        f"{name}: {len(wanted)} checks, {len(admitted)} admitted, {local} of them locally, {best // COST} at best; "
        f"over by {over(admitted, ROOM)} us"
    )
    assert without == 0
    assert local, "no check was decided by a lease: nothing was tried"
    assert got <= sum(cost for _, cost in wanted)
    return over(admitted, ROOM)


@pytest.fixture
def stores(tmp_path: Path, postgres_url: str, mariadb_url: str, redis_url: str) -> dict[str, str]:
    databases = {
        "SQLite": f"sqlite:///{tmp_path / 'app.db'}", "PostgreSQL": postgres_url, "MariaDB": mariadb_url
    }  # fmt: skip
    for url in databases.values():
        asyncio.run(make_tables(url))
    return {**databases, "Redis": redis_url}


def test_a_fleet_with_leases_does_not_exceed_the_limit(
    postgres_url: str, redis_url: str, trials: Trials
) -> None:
    asyncio.run(make_tables(postgres_url))
    urls = {"PostgreSQL": postgres_url, "Redis": redis_url}
    logs = run_fleet(1, [f"sound={url}" for url in urls.values()])
    for name, log in zip(urls, logs.values(), strict=True):
        assert judge(name, log) == 0
        trials("G13", len(log["wanted"]), name)


@pytest.mark.soak
@pytest.mark.parametrize("name", ["SQLite", "PostgreSQL", "MariaDB", "Redis"])
def test_nor_in_a_million_decisions(name: str, stores: dict[str, str], trials: Trials) -> None:
    decided, left = 0, soak(1_000_000) // 4
    while decided < left:
        (log,) = run_fleet(30, [f"sound={stores[name]}"]).values()
        assert judge(name, log) == 0
        decided += len(log["wanted"])
    trials("G13", decided, name)


@pytest.mark.soak
@pytest.mark.parametrize("name", ["SQLite", "PostgreSQL", "MariaDB", "Redis"])
def test_what_a_full_limit_admits_is_missed_by_a_hundredth_at_most(
    name: str, stores: dict[str, str], trials: Trials
) -> None:
    (log,) = run_fleet(20, [f"flood={stores[name]}"]).values()
    assert judge(name, log) == 0
    best = allowed([(at, cost) for at, cost in log["wanted"]], ROOM)
    assert sum(cost for _, cost in log["admitted"]) >= 0.99 * best
    trials("G13", len(log["wanted"]), name)


@pytest.mark.soak
@pytest.mark.parametrize("variant", ["by-itself", "wall-clock", "after-its-end"])
def test_broken_instances_are_convicted(variant: str, redis_server: Redis) -> None:
    redis_server.flush()
    (log,) = run_fleet(6, [f"{variant}={redis_server.url()}"]).values()
    assert judge(variant, log) > 0
