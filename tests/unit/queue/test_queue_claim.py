"""A claim costs the same however much else there is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from support.queues import Rig, rig
from tenfold.jobs import Job
from tenfold.queue.tables import archive, message
from tenfold.queue.worker import Worker

pytestmark = pytest.mark.anyio


async def noop() -> None: ...


PLANS = {
    "CLAIM": {"queue": "q", "lane": "", "limit": 1, "worker": "w", "now": 0, "lease_until": 0},
    "CLAIM_IN_TURN": {
        "queue": "q",
        "lane": "",
        "count": 9,
        "after": "",
        "worker": "w",
        "now": 0,
        "lease_until": 0,
    },
    "ASKED_TO_STOP": {"ids": "[]"},
    "LOOK": {},
    "RUNNING": {"handlers": "[]"},
    "WAKE_DUE": {"now": 0, "limit": 1},
    "WAKE": {"ids": "[]", "now": 0},
    "EXPIRED": {"now": 0, "limit": 1},
    "EXTEND": {"held": "[]", "lease_until": 0},
    "ARCHIVE": {"items": "[]", "now": 0},
    "REMOVE": {"items": "[]"},
    "RETURN": {"items": "[]"},
    "PROMOTE": {"keys": "[]", "now": 0},
    "INSERT": {"rows": "[]"},
    "UNPARK": {"lanes": "[]", "now": 0},
    "PENDING_WITH_KEY": {"keys": "[]"},
    "RESTORE_KEYS": {"ids": "[]"},
}


@pytest.mark.parametrize("name", PLANS)
async def test_no_statement_of_the_worker_scans_the_message_table(tmp_path: Path, name: str) -> None:
    from tenfold.queue.backends import _sqlite_sql

    values = dict(PLANS[name])
    if "limit" in values and name == "CLAIM":
        values["count"] = values.pop("limit")
    statement = sa.text("EXPLAIN QUERY PLAN " + getattr(_sqlite_sql, name).text)
    async with rig(tmp_path) as r, r.db.tx() as tx:
        rows = await tx.all(statement, tuple, **values)
        steps = [str(row[3]) for row in rows]
    scans = [s for s in steps if s.startswith(("SCAN tenfold_", "SCAN m", "SCAN h", "SCAN w"))]
    assert steps
    scans = [
        s for s in scans if s != "SCAN tenfold_queue"
    ]  # a row for each queue that was paused or has a limit
    assert all("INDEX tenfold_message_" in s for s in scans), steps  # of a partial index


async def vm_steps(r: Rig, worker: Worker) -> int:
    """Virtual-machine steps of SQLite that one claim costs; they grow with the rows it touches."""
    steps = 0

    def count() -> bool:
        nonlocal steps
        steps += 1
        return False

    async with r.db.tx() as tx:
        await tx._channel.raw(lambda c: c.set_progress_handler(count, 10, id="count"))
        try:
            await worker._claimer.claim(tx, 10, 0)
        finally:
            await tx._channel.raw(lambda c: c.set_progress_handler(None, 0, id="count"))
    return steps * 10


async def test_a_claim_costs_the_same_beside_many_archived_delayed_parked_and_limited_messages(
    tmp_path: Path,
) -> None:
    job = Job[Any, None]("s", noop)
    async with rig(tmp_path, job) as r:
        worker = r.worker()
        await job.enqueue_many(r.db, [{}] * 200)
        bare = await vm_steps(r, worker)
        await fill(r, 20_000)
        full = await vm_steps(r, worker)
        assert bare > 100
        assert full < bare * 1.3 + 200, (bare, full)


async def fill(r: Rig, rows: int) -> None:
    """Rows in every state that a claim has to pass by."""
    later = r.clock.now() + 1e6
    numbers = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) "
    columns = (
        "kind, handler, state, queue, lane, priority, run_at, created_at, payload, order_key, lease_until"
    )
    kinds = {
        "delayed": f"'delayed', 'default', '', 0, {later}, 0, '{{}}', NULL, NULL",
        "parked": "'parked', 'default', '', 0, 0, 0, '{}', NULL, NULL",
        "waiting": "'waiting', 'default', '', -5, 0, 0, '{}', 'k', NULL",
        "running": f"'running', 'default', '', 0, 0, 0, '{{}}', NULL, {later}",
        "other queue": "'ready', 'other', '', -9, 0, 0, '{}', NULL, NULL",
    }
    async with r.db.tx() as tx:
        for values in kinds.values():
            await tx.execute(
                sa.text(
                    f"INSERT INTO {message.name} ({columns}) {numbers} SELECT 'job', 's.x', {values} FROM n"
                )
            )
        await tx.execute(
            sa.text(
                f"INSERT INTO {archive.name} (id, kind, handler, state, queue, lane, priority, created_at, finished_at,"
                " payload, fence, failures, crashes, expires_at)"
                f" {numbers} SELECT i + 1000000, 'job', 's.x', 'done', 'default', '', 0, 0, 0, '{{}}', 1, 0, 0, 9e9 FROM n"
            )
        )
    await r.db.read().scalar(sa.text("SELECT count(*) FROM tenfold_message"))
