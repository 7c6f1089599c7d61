"""Looking at a flow from outside, and sending it signals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from tenfold.errors import NotFound, WrongArguments
from tenfold.jobs import records
from tenfold.jobs.records import StepKind, StepState
from tenfold.jobs.tables import NAME_MAX_CHARS, signal
from tenfold.jobs.waits import SIGNAL
from tenfold.jobs.waking import wake_at_commit
from tenfold.queue.arguments import enc_hook
from tenfold.queue.tables import archive, message

if TYPE_CHECKING:
    from tenfold.db.database import Reader, Tx
    from tenfold.queue.queue import Queue

_encode = msgspec.json.Encoder(enc_hook=enc_hook).encode
_pending = sa.select(message.c.id).where(message.c.id == sa.bindparam("id"))
_finished = sa.select(archive.c.id).where(archive.c.id == sa.bindparam("id"))
_add = sa.insert(signal)


class StepStatus(msgspec.Struct, frozen=True):
    """One step of a flow, or something that it waits for. Times are seconds since the epoch."""

    name: str
    kind: StepKind
    state: StepState
    attempts: int
    """That failed, so far."""
    result: str | None
    """JSON text."""
    error: str | None
    due_at: float | None
    """When it is tried again, or its waiting ends."""
    created_at: float
    finished_at: float | None


async def steps(reader: Reader, flow_id: int) -> list[StepStatus]:
    """What the flow has recorded, in that order."""
    rows = await records.read_all(reader, flow_id)
    return [
        StepStatus(
            row.name,
            row.kind,
            row.state,
            row.failures,
            row.result,
            row.error,
            row.due_at,
            row.created_at,
            row.finished_at,
        )
        for row in rows.values()
    ]


async def send(tx: Tx, queue: Queue, flow_id: int, name: str, value: Any) -> bool:
    """Keep a signal for the flow and wake it; False when it has finished. Raises NotFound and WrongArguments."""
    if not 1 <= len(name) <= NAME_MAX_CHARS:
        raise WrongArguments(f"a signal's name has 1 to {NAME_MAX_CHARS} characters, not {len(name)}.")
    try:
        body = _encode(value).decode()
    except (TypeError, NotImplementedError) as error:
        raise WrongArguments(f"signal {name!r}: {error}.") from None
    if await tx.maybe(_pending, int, id=flow_id) is None:
        if await tx.maybe(_finished, int, id=flow_id) is None:
            raise NotFound(f"There is no flow {flow_id}; finished ones are removed after a while.")
        return False
    await tx.execute(_add, flow_id=flow_id, name=name, body=body, at=queue.now())
    wake_at_commit(tx, queue, flow_id, SIGNAL + name)
    return True
