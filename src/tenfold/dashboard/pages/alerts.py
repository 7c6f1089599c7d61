"""What is wrong now, who is told of it, what is silenced, and error budgets."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import msgspec

from tenfold.dashboard import ui
from tenfold.dashboard.html import Child, Html, join, tag
from tenfold.dashboard.page import Page, action, live
from tenfold.dashboard.view import segment
from tenfold.errors import NotFound
from tenfold.telemetry.alerts.facts import BURNING
from tenfold.telemetry.alerts.rules import Alert, Labels
from tenfold.telemetry.alerts.settings import burns, rules
from tenfold.telemetry.alerts.silences import Silence, made, silenced

if TYPE_CHECKING:
    from tenfold.dashboard.view import View
    from tenfold.telemetry.alerts.watch import Watch

MOODS: Final[dict[str, ui.Mood]] = {"page": "bad", "ticket": "warn"}
LOOKS_LATE: Final = 5
"""So many looks may be missed before somebody is worried."""
LASTS: Final = (("1", "an hour"), ("4", "four hours"), ("24", "a day"), ("168", "a week"))


class Alerts(Page):
    path = "/alerts"
    title = "Alerts"
    about = "What is wrong now, who is told, and what is silenced."
    group = "Now"
    key = "a"

    async def body(self, view: View) -> Html:
        return join(
            await view.live(self.now),
            await view.live(self.firing),
            await view.live(self.budgets),
            await view.live(self.silences),
            self._silence(view),
            self._rules(view),
            self._targets(view),
        )

    # ── what is wrong ──

    @live(every_s=2)
    async def now(self, view: View) -> Html:
        watch = view.assembly.alerts
        if watch is None:
            return ui.note(
                "No telemetry is kept (telemetry.store), so there is nothing that rules could look at.",
                "warn",
            )
        state = watch.state
        firing = [alert for alert in state.alerts if alert.state == "firing"]
        pages = sum(alert.severity == "page" for alert in firing)
        notes = [
            ui.note(sentence, "warn")
            for sentence in (
                _late(view, watch),
                state.untold,
                f"{state.left_out:,} more alerts are not shown: too many at a time."
                if state.left_out
                else "",
            )
            if sentence
        ]
        figures = ui.figures(
            ui.figure("Pages", pages, "at once", "bad" if pages else "good"),
            ui.figure("Tickets", len(firing) - pages, "by tomorrow", "warn" if len(firing) > pages else ""),
            ui.figure("Pending", len(state.alerts) - len(firing), "not yet for long enough"),
            ui.figure("Silences", len(watch.silences)),
        )
        return join(figures, *notes)

    @live(every_s=2)
    async def firing(self, view: View) -> Html:
        watch = view.assembly.alerts
        alerts = [] if watch is None else sorted(watch.state.alerts, key=_order)
        silences = [] if watch is None else watch.silences
        columns = ("state", ui.Column("what", wide=True), "since", "told", "")
        rows = [self._alert(view, alert, silenced(alert, silences)) for alert in alerts]
        return ui.card(
            "Now",
            ui.table(columns, rows, nothing="Nothing is wrong that a rule knows of.", caption="Alerts"),
            flush=True,
        )

    def _alert(self, view: View, alert: Alert, silence: Silence | None) -> tuple[Child, ...]:
        mood = MOODS[alert.severity] if alert.state == "firing" else ""
        state = ui.badge(alert.severity if alert.state == "firing" else "pending", mood)
        labels = ", ".join(f"{name} {value}" for name, value in alert.labels)
        operation = dict(alert.labels).get("operation", "")
        what = join(
            alert.sentence,
            tag("span", alert.do, class_="below"),
            tag("span", f"{alert.rule}: {labels}" if labels else alert.rule, class_="below"),
            tag("span", _leads(view, operation), class_="below") if operation else None,
        )
        told: Child = ui.ago(alert.told, view.now) if alert.told else ui.muted("nobody")
        if silence is not None:
            told = ui.badge("silenced", "", silence.why)
        key = msgspec.json.encode(alert.key).decode()
        button = None if silence is not None else view.button(self.hush, alert=key)
        return state, what, ui.ago(alert.since, view.now), told, button

    # ── silences ──

    def _silence(self, view: View) -> Html:
        form = view.form_of(
            self.silence_all,
            ui.field("Why", "why", hint="the database is being moved", size=50),
            ui.select("For", "hours", "1", LASTS),
        )
        return ui.card("Tell nobody of anything", form)

    @live(every_s=2)
    async def silences(self, view: View) -> Html:
        watch = view.assembly.alerts
        found = [] if watch is None else watch.silences
        rows = [
            (
                each.rule or "everything",
                ", ".join(f"{name} {value}" for name, value in each.labels),
                each.why,
                each.by,
                ui.moment(each.until),
                view.button(self.lift, id=each.id),
            )
            for each in found
        ]
        columns = ("of", "where", "why", "by", "until", "")
        return ui.card(
            "Silences",
            ui.table(columns, rows, nothing="Nothing is silenced.", caption="Silences"),
            flush=True,
        )

    @action("Silence for an hour")
    async def hush(self, view: View) -> str:
        watch = _watch(view)
        try:
            rule, labels = msgspec.json.decode(view.field("alert"), type=tuple[str, Labels])
        except msgspec.DecodeError:
            raise NotFound("That is no alert.") from None
        alert = next((each for each in watch.state.alerts if each.key == (rule, labels)), None)
        if alert is None:
            raise NotFound("It is over.")
        await self._add(view, watch, alert, "1", "silenced on the page of alerts")
        return f"Nobody is told of {rule} for an hour."

    @action("Silence everything", danger=True, confirm="Nobody will be told of anything. Go on?")
    async def silence_all(self, view: View) -> str:
        hours = view.field("hours")
        await self._add(view, _watch(view), None, hours, view.field("why"))
        return f"Nobody is told of anything for {dict(LASTS).get(hours, f'{hours} hours')}."

    @action("End")
    async def lift(self, view: View) -> str:
        id_ = view.field("id")
        await _watch(view).change(lambda kept: [each for each in kept if each.id != id_])
        return "The silence has ended."

    async def _add(self, view: View, watch: Watch, alert: Alert | None, hours: str, why: str) -> None:
        silence = made(
            self.app.clock.uuid(), alert, hours=hours, by=view.visitor.name, why=why, now=self.app.clock.now()
        )
        await watch.change(lambda kept: [*kept, silence])

    # ── what is watched, and who is told ──

    @live(every_s=30)
    async def budgets(self, view: View) -> Html:
        watch = view.assembly.alerts
        left = [] if watch is None else await watch.budgets()
        rows = [
            (
                view.a(operation, f"/operations/{segment(operation)}"),
                str(objective),
                ui.meter(
                    max(0.0, share),
                    ui.percent(share) if share >= 0 else f"spent {1 - share:,.1f} times",
                    "bad" if share <= 0 else "warn" if share < 0.25 else "good",
                ),
            )
            for operation, objective, share in left
        ]
        nothing = 'No operation has an objective. Write slo="99.9% under 300ms" on the app, a service or an operation.'
        table = ui.table(
            ("operation", "objective", "left of the error budget"), rows, nothing=nothing, caption="Budgets"
        )
        return ui.card("Error budgets", table, flush=True)

    def _rules(self, view: View) -> Html:
        settings = self.app.settings.alerts
        wanted = burns(settings)
        rows: list[tuple[Child, ...]] = [
            (
                rule.name,
                ui.code(str(rule.condition)),
                ui.duration(rule.for_s) if rule.for_s else "at once",
                rule.severity,
            )
            for rule in rules(settings)
        ]
        rows += [
            (rule.name, "error budgets of objectives, over two windows", "at once", severity)
            for severity, rule in BURNING.items()
            if rule.name in wanted
        ]
        columns = ("rule", ui.Column("when", wide=True), "for", "severity")
        return ui.card(
            "Rules", ui.table(columns, rows, nothing="All rules are off.", caption="Rules"), flush=True
        )

    def _targets(self, view: View) -> Html:
        watch = view.assembly.alerts
        told = {} if watch is None else watch.targets
        if not any(told.values()):
            return ui.card(
                "Who is told",
                ui.empty('Nobody: set alerts.page = ["mailto:ops@example.com"] to change that.'),
            )
        rows = [(severity, ", ".join(each.shown for each in targets)) for severity, targets in told.items()]
        return ui.card("Who is told", ui.pairs(*rows))


def _watch(view: View) -> Watch:
    watch = view.assembly.alerts
    if watch is None:
        raise NotFound("Nothing is watched, since no telemetry is kept.")
    return watch


def _leads(view: View, operation: str) -> Html:
    """To where the requests are that an alert is about."""
    numbers = view.a("Its numbers", f"/operations/{segment(operation)}")
    return join(numbers, view.a("Its failures", "/traces", operation=operation, why="failed"), between=" · ")


def _order(alert: Alert) -> tuple[bool, bool, float]:
    return alert.state != "firing", alert.severity != "page", alert.since


def _late(view: View, watch: Watch) -> str:
    """A sentence where nobody has looked for a while."""
    at, every_s = watch.state.at, view.app.settings.alerts.every_s
    if not at or view.now - at < LOOKS_LATE * every_s:
        return ""
    when = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return f"Nobody has looked at the rules since {when}; the log says why."
