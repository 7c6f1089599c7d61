"""G5 on database servers and with keys in Redis: whatever dies when, a key has one effect and one reply."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa

from support.forked import Forked
from support.guards import backend_of, effects, make_tables

COUNT, KILLS = 100, 3

Replies = list[tuple[str, str]]


def run(
    database: str,
    keys: str,
    first: int,
    count: int,
    *,
    kill_after: int | None = None,
    failpoint: str = "",
) -> tuple[int, Replies]:
    """One child, killed after so many replies: its exit status, and the replies that went out before it ended."""
    words = (database, keys, str(first), str(count))
    child = Forked("faults.idempotency_stores_child", *words, failpoints=failpoint)
    assert child.stdout.readline() == "ready\n", child.errors()
    timer = threading.Timer(60, child.kill)
    timer.start()
    lines = [child.stdout.readline() for _ in range(kill_after or 0)]
    if kill_after is not None:
        child.kill()
    lines += child.stdout.readlines()
    status = child.wait()
    timer.cancel()
    return status, [tuple(json.loads(line)) for line in lines if line.endswith("\n")]


def counts(database: str) -> dict[str, int]:
    """Effects by key."""
    backend = backend_of(database)

    async def read() -> dict[str, int]:
        await backend.start()
        engine = backend.sync_engine(write=False)

        def rows() -> dict[str, int]:
            by_key = sa.select(effects.c.key, sa.func.count()).group_by(effects.c.key)
            with engine.connect() as connection:
                return dict(connection.execute(by_key).tuples().all())

        try:
            return await asyncio.to_thread(rows)
        finally:
            engine.dispose()
            await backend.stop()

    return asyncio.run(read())


def one_effect_each(database: str) -> None:
    """Children are killed at any time; each next one asks for all keys again."""
    asyncio.run(make_tables(database))
    dice, replies, killed = random.Random(database[:5]), list[tuple[str, str]](), 0
    for _ in range(KILLS):
        status, told = run(database, "-", 0, COUNT, kill_after=dice.randrange(COUNT * 3 // 4))
        killed += status == -signal.SIGKILL
        replies += told
    status, told = run(database, "-", 0, COUNT)
    assert status == 0
    assert killed >= 2, "nothing was killed; the test proves nothing"
    assert counts(database) == {f"key-{n}": 1 for n in range(COUNT)}
    assert {body for _, body in [*replies, *told]} == {"1"}


def test_killed_at_any_time_on_postgresql(postgres_url: str) -> None:
    one_effect_each(postgres_url)


@pytest.mark.soak
def test_killed_at_any_time_on_mariadb(mariadb_url: str) -> None:
    one_effect_each(mariadb_url)


def test_with_keys_in_redis_a_kill_before_the_commit_repeats_nothing(tmp_path: Path, redis_url: str) -> None:
    database = f"sqlite:///{tmp_path / 'app.db'}"
    asyncio.run(make_tables(database))
    for visit in (1, 2):
        status, _ = run(database, redis_url, 0, 8, failpoint=f"db.commit.before=kill@{visit}")
        assert status == -signal.SIGKILL
    status, told = run(database, redis_url, 0, 8)
    assert status == 0
    assert counts(database) == {f"key-{n}": 1 for n in range(8)}
    assert {body for _, body in told} == {"1"}


def test_with_keys_in_redis_a_kill_between_commit_and_reply_repeats_as_declared(
    tmp_path: Path, redis_url: str
) -> None:
    """What ``effect_atomic=False`` means. It also shows that these checks can fail."""
    database = f"sqlite:///{tmp_path / 'app.db'}"
    asyncio.run(make_tables(database))
    status, _ = run(database, redis_url, 0, 8, failpoint="db.commit.after=kill@1")
    assert status == -signal.SIGKILL
    assert run(database, redis_url, 0, 8)[0] == 0
    assert max(counts(database).values()) == 2
