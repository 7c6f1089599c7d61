"""G37: a fleet that starts with empty caches does not melt the database.

All instances are killed, the shared store is emptied, and the new instances are asked for everything at once. Together
they may load at most twice what one instance would have to (each value once), and hold no more connections than their
caps allow. Quick setting: 4 instances, 300 values; `make soak`: 8 instances, 1,000 values, 20 times.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest

from support.orphans import die_with_parent
from support.servers import Redis
from support.trials import Trials, soak

TESTS = Path(__file__).parents[1]
POOL = 3
CONNECTIONS = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


class Start(NamedTuple):
    """What a start cost."""

    loads: int
    failed: int
    connections: int
    """The most at a time."""


class Instance:
    def __init__(self, database: str, cache: str, pool: int, keys: int, asks: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.cold_child", database, cache, *map(str, (pool, keys, asks))],
            cwd=TESTS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])},
            preexec_fn=die_with_parent,
        )  # fmt: skip

    def said(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def go(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


class Watch(threading.Thread):
    """Counts the connections to a database again and again; ``most`` is the highest count."""

    def __init__(self, database: str) -> None:
        super().__init__()
        self.most = 0
        self._database, self._over = database, threading.Event()

    def run(self) -> None:
        with psycopg.connect(self._database, autocommit=True) as connection:
            while not self._over.wait(0.01):
                (count,) = connection.execute(CONNECTIONS).fetchone() or (0,)
                self.most = max(self.most, count)

    def end(self) -> int:
        self._over.set()
        self.join()
        return self.most


def cold_start(database: str, caches: Sequence[str], keys: int, pool: int = POOL) -> Start:
    """One instance per cache; every value is asked for five times in each. They are killed as they are."""
    fleet = [Instance(database, cache, pool, keys, 5 * keys) for cache in caches]
    watch = Watch(database)
    watch.start()
    try:
        assert [instance.said() for instance in fleet] == ["ready\n"] * len(fleet)
        for instance in fleet:
            instance.go()
        told: list[dict[str, Any]] = [json.loads(instance.said()) for instance in fleet]
    finally:
        for instance in fleet:
            instance.kill()
        most = watch.end()
    return Start(sum(each["loads"] for each in told), sum(each["failed"] for each in told), most)


def judge(start: Start, instances: int, keys: int) -> None:
    assert start.failed == 0
    assert keys <= start.loads <= 2 * keys
    assert start.connections <= instances * POOL


def test_a_fleet_that_starts_cold_loads_each_value_about_once(
    postgres_url: str, redis_server: Redis, redis_url: str, trials: Trials
) -> None:
    for _ in range(2):  # the second one after all of the first were killed
        redis_server.flush()
        judge(cold_start(postgres_url, [redis_url] * 4, 300), 4, 300)
    trials("G37", 600, postgres_url)


@pytest.mark.soak
def test_twenty_cold_starts_of_eight_instances(
    postgres_url: str, redis_server: Redis, redis_url: str, trials: Trials
) -> None:
    for _ in range(starts := soak(20)):
        redis_server.flush()
        judge(cold_start(postgres_url, [redis_url] * 8, 1_000), 8, 1_000)
    trials("G37", starts * 1_000, postgres_url)


def test_instances_that_share_no_cache_and_open_what_they_like_are_convicted(
    postgres_url: str, redis_url: str
) -> None:
    start = cold_start(postgres_url, [redis_url.replace("/0", f"/{n}") for n in range(1, 4)], 100, pool=20)
    assert start.loads == 300
    assert start.connections > 3 * POOL
    with pytest.raises(AssertionError):
        judge(start, 3, 100)
