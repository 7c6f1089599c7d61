"""An app with one asynchronous projection, in processes that can be killed.

``python -m support.projection_worker FOLDER DATABASE`` has imported everything, and forks a process for each line of
its input, ``MODE FAILPOINTS``. MODE is ``right``, ``apart`` (a build that commits the effect and the position one
after the other), or ``rebuild``: rebuild the projection and end, instead of running it. Each pid is printed; the file
``works-PID`` says that the process is up, and ``done-PID`` that a rebuild has come to its end.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from support.orphans import die_with_parent
from tenfold import App, Service, Tx
from tenfold._core.failpoints import failpoints
from tenfold.assembly import eventstores
from tenfold.assembly.eventstores import store_of
from tenfold.eventstore import Aggregate, Recorded, follower, progress, rebuild
from tenfold.eventstore.contract import EventRow
from tenfold.eventstore.follower import Follower, Moved
from tenfold.eventstore.progress import Progress
from tenfold.eventstore.rebuild import Rebuild

NAME = "bank.effects"
BATCH = 3
"""Events per transaction, so that there are many commits to be killed at."""


class Paid(Struct, frozen=True):
    amount: int


bank = Service("bank")
metadata = sa.MetaData()
effect = sa.Table(
    "effect",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("position", sa.BigInteger, nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
)
db = bank.database(metadata)
account: Aggregate[int, Any] = bank.aggregate(
    "account", events=[Paid], state=int, evolve=lambda state, event: state + event.amount
)
app = App("bank", [bank])
_add = sa.insert(effect)


@bank.projection(account, tables=[effect], batch=BATCH)
async def effects(events: list[Recorded[Paid]], tx: Tx) -> None:
    """A row per event, and nothing that keeps a second one out."""
    await tx.execute(_add, [{"position": event.position, "pid": os.getpid()} for event in events])


def configure(folder: Path, database: str, *, worker: bool) -> None:
    """Leases are short, and where hints come from other processes nothing else wakes a follower in time."""
    follower.LEASE_S, follower.TAKE_OVER_S = 0.8, 0.2
    eventstores.POLL_S[True] = 60.0
    app.configure(
        app__data_dir=str(folder), app__env="development", database__url=database, database__watch=False,
        worker__enabled=worker,
    )  # fmt: skip


async def position_later(self: Follower, at: Progress, rows: Sequence[EventRow], end: int) -> None:
    """What is convicted: effect and position are two transactions."""
    async with db.tx() as tx:
        if rows:
            await self.projection.apply_apart(tx, [self.projection.decode(row) for row in rows])
    failpoints.visit("projection.effect")
    async with db.tx() as tx:
        if not await progress.advance(tx, self.name, at.position, end, 0.0):
            raise Moved
    self._at = await progress.read(db.read(), self.name)


async def run(folder: Path, database: str, mode: str) -> None:
    if mode == "apart":
        broken: Any = position_later
        Follower._apply = broken  # type: ignore[method-assign]
    rebuild.BATCH = BATCH
    configure(folder, database, worker=mode != "rebuild")
    async with app.lifespan():
        (folder / f"works-{os.getpid()}").touch()
        if mode == "rebuild":
            [projection] = app.assembly.eventstores.projections
            await Rebuild(projection, db, store_of(db), app.clock).run()
            (folder / f"done-{os.getpid()}").touch()
        else:
            await asyncio.Event().wait()


def main(folder: Path, database: str) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # who ends is gone at once
    for line in sys.stdin:
        mode, _, points = line.strip().partition(" ")
        if pid := os.fork():
            print(pid, flush=True)
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        die_with_parent()
        failpoints.configure(points)
        asyncio.run(run(folder, database, mode))
        os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
