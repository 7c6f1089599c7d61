"""A worker of flows for fault tests: ``Forked("support.flow_worker", FOLDER, DATABASE, MODE, LEASE_S)``.

Failpoints say where it is killed. MODE is ``right``, or ``record-later``: a build that commits a
step's effect and its record one after the other. On SIGTERM it drains and ends.
"""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

from support.queues import add_effect, rig
from tenfold import Flow
from tenfold._core.clock import SystemClock
from tenfold._core.container import injected
from tenfold._core.failpoints import failpoints
from tenfold.db import Tx
from tenfold.jobs import Job, Retry, current_job
from tenfold.jobs.steps import Steps
from tenfold.queue import outcome

CHILDREN = 3

held: dict[str, Any] = {}


async def effect(what: str, tx: Tx = injected()) -> str:
    await tx.execute(add_effect, what=what)
    return what


async def call_out(what: str) -> str:
    """Somebody else's system, which knows what it has seen by the key."""
    folder: Path = held["folder"]
    with (folder / "outside").open("a") as file:
        file.write(f"{what}\t{current_job().idempotency_key}\n")
    return what


async def child(what: str, tx: Tx = injected()) -> str:
    return await effect(what, tx)


children = Job[Any, str]("s", child)


async def order(n: int, flow: Flow = injected()) -> list[str]:
    done = [await flow.step("reserve", effect, f"{n} reserved")]
    done.append(await flow.step("charge", call_out, f"{n} charged"))
    await flow.sleep(0.05)
    done += await flow.run_all([children.call(f"{n} child {i}") for i in range(CHILDREN)])
    done.append(await flow.signal("confirmed", str))
    done += await asyncio.gather(
        flow.step("ship", effect, f"{n} shipped"), flow.step("tell", call_out, f"{n} told")
    )
    return done


flows = Job[Any, list[str]]("s", order, result_ttl=600, retry=Retry(attempts=50, base_s=0.05))


def expected(n: int) -> set[str]:
    """The effects of one flow in its own database."""
    return {f"{n} reserved", f"{n} shipped", *(f"{n} child {i}" for i in range(CHILDREN))}


async def main(folder: Path, database: str, mode: str, lease_s: float) -> None:
    outcome.CRASHES_MAX = outcome.CRASHES_UNTIL_SUSPECT = 10**6  # type: ignore[attr-defined]
    if mode == "record-later":
        Steps._in_tx = effect_first  # type: ignore[method-assign]
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with rig(folder, flows, children, clock=SystemClock(), database=database, make=False) as r:
        held["folder"] = folder
        worker = r.worker(settings={"lease_s": lease_s, "concurrency": 8, "poll_s": 0.1})
        await worker.start()
        (folder / f"works-{os.getpid()}").touch()
        await stop.wait()
        await worker.stop()


async def effect_first(
    self: Steps, plan: Any, fn: Any, args: Any, kwargs: Any, given: Any, row: Any, is_new: bool
) -> str:
    assert self._database is not None
    async with self._database.tx() as tx:
        text: str = plan.codec.encode(await plan.call(fn, args, kwargs, {**given, Tx: tx}))
    failpoints.visit("flow.effect")
    self._done(row, text)
    await self.record(row, is_new=is_new)
    return text


def child(folder: str, database: str, mode: str, lease_s: str) -> None:
    asyncio.run(main(Path(folder), database, mode, float(lease_s)))
