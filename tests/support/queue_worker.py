"""A worker process for fault tests: ``python -m support.queue_worker FOLDER MODE LEASE_S``.

MODE is ``right``, or how the build is broken: ``ack-first`` acknowledges before the effect, ``ack-later``
commits the effect by itself and acknowledges afterwards, ``unfenced`` does not look whether the lease is held.
On SIGTERM it drains and prints its counters as JSON.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from support.queues import Rig, effects, rig
from tenfold._core.clock import SystemClock
from tenfold.db import Tx
from tenfold.jobs import Job, current_job
from tenfold.queue import outcome
from tenfold.queue.contract import Keep
from tenfold.queue.runner import Runner

WORK_S = 0.02

held: dict[str, Any] = {}
add = sa.insert(effects)


async def record(n: int, tx: Tx) -> None:
    """The right way: effect and acknowledgement in one transaction."""
    await asyncio.sleep(WORK_S)
    await tx.execute(add, what=str(n))
    await asyncio.sleep(0)


async def record_ack_first(n: int) -> None:
    r: Rig = held["rig"]
    async with r.db.tx() as tx:
        done = outcome.done(current_job()._message)
        await r.queue.backend.settle(tx, [done], r.clock.now(), Keep(600, 600))
    await asyncio.sleep(WORK_S)
    async with r.db.tx() as tx:
        await tx.execute(add, what=str(n))


async def record_ack_later(n: int) -> None:
    r: Rig = held["rig"]
    async with r.db.tx() as tx:
        await tx.execute(add, what=str(n))
    await asyncio.sleep(WORK_S)


async def gated(n: int, tx: Tx) -> None:
    """Says that it has started and, in its first run, waits for a file before its effect."""
    folder: Path = held["folder"]
    attempt = current_job().attempt
    (folder / f"started-{attempt}").touch()
    while attempt == 1 and not (folder / "go").exists():  # noqa: ASYNC110 - another process makes the file
        await asyncio.sleep(0.01)
    await tx.execute(add, what=f"{n} by attempt {attempt}")


async def crash(n: int) -> None:
    import os

    os._exit(3)


async def innocent(n: int, tx: Tx) -> None:
    await asyncio.sleep(0.005)
    await tx.execute(add, what=str(n))


def jobs(mode: str) -> dict[str, Job[Any, None]]:
    fn = {"ack-first": record_ack_first, "ack-later": record_ack_later}.get(mode, record)
    return {
        "record": Job("s", fn, name="record"),
        "gated": Job("s", gated),
        "crash": Job("s", crash),
        "innocent": Job("s", innocent),
    }


async def main(folder: Path, mode: str, lease_s: float, quarantine: bool) -> None:
    if not quarantine:
        outcome.CRASHES_MAX = outcome.CRASHES_UNTIL_SUSPECT = 10**6
    if mode == "unfenced":
        Runner._acknowledge = unfenced  # type: ignore[method-assign]
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with rig(folder, *jobs(mode).values(), clock=SystemClock(), make=False) as r:
        held["rig"], held["folder"] = r, folder
        worker = r.worker(settings={"lease_s": lease_s, "concurrency": 8, "poll_s": 0.1})
        await worker.start()
        await stop.wait()
        await worker.stop()
        print(json.dumps(worker.stats()))


async def unfenced(self: Runner, tx: Tx, settlement: Any) -> bool:
    await self._queue.backend.settle(tx, (settlement,), self._clock.now(), self._keep)
    return True


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]), "quarantine" in sys.argv))
