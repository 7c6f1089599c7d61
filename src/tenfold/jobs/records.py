"""What a flow has recorded: its rows read, added and changed, each by one statement that the holder of the lease alone
can make take effect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec
import sqlalchemy as sa

from tenfold.errors import LeaseLost, UniqueViolation
from tenfold.jobs.tables import arrival, signal, step, wait
from tenfold.queue.tables import message

if TYPE_CHECKING:
    from tenfold.db.database import Reader, Tx
    from tenfold.queue.message import Message

StepKind = Literal["step", "sleep", "signal", "event", "calls"]
StepState = Literal["done", "failed", "failing", "waiting", "late"]
"""``failing``: will be tried again; ``failed``: its attempts are used up; ``late``: what it waited for did not come."""


class StepRow(msgspec.Struct, kw_only=True):
    """One row of ``tenfold_step``, in the order of its columns after the flow's id. Times are seconds since the epoch."""

    name: str
    seq: int = 0
    kind: StepKind = "step"
    state: StepState = "done"
    awaits: str | None = None
    position: int | None = None
    due_at: float | None = None
    failures: int = 0
    result: str | None = None
    error: str | None = None
    created_at: float = 0.0
    finished_at: float | None = None

    @property
    def ended(self) -> bool:
        """It has an outcome, which never changes."""
        return self.state in ("done", "failed", "late")


class Mail(NamedTuple):
    """A signal or an event that came for a flow."""

    id: int
    body: str


_COLUMNS = StepRow.__struct_fields__
_KEPT = tuple(name for name in _COLUMNS if name not in ("name", "seq", "kind", "created_at"))
_key = (step.c.flow_id == sa.bindparam("flow"), step.c.name == sa.bindparam("step_name"))
_mine = (
    message.c.id == sa.bindparam("flow"),
    message.c.fence == sa.bindparam("fence"),
    message.c.state == "running",
)

_all = sa.select(*(step.c[name] for name in _COLUMNS)).where(step.c.flow_id == sa.bindparam("flow"))
# The lease is looked at by the statement that adds, so that to record costs one statement. Two who run the same step
# meet at its key: the second finds the row, and undoes what it did in this transaction.
_add = sa.insert(step).from_select(
    ["flow_id", *_COLUMNS],
    sa.select(
        message.c.id,
        *(sa.bindparam(f"new_{name}", type_=step.c[name].type) for name in _COLUMNS),
    ).where(*_mine),
)
_change = (
    sa.update(step)
    .where(
        *_key,
        step.c.state.in_(("failing", "waiting")),
        sa.select(message.c.id).where(*_mine).correlate(None).exists(),
    )
    .values({name: sa.bindparam(f"new_{name}", type_=step.c[name].type) for name in _KEPT})
)
_reset = (
    sa.update(step)
    .where(*_key, step.c.state == "failed")
    .values(state="failing", failures=0, due_at=None, finished_at=None)
)
_forget = sa.delete(step).where(*_key, step.c.state == "late")

_first_signal = (
    sa.select(signal.c.id, signal.c.body)
    .where(signal.c.flow_id == sa.bindparam("flow"), signal.c.name == sa.bindparam("awaits"))
    .order_by(signal.c.id)
    .limit(1)
)
_take_signal = sa.delete(signal).where(signal.c.id == sa.bindparam("id"))
_first_arrival = (
    sa.select(arrival.c.id, arrival.c.body)
    .where(
        arrival.c.awaits == sa.bindparam("awaits"),
        arrival.c.id > sa.bindparam("after"),
        arrival.c.at >= sa.bindparam("since"),
    )
    .order_by(arrival.c.id)
    .limit(1)
)
_no_longer = sa.delete(wait).where(
    wait.c.awaits == sa.bindparam("key"), wait.c.flow_id == sa.bindparam("flow")
)
_waits = sa.select(wait.c.flow_id).where(
    wait.c.awaits == sa.bindparam("key"), wait.c.flow_id == sa.bindparam("flow")
)
_begin_to_wait = sa.insert(wait).values(awaits=sa.bindparam("key"), flow_id=sa.bindparam("flow"))


async def read_all(reader: Reader, flow_id: int) -> dict[str, StepRow]:
    """Everything that a flow has recorded, by name, in the order in which it was."""
    rows = await reader.all(_all, StepRow, flow=flow_id)
    return {row.name: row for row in sorted(rows, key=lambda row: row.seq)}


async def add(tx: Tx, flow: Message, row: StepRow) -> None:
    """Record a step for the first time. Raises :class:`LeaseLost` when another worker has, or holds the flow."""
    values = {f"new_{name}": getattr(row, name) for name in _COLUMNS}
    try:
        added = await tx.execute(_add, values, flow=flow.id, fence=flow.fence)
    except UniqueViolation:
        raise _lost(flow) from None
    if not added:
        raise _lost(flow)


async def change(tx: Tx, flow: Message, row: StepRow) -> None:
    """Record what became of a step that was not ended. Raises :class:`LeaseLost` like :func:`add`."""
    values = {f"new_{name}": getattr(row, name) for name in _KEPT}
    if not await tx.execute(_change, values, flow=flow.id, step_name=row.name, fence=flow.fence):
        raise _lost(flow)


async def reset(tx: Tx, flow_id: int, name: str) -> None:
    """Let what failed, or came too late, be tried again by the next run."""
    if not await tx.execute(_forget, flow=flow_id, step_name=name):
        await tx.execute(_reset, flow=flow_id, step_name=name)


async def first_signal(reader: Reader, flow_id: int, name: str) -> Mail | None:
    """The oldest signal of this name that is kept for the flow."""
    found = await reader.maybe(_first_signal, tuple, flow=flow_id, awaits=name)
    return None if found is None else Mail(*found)


async def take_signal(tx: Tx, id_: int) -> bool:
    """Take a signal out; False when it is gone."""
    return await tx.execute(_take_signal, id=id_) == 1


async def first_arrival(reader: Reader, awaits: str, after: int, since: float) -> Mail | None:
    """The first event under this key that came after the one numbered ``after``, and not before ``since``."""
    found = await reader.maybe(_first_arrival, tuple, awaits=awaits, after=after, since=since)
    return None if found is None else Mail(*found)


async def begin_to_wait(tx: Tx, flow_id: int, awaits: str) -> None:
    """Let whoever brings the event find the flow. The key is held."""
    if await tx.maybe(_waits, int, key=awaits, flow=flow_id) is None:
        await tx.execute(_begin_to_wait, key=awaits, flow=flow_id)


async def no_longer_wait(tx: Tx, flow_id: int, awaits: str) -> None:
    """Undo :func:`begin_to_wait`."""
    await tx.execute(_no_longer, key=awaits, flow=flow_id)


def _lost(flow: Message) -> LeaseLost:
    return LeaseLost(f"{flow.handler} {flow.id}: another worker holds it now")
