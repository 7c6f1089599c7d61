"""The limits of queues: how many messages each may start now, decided and counted inside the claim's transaction.

The row of a limited queue is locked from the question to the claim's commit, so that of all workers one at a time
decides. Who finds it locked does not wait: it leaves that queue to the other, and claims from the rest. The rate is
the generic cell rate algorithm (:mod:`tenfold.guard.gcra`) on the database's clock; a start is a claim, so that a
message that is claimed twice has started twice.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, NamedTuple

import sqlalchemy as sa

from tenfold.errors import UniqueViolation
from tenfold.guard.backends._sql_dialect import dialect_of
from tenfold.guard.gcra import decide
from tenfold.queue.tables import message
from tenfold.queue.tables import queue as table

if TYPE_CHECKING:
    from tenfold.db.database import Database, Tx
    from tenfold.guard.rates import Window
    from tenfold.queue.options import QueueOptions

TAKEN_S = 0.002
"""A queue that another worker is claiming from is asked for again after so long."""

MOVE_MAX = 1_000

_strays = (
    sa.select(message.c.id)
    .where(message.c.state == "ready", message.c.queue == sa.bindparam("queue"), message.c.lane == "")
    .limit(MOVE_MAX)
)
_into_lane = (
    sa.update(message)
    .where(
        message.c.id.in_(sa.bindparam("ids", expanding=True)),
        message.c.state == "ready",
        message.c.lane == "",
    )
    .values(lane=sa.bindparam("to_lane"))
)
_names = sa.select(table.c.name)
_insert = sa.insert(table)
_spend = sa.update(table).where(table.c.name == sa.bindparam("queue")).values(tat_us=sa.bindparam("to_us"))
# tenfold_message_limited has the running ones of limited queues only.
_running = (
    sa.select(message.c.queue, sa.func.count())
    .where(
        message.c.state == "running",
        message.c.lane != "",
        message.c.queue.in_(sa.bindparam("queues", expanding=True)),
    )
    .group_by(message.c.queue)
)


class Gate(NamedTuple):
    """How far one queue is open. Its row is locked."""

    allowed: int
    """Messages that may start now."""
    wait_s: float | None
    """When none may: how long until one may, as far as the rate goes; None when one has to end first."""
    tat_us: int
    now_us: int


class Gates:
    """``options`` are those of the limited queues."""

    def __init__(self, database: Database, options: Mapping[str, QueueOptions]) -> None:
        self._database = database
        self._options = {name: said for name, said in options.items() if said.limited}

    @property
    def queues(self) -> Collection[str]:
        """Those that have to be asked about."""
        return self._options.keys()

    async def open(self) -> None:
        """Make the rows that are locked, and put what was there before the limit into its lane; called before the
        first question."""
        if not self._options:
            return
        async with self._database.tx() as tx:
            missing = self._options.keys() - set(await tx.all(_names, str))
            for name in sorted(missing):
                await ensure(tx, name)
        for said in self._options.values():
            while said.lane and await self._move(said) == MOVE_MAX:
                pass

    async def _move(self, said: QueueOptions) -> int:
        async with self._database.tx() as tx:
            strays = await tx.all(_strays, int, queue=said.name)
            if strays:
                await tx.execute(_into_lane, ids=strays, to_lane=said.lane)
            return len(strays)

    async def ask(self, tx: Tx, queues: Collection[str], free: int) -> dict[str, Gate]:
        """The gates of those queues that no other worker is claiming from. ``free`` is how many messages could begin
        at once: of a limited queue none is claimed ahead, for it would have started on paper only."""
        dialect = dialect_of(self._database)
        locked = (
            sa.select(table.c.name, table.c.tat_us, dialect.now_us.label("now_us"))
            .where(table.c.name.in_(sa.bindparam("queues", expanding=True)))
            .order_by(table.c.name)
            .with_for_update(skip_locked=True)
        )
        rows: list[tuple[str, int, int]] = await tx.all(
            locked, tuple, queues=sorted(queues), **dialect.clock(self._database)
        )
        narrow = [name for name, _, _ in rows if self._options[name].concurrency is not None]
        running: dict[str, int] = dict(await tx.all(_running, tuple, queues=narrow)) if narrow else {}
        return {
            name: gate(self._options[name], tat_us, now_us, running.get(name, 0), free)
            for name, tat_us, now_us in rows
        }

    async def spend(self, tx: Tx, queue: str, gate: Gate, started: int) -> None:
        """Count ``started`` messages against the rate."""
        window = self._options[queue].window
        if window is not None and started:
            await tx.execute(_spend, queue=queue, to_us=_spent(window, gate, started))


def gate(options: QueueOptions, tat_us: int, now_us: int, running: int, free: int) -> Gate:
    """How far a queue is open, of which ``running`` messages run in the whole fleet."""
    allowed = free if options.concurrency is None else min(free, options.concurrency - running)
    window, wait_s = options.window, None
    if window is not None:
        ahead_us = min(max(tat_us - now_us, 0), window.room_us)
        flow = (window.room_us - ahead_us) // window.interval_us
        if flow == 0:
            wait_s = (ahead_us + window.interval_us - window.room_us) / 1e6
        allowed = min(allowed, flow)
    return Gate(max(0, allowed), wait_s, tat_us, now_us)


def _spent(window: Window, gate: Gate, started: int) -> int:
    """The theoretical arrival time after ``started`` more."""
    taken = decide([("", started * window.interval_us, window.room_us)], [gate.tat_us], gate.now_us)
    return gate.now_us + taken.ahead_us[0]


async def ensure(tx: Tx, name: str) -> None:
    """A row for the queue, whether or not it has one."""
    try:
        async with tx.savepoint():
            await tx.execute(_insert, name=name)
    except UniqueViolation:
        return
