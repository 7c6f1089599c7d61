"""What people see of the schedules: when each ticks next, ticked last, and what it missed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa

from tenfold.queue.tables import schedule as table

if TYPE_CHECKING:
    from tenfold.db.database import Database
    from tenfold.schedules.schedule import Schedule


class ScheduleInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One schedule as people see it. Times are seconds since the epoch."""

    name: str
    spec: str
    """Its rule and time zone, as the fleet has it."""
    next_at: float
    last_at: float | None = None
    """The last tick that was made."""
    missed: int = 0
    """Ticks that nobody was there for and that were not made up for, since the schedule exists."""
    missed_at: float | None = None
    """When some were found missed last."""
    policy: str = ""
    """What happens to missed ticks; empty when the code that is asked does not know the schedule."""


_rows = sa.select(*(column for column in table.c)).order_by(table.c.next_at, table.c.name)


async def schedules(database: Database, declared: Sequence[Schedule]) -> list[ScheduleInfo]:
    """Every schedule that has ticked in ``database`` or waits to, the next one first."""
    policies = {schedule.name: schedule.missed for schedule in declared}
    found = await database.read(consistency="strong").all(_rows, ScheduleInfo)
    return [msgspec.structs.replace(info, policy=policies.get(info.name, "")) for info in found]
