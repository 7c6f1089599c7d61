"""Jobs that hold every connection of the pool do not keep the worker from its own: heartbeats and settlements."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from support.queues import Rig, add_effect, rig
from tenfold._core.clock import SystemClock
from tenfold._core.context import Context
from tenfold.conformance.kit import until
from tenfold.db import Tx
from tenfold.jobs import Job, current_job
from tenfold.queue import keeper, worker

pytestmark = pytest.mark.anyio

LEASE_S = 1.0


async def attempts(folder: Path, url: str) -> list[str]:
    """Two jobs hold both connections for three leases; the attempts that had an effect, and those of a short job."""

    async def slow(n: int, tx: Tx) -> None:
        await tx.execute(add_effect, what=f"slow {current_job().attempt}")
        await asyncio.sleep(3 * LEASE_S)

    async def quick() -> None: ...

    jobs = [Job[Any, None]("s", slow), Job[Any, None]("s", quick)]
    async with rig(folder, *jobs, clock=SystemClock(), database=url, connections=2) as r:
        await jobs[0].enqueue_many(r.db, [{"n": n} for n in range(2)])
        mine = r.worker(settings={"lease_s": LEASE_S, "poll_s": 0.2})
        await mine.start()
        await until(lambda: mine.runs.running == 2, "both to run")
        await asyncio.sleep(LEASE_S / 4)
        async with rig(folder, *jobs, clock=SystemClock(), database=url, make=False) as r2:
            await jobs[1].enqueue(
                r2.db
            )  # both connections are held: it is claimed and settled on the reserve
            await until(lambda: mine.stats()["done"] == 1, "the short job's end", timeout_s=2 * LEASE_S)
            thief = r2.worker(settings={"lease_s": LEASE_S, "poll_s": 0.2})
            await thief.start()  # it would take what is not prolonged
            await until(lambda: ended(r2), "the end of all jobs", timeout_s=30)
            await thief.stop()
        await mine.stop()
        return await r.did()


async def ended(r: Rig) -> bool:
    return not await r.admin.counts()


async def test_leases_are_prolonged_while_jobs_hold_every_connection(
    tmp_path: Path, quick_server: str
) -> None:
    assert await attempts(tmp_path, quick_server) == ["slow 1", "slow 1"]


async def test_without_connections_in_reserve_they_are_lost(
    tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same with heartbeats and claims that ask for a connection as jobs do."""

    def ordinary(**fields: Any) -> Context:
        return Context(operation=fields["operation"])

    for module in (keeper, worker):
        monkeypatch.setattr(module, "Context", ordinary)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        assert await attempts(tmp_path, postgres_url) == ["slow 1", "slow 1"]
