"""What the queue promises while workers die, transactions roll back or commit late, and messages come twice.

Each check has a build that is broken on purpose, and has to find it guilty.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from support.queue_fire import deaths_by_message, finished, scene, until
from support.queue_worker import REDELIVERED, Counted, counted
from support.queues import Rig, counters
from support.trials import Trials, soak
from tenfold.errors import DatabaseError
from tenfold.queue.tables import archive, message

pytestmark = pytest.mark.anyio

STUCK_S = 4.0
"""After so long without an end, a broken build is held to be stuck. (Leases are one second.)"""


# ── G4: effects once, however often a message is delivered ──

# What is running in its first run loses its lease, so that it is handed out while it still runs.
_deliver_again = sa.text(
    "UPDATE tenfold_message SET lease_until = 1 WHERE state = 'running' AND crashes = 0 "
    "AND lease_until > 1 AND payload LIKE :some"
)
_counts = sa.select(counters.c.value)
_columns = ("kind", "handler", "queue", "lane", "priority", "created_at", "payload", "event_id")
_publish_again = sa.insert(message).from_select(
    [*_columns, "state", "run_at"],
    sa.select(*(archive.c[name] for name in _columns), sa.literal("ready"), archive.c.created_at).where(
        archive.c.kind == "event", archive.c.id % REDELIVERED == 0
    ),
)


async def redelivered(folder: Path, database: str, mode: str, n: int, kills: int = 0) -> set[int]:
    """``n`` jobs and ``n`` events of which every fifth is delivered twice; the counts that came out."""
    async with scene(folder, database, mode, "silent") as (r, declared, fleet):
        async with r.db.tx() as tx:
            await tx.load(counters, [{"id": i, "value": 0} for i in range(2 * n)])
            for i in range(n, 2 * n):
                await counted.publish(tx, Counted(i))
        await declared["bump"].enqueue_many(r.db, [{"n": i} for i in range(n)])
        again = asyncio.create_task(deliver_again(r))
        await fleet.kill_at_random(random.Random(4), kills, pause_s=1.0)
        assert await until(lambda: finished(r), 60.0 + n / 50)
        assert not again.done()
        again.cancel()
        assert len([1 for deaths in (await deaths_by_message(r)).values() if deaths]) >= n // REDELIVERED // 2
        async with r.db.tx() as tx:
            assert await tx.execute(_publish_again) > 0
        assert await until(lambda: finished(r), 60.0 + n / 50)
        # the first runs of what was handed out again may be late
        if mode == "right":
            await fleet.drain()
        else:
            await until(lambda: counted_twice(r), STUCK_S)
        return set(await r.db.read().all(_counts, int))


async def counted_twice(r: Rig) -> bool:
    return 2 in await r.db.read().all(_counts, int)


async def deliver_again(r: Rig) -> None:
    """Jobs whose number is a multiple of five run for a while the first time."""
    while True:
        with suppress(
            DatabaseError
        ):  # a worker was at the same rows, and the server had one of the two give way
            async with r.db.tx() as tx:
                for last in ("0", "5"):
                    await tx.execute(_deliver_again, some=f"%{last}}}")
        await asyncio.sleep(0.05)


async def test_effects_happen_once_however_often_a_message_is_delivered(
    tmp_path: Path, quick_database: str, trials: Trials
) -> None:
    assert await redelivered(tmp_path, quick_database, "right", 40, kills=1) == {1}
    trials("G4", 80, quick_database)


@pytest.mark.soak
async def test_many_effects_happen_once_however_often_a_message_is_delivered(
    tmp_path: Path, database: str, trials: Trials
) -> None:
    n = soak(170_000)
    assert await redelivered(tmp_path, database, "right", n, kills=soak(300)) == {1}
    trials("G4", 2 * n, database)


@pytest.mark.parametrize("mode", ["unfenced", "no-inbox"])
async def test_the_checker_finds_a_build_whose_effects_happen_twice(
    tmp_path: Path, broken_on: str, mode: str
) -> None:
    assert 2 in await redelivered(tmp_path, broken_on, mode, 20)


# ── G6: a message exists if and only if its transaction committed ──


class Undo(Exception):
    """Raised to roll back."""


async def committed(
    folder: Path, database: str, mode: str, n: int, *, kills: int = 0, late_s: float = 0.2, late: float = 1.0
) -> dict[str, int]:
    """``n`` transactions that put a job in, commit up to ``late_s`` later (a share of ``late`` of them), and are
    undone in three cases of ten; how many jobs are missing and how many there should not be."""
    rng, expected = random.Random(6), set[str]()
    workers = 1 if mode == "cursor" else 2  # what one has skipped another might find
    async with scene(folder, database, mode, workers=workers) as (r, declared, fleet):
        if not r.db.backend.capabilities.parallel_writers:
            late_s = 0.005  # the others wait meanwhile

        async def transaction(i: int) -> None:
            async with r.db.tx() as tx:
                if mode == "outside":
                    await asyncio.create_task(declared["innocent"].enqueue(r.db, n=i))
                else:
                    handle = await declared["innocent"].enqueue(tx, n=i)
                    await handle.written(tx)
                await asyncio.sleep(rng.uniform(0, late_s) if rng.random() < late else 0)
                if rng.random() < 0.3:
                    raise Undo
            expected.add(str(i))

        await asyncio.gather(under_way(transaction, n), fleet.kill_at_random(rng, kills, pause_s=1.0))
        await until(lambda: finished(r), STUCK_S if mode != "right" else 60.0 + n / 100)
        did = set(await r.did())
        return {"missing": len(expected - did), "phantom": len(did - expected)}


async def under_way(transaction: Any, n: int, at_a_time: int = 8) -> None:
    """All of ``n`` transactions, some at a time; those that are undone count as done."""
    numbers = iter(range(n))

    async def line() -> None:
        for i in numbers:
            try:
                await transaction(i)
            except Undo:
                continue

    await asyncio.gather(*(line() for _ in range(at_a_time)))


async def test_a_job_runs_if_and_only_if_its_transaction_committed(
    tmp_path: Path, database: str, trials: Trials
) -> None:
    assert await committed(tmp_path, database, "right", 150, kills=1) == {"missing": 0, "phantom": 0}
    trials("G6", 150, database)


@pytest.mark.soak
async def test_many_jobs_run_if_and_only_if_their_transaction_committed(
    tmp_path: Path, database: str, trials: Trials
) -> None:
    n = soak(340_000)
    found = await committed(tmp_path, database, "right", n, kills=soak(300), late_s=2.0, late=0.02)
    assert found == {"missing": 0, "phantom": 0}
    trials("G6", n, database)


async def test_the_checker_finds_jobs_of_transactions_that_were_undone(
    tmp_path: Path, broken_on: str
) -> None:
    assert (await committed(tmp_path, broken_on, "outside", 40))["phantom"] > 0


async def test_the_checker_finds_a_build_that_skips_what_commits_late(
    tmp_path: Path, quick_server: str
) -> None:
    assert (await committed(tmp_path, quick_server, "cursor", 60))["missing"] > 0


# ── G7: order per key ──


async def order_of_keys(
    folder: Path, database: str, mode: str, n: int, *, keys: int = 4, kills: int = 0
) -> dict[str, int]:
    """``n`` transactions that put a job of some key in, commit late or are undone; how many of them took effect
    before an older one of their key, and how many never did."""
    rng, ids = random.Random(7), dict[int, int]()
    async with scene(folder, database, mode) as (r, declared, fleet):
        late_s = 0.1 if r.db.backend.capabilities.parallel_writers else 0.003

        async def transaction(i: int) -> None:
            async with r.db.tx() as tx:
                handle = await declared["innocent"].options(key=f"k{i % keys}").enqueue(tx, n=i)
                await handle.written(tx)
                await asyncio.sleep(rng.uniform(0, late_s))
                if rng.random() < 0.3:
                    raise Undo
            ids[i] = handle.id

        await asyncio.gather(under_way(transaction, n), fleet.kill_at_random(rng, kills, pause_s=1.0))
        await until(lambda: finished(r), STUCK_S if mode != "right" else 60.0 + n / 50)
        did = [int(what) for what in await r.did()]
        return {"early": inversions(did, ids, keys), "missing": len(ids.keys() - set(did))}


def inversions(did: list[int], ids: dict[int, int], keys: int) -> int:
    """Effects that came after one of the same key with a higher id."""
    found, highest = 0, defaultdict[int, int](int)
    for i in did:
        found += ids[i] < highest[i % keys]
        highest[i % keys] = max(highest[i % keys], ids[i])
    return found


async def test_messages_of_a_key_take_effect_in_order(tmp_path: Path, database: str, trials: Trials) -> None:
    assert await order_of_keys(tmp_path, database, "right", 100, kills=1) == {"early": 0, "missing": 0}
    trials("G7", 100, database)


@pytest.mark.soak
async def test_many_messages_of_a_key_take_effect_in_order(
    tmp_path: Path, database: str, trials: Trials
) -> None:
    n = soak(100_000)
    found = await order_of_keys(tmp_path, database, "right", n, keys=40, kills=soak(100))
    assert found == {"early": 0, "missing": 0}
    trials("G7", n, database)


async def test_the_checker_finds_workers_that_do_not_hold_the_key(tmp_path: Path, quick_server: str) -> None:
    found = await order_of_keys(tmp_path, quick_server, "no-hold", 60, keys=2)
    assert found["early"] + found["missing"] > 0
