"""One message: what it is asked to do, how it went each time, and what can be done about it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from tenfold.dashboard import shown, ui
from tenfold.dashboard.html import Child, Html, join, tag
from tenfold.dashboard.page import live
from tenfold.dashboard.pages.jobs import MOODS, Jobs, admin_of, progress, queue_of, state_of
from tenfold.dashboard.view import View
from tenfold.errors import NotFound
from tenfold.jobs.signals import steps
from tenfold.telemetry.store.records import JobFilter

if TYPE_CHECKING:
    from tenfold.jobs.signals import StepStatus
    from tenfold.queue.info import MessageInfo
    from tenfold.telemetry.store.records import JobSummary

RUNS_SHOWN: Final = 50


class Job(Jobs):
    """With the actions of the list."""

    path = "/jobs/{id}"
    title = "Message"
    about = ""
    group = ""
    key = ""
    parent = "/jobs"
    windowed = False

    def heading(self, view: View) -> str:
        return f"Message {view.params['id']}"

    async def body(self, view: View) -> Html:
        return await view.live(self.message)

    @live(every_s=2)
    async def message(self, view: View) -> Html:
        given = view.params["id"]
        if not given.isdecimal():
            raise NotFound(f"There is no message {given}.")
        try:
            info = await admin_of(view).show(int(given))
        except NotFound:
            if "part" not in view.query:
                raise
            # Somebody looks at it while it goes: that is news, and no mistake of theirs.
            return ui.note(f"Message {given} is gone: it was discarded, or had been kept for long enough.")
        flow, runs = await asyncio.gather(
            steps(queue_of(view).database.read(consistency="strong"), info.id),
            view.records.jobs(JobFilter(job_id=str(info.id)), limit=RUNS_SHOWN),
        )
        return join(
            ui.grid(
                ui.card(info.handler, ui.pairs(*_facts(view, info)), aside=tag("span", self._buttons(view, info), class_="actions")),
                ui.card("Arguments", ui.pre(shown.json(view, info.payload), "Arguments")),
            ),
            ui.card("Error", ui.pre(shown.text(view, info.error), "Error")) if info.error else None,
            ui.card("Result", ui.pre(shown.json(view, info.result), "Result")) if info.result else None,
            ui.card("Steps", _steps(view, flow), flush=True) if flow else None,
            ui.card("Runs", _runs(view, runs.items), flush=True),
        )  # fmt: skip


def _facts(view: View, info: MessageInfo) -> list[tuple[Child, Child]]:
    times = {
        "due": info.run_at if info.state in ("ready", "delayed") else None,
        "started": info.started_at,
        "leased until": info.lease_until,
        "finished": info.finished_at,
    }
    failed = f"{info.failures:,} failed" + (f", {info.crashes:,} crashed" if info.crashes else "")
    rows: list[tuple[Child, Child]] = [
        ("state", state_of(info)),
        ("progress", progress(info)),
        ("kind", info.kind),
        ("queue", join(view.a(info.queue, "/jobs", queue=info.queue), f", priority {info.priority}")),
        ("attempts", failed if info.attempts else "no failed one"),
        ("put in", _at(view, info.created_at)),
        *((name, _at(view, at)) for name, at in times.items() if at is not None),
        ("worker", info.worker),
        ("asked to stop", shown.line(view, info.cancel or "")),
        ("tenant", info.tenant),
        ("key", shown.line(view, info.order_key or "")),
        ("unique key", shown.line(view, info.unique_key or "")),
        ("event", info.event_id),
    ]
    return [(name, value) for name, value in rows if value]


def _at(view: View, at: float) -> Html:
    if at > view.now:
        return join("in ", ui.duration(at - view.now))
    return ui.ago(at, view.now)


def _steps(view: View, found: list[StepStatus]) -> Html:
    rows: list[tuple[Child, ...]] = []
    for step in found:
        note = step.result if step.state == "done" else (step.error or "").split("\n", 1)[0]
        due = (
            join("due ", _at(view, step.due_at)) if step.due_at is not None and step.state != "done" else None
        )
        mood: ui.Mood = "good" if step.state == "done" else "warn" if step.attempts else ""
        rows.append(
            (
                step.name, step.kind, ui.badge(step.state, mood), step.attempts,
                _at(view, step.finished_at or step.created_at), join(due, " ", shown.line(view, note or "")),
            )
        )  # fmt: skip
    columns = ("step", "kind", "state", ui.Column("failed", number=True), "since", ui.Column("", wide=True))
    return ui.table(columns, rows, nothing="", caption="Steps")


def _runs(view: View, found: list[JobSummary]) -> Html:
    rows = [
        (
            ui.ago(run.at, view.now),
            ui.badge(run.outcome, MOODS.get(run.outcome, "good" if run.outcome == "done" else "")),
            ui.duration(run.seconds),
            ui.duration(run.wait_s),
            run.instance,
            shown.line(view, run.error.split("\n", 1)[0]),
            view.a("Trace", f"/traces/{run.trace_id}") if run.trace_id else None,
        )
        for run in found
    ]
    columns = (
        "ended", "outcome", ui.Column("took", number=True), ui.Column("waited", number=True), "instance",
        ui.Column("error", wide=True), "",
    )  # fmt: skip
    return ui.table(columns, rows, nothing="It has not run yet, or its runs are forgotten.", caption="Runs")
