"""What this process lets in and refuses, every policy in force with who said so, and changing them while it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from tenfold._core.context import Priority
from tenfold.dashboard import shown, ui
from tenfold.dashboard.html import Child, Html, join, tag
from tenfold.dashboard.page import Page, action, live
from tenfold.dashboard.view import View, segment
from tenfold.errors import InvalidInput
from tenfold.http.overview import NONE
from tenfold.telemetry import names

if TYPE_CHECKING:
    from tenfold.guard.admission import Admission
    from tenfold.guard.overrides import Override
    from tenfold.http.overview import OperationRow, PolicyRow

WORDS: Final = {
    "priority": "priority", "limit": "limit", "timeout_s": "deadline", "concurrency": "", "idempotent": "idempotency",
    "body_max_bytes": "body up to", "cache": "cached for", "slo": "objective",
}  # fmt: skip
"""Policies as they are written in code, and as people read them."""
ENDS: Final = (
    ("15m", "in 15 minutes"),
    ("1h", "in an hour"),
    ("8h", "in 8 hours"),
    ("", "when it is taken back"),
)


class Policies(Page):
    path = "/policies"
    title = "Limits and shedding"
    about = "What is let in and what is refused, and every policy, which can be changed while the app runs."
    group = "Control"
    key = "l"
    windowed = True

    async def body(self, view: View) -> Html:
        return join(
            await view.live(self.now),
            await view.live(self.over_time),
            await view.live(self.changed),
            self._change(view),
            await view.live(self.refusals),
            await view.live(self.operations),
        )

    # ── what is let in ──

    @live(every_s=2)
    async def now(self, view: View) -> Html:
        gate = view.assembly.http.wiring.admission
        numbers = view.assembly.guards.limiter.numbers()
        limited = ui.figure(
            "Refused by rate limits", f"{numbers['refused_total']:,}", f"of {numbers['refused_total'] + numbers['admitted_total']:,} asked",
        )  # fmt: skip
        away = ui.note(
            "The store of rate limits is away: each process counts by itself, or as guard.away says.", "warn"
        )
        if gate is None:
            off = ui.note("Admission is off (http.concurrency_max is 0): everything is let in.", "warn")
            return join(off, away if view.assembly.guards.limiter.away else None, ui.figures(limited))
        return join(
            ui.note("This process is overloaded: it sheds the least urgent first.", "bad")
            if gate.overloaded
            else None,
            away if view.assembly.guards.limiter.away else None,
            ui.figures(*_admission(gate), limited),
        )

    @live(every_s=5)
    async def over_time(self, view: View) -> Html:
        if view.assembly.http.wiring.admission is None:
            return Html("")
        prefix = names.ADMISSION
        flying = await view.records.series(f"{prefix}_in_flight", since=view.since, by=())
        limit = await view.records.series(f"{prefix}_limit", since=view.since, by=())
        shed = await view.records.series(names.HTTP_SHED, since=view.since, by=(names.PRIORITY,))
        times = shown.times_of([*flying, *limit])
        room = ui.chart(
            "Requests in progress and their limit", view.time, times,
            ui.Line("in progress", shown.gauge(flying, times), fill=True), ui.Line("limit", shown.gauge(limit, times), "warn"),
        )  # fmt: skip
        moments = shown.times_of([*flying, *limit, *shed])  # while nothing is shed, nothing is told of it
        lines = [ui.Line(each.labels.get(names.PRIORITY, ""), shown.per_s([each], moments)) for each in shed]
        none = ui.empty("Nothing was shed in this time.")
        refused = ui.chart("Refusals per second", view.time, moments, *lines, unit="/s") if lines else none
        return ui.grid(ui.card("In progress", room), ui.card("Shed", refused))

    @live(every_s=2)
    async def refusals(self, view: View) -> Html:
        """Bulkheads and breakers."""
        bulkheads: list[tuple[Child, ...]] = [
            (
                view.a(each.name, f"/operations/{segment(each.name)}"),
                ui.meter(each.in_flight / max(each.most, 1), f"{each.in_flight:,} of {each.most:,}"),
                ui.badge(f"{each.refused:,}", "bad") if each.refused else ui.muted("0"),
            )
            for each in view.assembly.http.wiring.bulkheads.values()
        ]
        breakers: list[tuple[Child, ...]] = []
        for client in view.app.clients:
            for name, host in client.view()["hosts"].items():
                state = host["breaker"] + (" (held)" if host["forced"] else "")
                breakers.append(
                    (client.name, name, ui.badge(state, "good" if host["breaker"] == "closed" else "bad"), host["opened"], host["refused"])
                )  # fmt: skip
        cards: list[Html] = []
        if bulkheads:
            columns = (ui.Column("operation", wide=True), "in progress", ui.Column("refused", number=True))
            listed = ui.table(columns, bulkheads, nothing="", caption="Bulkheads")
            cards.append(ui.card("Operations with places of their own", listed, flush=True))
        if view.app.clients:
            heads = (
                "client",
                "host",
                "breaker",
                ui.Column("opened", number=True),
                ui.Column("refused", number=True),
            )
            listed = ui.table(heads, breakers, nothing="Nothing was called yet.", caption="Breakers")
            cards.append(ui.card("Breakers of calls out", listed, flush=True))
        return ui.grid(*cards) if cards else Html("")

    # ── policies ──

    @live(every_s=2)
    async def changed(self, view: View) -> Html:
        columns = (
            ui.Column("policy", wide=True),
            "value",
            "by",
            "since",
            "ends",
            ui.Column("why", wide=True),
            "",
        )
        rows = [self._override(view, each) for each in view.assembly.overrides.in_force]
        listed = ui.table(
            columns, rows, nothing="Every policy is as code and settings say.", caption="Changes"
        )
        return ui.card("Changed at run time", listed, flush=True)

    def _override(self, view: View, each: Override) -> tuple[Child, ...]:
        return (
            ui.code(each.name),
            ui.badge("none" if each.value is None else str(each.value), "warn"),
            tag("span", each.by, class_="tight"),
            ui.ago(each.at, view.now),
            ui.muted("when taken back")
            if each.until is None
            else tag("span", "in ", ui.duration(max(0.0, each.until - view.now)), class_="tight"),
            shown.line(view, each.why),
            view.button(self.take_back, name=each.name),
        )

    def _change(self, view: View) -> Html:
        asked = view.query.get("change", "")
        known = [tag("option", value=name) for name in view.assembly.overrides.names]
        form = view.form_of(
            self.change,
            tag(
                "div",
                ui.field("Policy", "name", asked, hint="orders.place_order.limit", list="policies", required=True, size=24),
                ui.field("Value", "value", "", hint='5/minute, 0.5 or none', required=True, size=24),
                ui.field("Why", "why", "", hint="kept with it, for others to read", required=True, size=20),
                ui.select("Ends", "until", "1h", ENDS),
                class_="fields",
            ),
            tag("datalist", known, id="policies"),
        )  # fmt: skip
        about = (
            "All instances heed it within two seconds; it survives restarts until it ends or is taken back."
        )
        return tag("div", ui.card("Change a policy", tag("p", about, class_="muted"), form), id="change")

    @live(every_s=30)
    async def operations(self, view: View) -> Html:
        rows = [_operation(view, each) for each in view.assembly.policies.read().operations]
        columns = ("operation", "who", ui.Column("policies somebody chose", wide=True), "")
        listed = ui.table(
            columns, rows, nothing="The app has no operation.", caption="Policies of operations"
        )
        http = view.app.settings.http
        aside = f"besides: deadline {http.timeout_s:g} s, priority default"
        return ui.card("Policies in force", listed, aside=aside, flush=True)

    @action("Change it")
    async def change(self, view: View) -> str:
        name, why = view.field("name"), view.field("why")
        value = read_value(view.field("value"))
        until = view.form.get("until", "") or None
        try:
            made = await view.assembly.overrides.set(name, value, by=view.visitor.name, why=why, until=until)
        except InvalidInput as problem:
            raise InvalidInput(" ".join(each.message for each in problem.errors) or problem.detail) from None
        shown_value = "none" if made.value is None else made.value
        return f"{name} is {shown_value} in all instances within two seconds."

    @action("Take back", confirm="Let {name} be as code and settings say?")
    async def take_back(self, view: View) -> str:
        name = view.field("name")
        removed = await view.assembly.overrides.unset(
            name, by=view.visitor.name, why="taken back on the dashboard"
        )
        return f"{name} is as declared." if removed else f"{name} was not changed."


def _admission(gate: Admission) -> list[Html]:
    share = gate.in_flight / gate.limit
    mood: ui.Mood = "bad" if gate.overloaded else "warn" if share > 0.8 else ""
    refused = sum(gate.refused)
    by_priority = ", ".join(
        f"{gate.refused[priority]:,} of priority {priority.name.lower()}"
        for priority in Priority
        if gate.refused[priority]
    )
    return [
        ui.figure("In progress", f"{gate.in_flight:,}", f"{gate.parked:,} wait for something outside", mood),
        ui.figure("Limit", f"{gate.limit:,}", "learned" if gate.learned else "set by hand"),
        ui.figure(
            "Waiting at the door",
            f"{gate.waiting:,}",
            "for half a second at most",
            "warn" if gate.waiting else "",
        ),
        ui.figure("Admitted", f"{gate.admitted:,}", "since the start"),
        ui.figure("Shed", f"{refused:,}", by_priority or "since the start", "bad" if refused else ""),
    ]


def _operation(view: View, row: OperationRow) -> tuple[Child, ...]:
    what = f"{row.method} {row.path}" if row.path else "called by other services only"
    who = next(
        (policy.shown for policy in row.policies if policy.name == "auth" and row.path), "other services"
    )
    chosen = [
        _policy(policy) for policy in row.policies if policy.name != "auth" and policy.declared and policy.shown != NONE
    ]  # fmt: skip
    change = view.here(change=f"{row.operation}.{'limit' if row.path else 'timeout_s'}")
    return (
        join(
            view.a(row.operation, f"/operations/{segment(row.operation)}"), tag("span", what, class_="below")
        ),
        who,
        join(*chosen, between=" ") if chosen else ui.muted("none"),
        tag("a", "Change", href=f"{change}#change"),
    )


def _policy(policy: PolicyRow) -> Html:
    """One of them; who said it is in the tooltip."""
    changed = policy.source == "override"
    said = "changed at run time" if changed else f"says {policy.source}"
    return ui.badge(
        f"{WORDS.get(policy.name, policy.name)} {policy.shown}".strip(), "warn" if changed else "", said
    )


def read_value(given: str) -> str | int | float | bool | None:
    """Numbers, true, false and none as such; everything else is text."""
    if given.lower() in ("none", "null"):
        return None
    try:
        return msgspec.json.decode(given, type=int | float | bool)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return given
