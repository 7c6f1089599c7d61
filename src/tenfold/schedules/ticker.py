"""Turns due schedules into messages: one per schedule and tick, however many instances run.

The row of a schedule holds the tick that is waited for. Whoever moves it on, in the transaction that puts the
message in, has made that tick; everybody else's change finds the row moved and does nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import sqlalchemy as sa

from tenfold.errors import UniqueViolation
from tenfold.queue.tables import schedule as table
from tenfold.schedules.calendar import due_ticks, passed_over

if TYPE_CHECKING:
    from tenfold.db.database import Tx
    from tenfold.queue.queue import Queue
    from tenfold.schedules.schedule import Schedule

log = logging.getLogger("tenfold.queue")

_read = sa.select(table.c.spec, table.c.next_at).where(table.c.name == sa.bindparam("schedule"))
_insert = sa.insert(table)
_respec = (
    sa.update(table)
    .where(table.c.name == sa.bindparam("schedule"), table.c.spec != sa.bindparam("new_spec"))
    .values(spec=sa.bindparam("new_spec"), next_at=sa.bindparam("new_at"))
)
_move = (
    sa.update(table)
    .where(table.c.name == sa.bindparam("schedule"), table.c.next_at == sa.bindparam("old_at"))
    .values(
        next_at=sa.bindparam("new_at"),
        last_at=sa.func.coalesce(sa.bindparam("done_at", type_=sa.Double), table.c.last_at),
        missed=table.c.missed + sa.bindparam("passed"),
        missed_at=sa.func.coalesce(sa.bindparam("passed_at", type_=sa.Double), table.c.missed_at),
    )
)

LOOK_AGAIN_S = 60.0
"""The rows are read again at least so often, for another instance may have changed them."""


class Ticker:
    """A source for the worker of ``queue`` (see :class:`~tenfold.queue.claimer.Source`)."""

    def __init__(self, schedules: Sequence[Schedule], queue: Queue) -> None:
        self._schedules = schedules
        self._queue = queue
        self.next_at = 0.0
        self.due_at: float | None = None
        """The earliest tick that is waited for; None before the rows were read, and without schedules."""

    async def feed(self, tx: Tx, now: float) -> None:
        """Put the ticks that are due into the queue; rows that are missing are made. ``next_at`` moves on when
        ``tx`` commits, for what is rolled back has not been fed."""
        ticks = [await self._tick(tx, schedule, now) for schedule in self._schedules]
        tx.on_commit(lambda: self._wait_for(ticks, now))

    def _wait_for(self, ticks: Sequence[float], now: float) -> None:
        self.due_at = min(ticks, default=None)
        self.next_at = min([now + LOOK_AGAIN_S, *ticks]) if ticks else float("inf")

    async def _tick(self, tx: Tx, schedule: Schedule, now: float) -> float:
        waited_for = await self._waited_for(tx, schedule, now)
        ticks, next_at = due_ticks(schedule.calendar, waited_for, now, schedule.missed, schedule.missed_max)
        if next_at == waited_for:
            return next_at
        passed = passed_over(schedule.calendar, waited_for, ticks, next_at)
        moved = await tx.execute(
            _move,
            schedule=schedule.name,
            old_at=waited_for,
            new_at=next_at,
            done_at=ticks[-1] if ticks else None,
            passed=passed,
            passed_at=now if passed else None,
        )
        if not moved:
            return now  # another instance was faster; look at its row in the next turn
        if passed:
            log.warning(
                "%s: nobody was there for %d ticks; they are not made (missed=%r)",
                schedule.name,
                passed,
                schedule.missed,
                extra={"event": "schedule.missed", "count": passed},
            )
        self._queue.put_all(
            tx,
            [
                self._queue.message(
                    "tick",
                    schedule.name,
                    f'{{"at":{at!r}}}',
                    queue=schedule.queue,
                    unique_key=f"tick:{schedule.name}:{at!r}",
                )
                for at in ticks
            ],
        )
        return next_at

    async def _waited_for(self, tx: Tx, schedule: Schedule, now: float) -> float:
        """The tick that the schedule's row waits for; made anew when the schedule is new or was changed."""
        spec, first = schedule.calendar.spec, schedule.calendar.after(now)
        found = await tx.maybe(_read, tuple, schedule=schedule.name)
        if found is None:
            try:
                async with tx.savepoint():
                    await tx.execute(
                        _insert, name=schedule.name, spec=spec, next_at=first, last_at=None, missed=0
                    )
            except UniqueViolation:
                log.debug("%s was added by another instance", schedule.name)
            return first
        if found[0] != spec:
            await tx.execute(_respec, schedule=schedule.name, new_spec=spec, new_at=first)
            return first
        return float(found[1])
