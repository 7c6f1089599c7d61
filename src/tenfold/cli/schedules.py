"""``tenfold schedules``: when each schedule ticks next, ticked last, and what it missed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cyclopts import App as Commands

from tenfold._core.text import plural
from tenfold.cli import console
from tenfold.cli.jobs import Here, Where, time_of, with_app

if TYPE_CHECKING:
    from tenfold.app import App
    from tenfold.schedules.admin import ScheduleInfo

commands = Commands(name="schedules", help="Look at schedules: next tick, last one, missed ones.")

_POLICIES = {"once": "the newest is made up for", "all": "each is made up for", "skip": "none is made up for"}


@commands.default
@commands.command(name="list")
def list_(*, where: Where = Here) -> int:
    """List the schedules, the next to tick first."""

    async def act(app: App) -> None:
        from tenfold.schedules.admin import schedules

        declared = [schedule for service in app.services for schedule in service.schedules]
        found = await schedules(app.databases[0], declared)
        headings = ("schedule", "when", "next", "last", "missed")
        console.table([_row(info) for info in found], headings=headings)
        known = {info.name for info in found}
        for name in sorted(schedule.name for schedule in declared if schedule.name not in known):
            console.note(f"{name} waits for a worker to start: it has never been looked at.")
        if not found and not declared:
            console.say("No service declares a schedule.")

    return with_app(where, act)


def _row(info: ScheduleInfo) -> tuple[str, ...]:
    missed = "none"
    if info.missed:
        missed = f"{plural(info.missed, 'tick')}, last {time_of(info.missed_at or 0.0)}"
        missed = console.paint(missed, console.YELLOW)
    policy = _POLICIES.get(info.policy, "not in the code that is here")
    return (
        info.name,
        info.spec,
        time_of(info.next_at),
        "never" if info.last_at is None else time_of(info.last_at),
        f"{missed} ({policy})",
    )
