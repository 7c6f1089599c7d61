"""The schedules: when each ticks next, how the last run went, what was missed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tenfold._core.text import plural
from tenfold.dashboard import shown, ui
from tenfold.dashboard.html import Child, Html, join, tag
from tenfold.dashboard.page import Page, live
from tenfold.dashboard.pages.jobs import MOODS
from tenfold.dashboard.view import View
from tenfold.schedules.admin import schedules
from tenfold.telemetry.store.records import JobFilter

if TYPE_CHECKING:
    from tenfold.schedules.admin import ScheduleInfo
    from tenfold.schedules.schedule import Schedule
    from tenfold.telemetry.store.records import JobSummary

POLICIES: Final = {
    "once": "the newest missed tick is made up for",
    "all": "each missed tick is made up for",
    "skip": "missed ticks are left out",
}


class Schedules(Page):
    path = "/schedules"
    title = "Schedules"
    about = "What runs by the clock, once in the whole fleet."
    group = "Work"
    key = "h"

    @property
    def _declared(self) -> list[Schedule]:
        return [schedule for service in self.app.services for schedule in service.schedules]

    def present(self) -> bool:
        return bool(self.app.databases and self._declared)

    async def body(self, view: View) -> Html:
        return await view.live(self.ticks)

    @live(every_s=2)
    async def ticks(self, view: View) -> Html:
        found = await schedules(view.app.databases[0], self._declared)
        known = {info.name for info in found}
        unseen = [schedule for schedule in self._declared if schedule.name not in known]
        rows = [_row(view, info, await _last_run(view, info.name)) for info in found]
        rows += [_waits(schedule) for schedule in unseen]
        columns = (ui.Column("schedule", wide=True), "rule", "next", "last tick", "last run", "missed", "")
        listed = ui.table(columns, rows, nothing="No service declares a schedule.", caption="Schedules")
        return ui.card("Schedules", listed, flush=True)


async def _last_run(view: View, name: str) -> JobSummary | None:
    found = await view.records.jobs(JobFilter(handler=name), limit=1)
    return found.items[0] if found.items else None


def _row(view: View, info: ScheduleInfo, run: JobSummary | None) -> tuple[Child, ...]:
    return (
        join(tag("b", info.name), tag("span", POLICIES.get(info.policy, "not in the code that runs here"), class_="below")),
        tag("span", ui.code(info.spec), class_="tight"),
        _next(view, info.next_at),
        "never" if info.last_at is None else ui.ago(info.last_at, view.now),
        None if run is None else _ran(view, run),
        _missed(view, info),
        view.a("Runs", "/jobs", handler=info.name),
    )  # fmt: skip


def _next(view: View, at: float) -> Child:
    left = at - view.now
    if left < -60:
        return ui.badge(f"late by {ui.duration(-left)}", "bad", "No worker that lets schedules tick runs.")
    return tag(
        "span", "in ", ui.duration(max(0.0, left)), tag("span", ui.moment(at), class_="below"), class_="tight"
    )


def _ran(view: View, run: JobSummary) -> Html:
    mood = MOODS.get(run.outcome, "good" if run.outcome == "done" else "")
    outcome = ui.badge(run.outcome, mood, shown.line(view, run.error))
    shows = tag("a", outcome, href=view.link(f"/traces/{run.trace_id}")) if run.trace_id else outcome
    return tag("span", shows, " ", ui.duration(run.seconds), class_="tight")


def _missed(view: View, info: ScheduleInfo) -> Child:
    if not info.missed:
        return ui.muted("none")
    last = join(", last ", ui.ago(info.missed_at, view.now)) if info.missed_at is not None else ""
    return join(ui.badge(plural(info.missed, "tick"), "warn"), last)


def _waits(schedule: Schedule) -> tuple[Child, ...]:
    return (
        join(tag("b", schedule.name), tag("span", POLICIES[schedule.missed], class_="below")),
        tag("span", ui.code(schedule.calendar.spec), class_="tight"), ui.muted("when a worker has started"), "never", None, ui.muted("none"), None,
    )  # fmt: skip
