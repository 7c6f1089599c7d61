"""What is going on, in one look: is it well, what fails, who is slow, how much room is left."""

from __future__ import annotations

import asyncio
from typing import Final

from tenfold.dashboard import ui
from tenfold.dashboard.html import Child, Html, join, tag
from tenfold.dashboard.numbers import OPERATION_COLUMNS, latency_lines, operation_row, step_of, whole_of
from tenfold.dashboard.page import Page, live
from tenfold.dashboard.view import View, segment
from tenfold.telemetry import names
from tenfold.telemetry.health import Readiness
from tenfold.telemetry.store.records import ErrorGroup, OperationSummary

NOW_S: Final = 60.0
"""What "now" means, in seconds: less than this is too little to speak of a rate."""
ERRORS_SHOWN: Final = 8
OPERATIONS_SHOWN: Final = 10
SLOW_LAG_S: Final = 0.1
"""An event loop that runs timers this late is busy with something that blocks it."""


class Overview(Page):
    path = "/"
    title = "Overview"
    group = "Now"
    key = "o"
    windowed = True

    def heading(self, view: View) -> str:
        return view.app.name

    async def body(self, view: View) -> Html:
        return join(
            await view.live(self.numbers),
            await view.live(self.charts),
            await view.live(self.errors),
            await view.live(self.operations),
        )

    @live(every_s=2)
    async def numbers(self, view: View) -> Html:
        ready, whole, recent = await asyncio.gather(
            view.assembly.checks.ready(), whole_of(view, view.since), whole_of(view, view.now - NOW_S)
        )
        return join(
            _readiness(ready),
            ui.figures(
                ui.figure(
                    "Requests", ui.rate(recent.requests / NOW_S), f"{whole.requests:,.0f} in {view.window}"
                ),
                _errors(whole, view),
                ui.figure("Latency, 95th percentile", _seconds(whole.p95, whole), _others(whole)),
                *_saturation(view),
                _backlog(view),
            ),
        )

    @live(every_s=5)
    async def charts(self, view: View) -> Html:
        points, admitted, lag = await asyncio.gather(
            view.records.latency(since=view.since),
            view.records.series(f"{names.ADMISSION}_in_flight", since=view.since, by=()),
            view.records.series(names.LOOP_LAG, since=view.since, by=()),
        )
        asked = {point.at: point for point in points}
        running = [point.at for each in lag for point in each.points]
        times = sorted(
            {*asked, *running}
        )  # a process that runs and is asked nothing has no requests, not no number
        step = step_of(times, view)
        traffic = ui.chart(
            "Requests per second",
            view.time,
            times,
            ui.Line("requests", [p.requests / step if p else 0.0 for p in map(asked.get, times)], fill=True),
            ui.Line("errors", [p.errors / step if p else 0.0 for p in map(asked.get, times)], "bad"),
            unit="/s",
        )
        latency = ui.chart("Latency", view.time, [*asked], *latency_lines(points), unit="s")
        busy = admitted[0].points if admitted else []
        places = ui.chart(
            "Requests in progress",
            view.time,
            [p.at for p in busy],
            ui.Line("in progress", [p.value for p in busy], fill=True),
        )
        late = lag[0].points if lag else []
        loop = ui.chart(
            "Lag of the event loop",
            view.time,
            [p.at for p in late],
            ui.Line("mean", [p.sum / p.count if p.count else None for p in late], fill=True),
            unit="s",
        )
        return ui.grid(
            ui.card("Traffic", traffic),
            ui.card("Latency", latency),
            ui.card("Requests in progress", places),
            ui.card("Event loop lag", loop),
        )

    @live(every_s=2)
    async def errors(self, view: View) -> Html:
        found = await view.records.errors(since=view.since, limit=ERRORS_SHOWN)
        rows = [
            (
                _where(view, group),
                tag("a", group.error or f"answered {group.status}", href=_leads_to(view, group)),
                f"{group.count:,}",
                ui.ago(group.last_at, view.now),
            )
            for group in found
        ]
        columns = (
            ui.Column("where"),
            ui.Column("what", wide=True),
            ui.Column("times", number=True),
            ui.Column("last"),
        )
        listed = ui.table(columns, rows, nothing=f"Nothing failed in {view.window}.", caption="Errors")
        return ui.card("Errors", listed, flush=True, aside=view.a("All in the log", "/logs", level="error"))

    @live(every_s=5)
    async def operations(self, view: View) -> Html:
        found = await view.records.operations(since=view.since)
        rows = [operation_row(view, each) for each in found[:OPERATIONS_SHOWN]]
        nothing = "No request was answered in this time."
        listed = ui.table(OPERATION_COLUMNS, rows, nothing=nothing, caption="Busiest operations")
        return ui.card(
            "Busiest operations", listed, flush=True, aside=view.a("All operations", "/operations")
        )


# ── parts of the row of numbers ───────────────────────────────────────────────────────────────────


def _readiness(ready: Readiness) -> Html:
    """One word where all is well, else what is not."""
    failed = [check for check in ready.checks if not check.ok]
    if failed:
        return join(*(ui.note(join(tag("b", check.name), ": ", check.sentence), "bad") for check in failed))
    return tag("p", ui.badge(ready.sentence, "good" if ready.ready else "warn"))


def _errors(whole: OperationSummary, view: View) -> Html:
    share = whole.errors / whole.requests if whole.requests else 0.0
    mood: ui.Mood = "bad" if share >= 0.01 else "warn" if whole.errors else ""
    below = f"{whole.errors:,.0f} failed, {whole.refused:,.0f} refused"
    return ui.figure("Errors", ui.percent(share) if whole.requests else "–", below, mood)


def _seconds(value: float, whole: OperationSummary) -> str:
    return ui.duration(value) if whole.requests else "–"


def _others(whole: OperationSummary) -> str:
    if not whole.requests:
        return "nothing was asked for"
    return f"p50 {ui.duration(whole.p50)}, p99 {ui.duration(whole.p99)}"


def _saturation(view: View) -> list[Html]:
    """How much of what this process may do at a time it does."""
    gate = view.assembly.http.wiring.admission
    if gate is None:
        return []
    share = gate.in_flight / gate.limit if gate.limit else 0.0
    mood: ui.Mood = "bad" if gate.overloaded else "warn" if share >= 0.7 else ""
    below = f"{gate.in_flight:,} of {gate.limit:,} places, {gate.waiting:,} waiting"
    return [ui.figure("Saturation", ui.percent(share), below, mood, href=view.link("/policies"))]


def _backlog(view: View) -> Html:
    """What waits to be worked on."""
    waiting, oldest, dead = 0.0, 0.0, 0.0
    for family in view.assembly.telemetry.registry.collect():
        if family.name == names.QUEUE_MESSAGES:
            waiting = sum(s.value for s in family.samples if s.labels.get("state") == "ready")
            dead = sum(s.value for s in family.samples if s.labels.get("state") == "dead")
        elif family.name == names.QUEUE_OLDEST:
            oldest = max((s.value for s in family.samples), default=0.0)
    mood: ui.Mood = "warn" if oldest > NOW_S or dead else ""
    below = f"{dead:,.0f} dead" if dead else f"oldest {ui.duration(oldest)}" if waiting else "nothing waits"
    return ui.figure("Jobs waiting", f"{waiting:,.0f}", below, mood, href=view.link("/jobs"))


def _where(view: View, group: ErrorGroup) -> Child:
    if group.kind == "request":
        return view.a(group.where, f"/operations/{segment(group.where)}")
    return join(group.where, " ", ui.badge(group.kind))


def _leads_to(view: View, group: ErrorGroup) -> str:
    """The latest of its kind, with its traceback."""
    if group.trace_id:
        return view.link(f"/traces/{group.trace_id}")
    return view.link("/logs", text=group.request_id or group.error)
