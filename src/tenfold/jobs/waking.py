"""Waking a flow that waits, in the transaction that records what it waits for.

Both sides lock the flow's message, so no wake-up is lost. The flow first gives its message back, which locks the row, and
then looks whether what it waits for has come. Whoever brings it writes it down first, and then locks the row: before the
flow does, and is seen by its look; or after it, and finds the flow asleep. The lock is taken just before the commit, for
the worker's heartbeats want the same row.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import sqlalchemy as sa

from tenfold.jobs.tables import step, wait
from tenfold.queue.tables import message

if TYPE_CHECKING:
    from tenfold.db.database import Tx
    from tenfold.queue.queue import Queue

_BUFFER = "tenfold.flows"

_lock = sa.select(message.c.id, message.c.state).where(message.c.id == sa.bindparam("id")).with_for_update()
_waits = (
    sa.select(step.c.name)
    .where(
        step.c.flow_id == sa.bindparam("id"),
        step.c.state == "waiting",
        step.c.awaits == sa.bindparam("awaits"),
    )
    .limit(1)
)
_waiting = sa.select(wait.c.flow_id).where(wait.c.awaits == sa.bindparam("key")).order_by(wait.c.flow_id)


def wake_at_commit(tx: Tx, queue: Queue, flow_id: int, awaits: str) -> None:
    """Wake the flow, when it waits for ``awaits``, as the last thing before ``tx`` commits."""
    buffer: set[tuple[int, str]] | None = tx.state.get(_BUFFER)
    if buffer is None:
        buffer = tx.state[_BUFFER] = set()
        tx.before_commit(partial(_wake_all, queue=queue))
    buffer.add((flow_id, awaits))


async def _wake_all(tx: Tx, queue: Queue) -> None:
    for flow_id, awaits in sorted(tx.state.pop(_BUFFER, ())):
        await wake(tx, queue, flow_id, awaits)


async def wake(tx: Tx, queue: Queue, flow_id: int, awaits: str) -> None:
    """Wake the flow when it waits for ``awaits``; one that runs is only kept from falling asleep unseen."""
    found = await tx.maybe(_lock, tuple, id=flow_id)
    if found is None or found[1] != "delayed":
        return
    if await tx.maybe(_waits, str, id=flow_id, awaits=awaits) is not None:
        await queue.backend.wake(tx, [flow_id], queue.now())
        tx.on_commit(queue.wake)


async def wake_waiting(tx: Tx, queue: Queue, awaits: str) -> None:
    """Wake every flow that waits for the event ``awaits``. The key is held."""
    for flow_id in await tx.all(_waiting, int, key=awaits):
        await wake(tx, queue, flow_id, awaits)
