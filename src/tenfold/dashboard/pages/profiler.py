"""Where this process spends its time: profiles on request, as flame graphs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from tenfold.dashboard import ui
from tenfold.dashboard.flame import Node, costs, flame, tree, where, whose
from tenfold.dashboard.html import Child, Html, join, tag
from tenfold.dashboard.page import Page, action, live
from tenfold.dashboard.view import View
from tenfold.errors import InvalidInput, NotFound
from tenfold.telemetry.profiling import Profiler as Sampler
from tenfold.telemetry.profiling import ThreadTimes

if TYPE_CHECKING:
    from tenfold.app import App
    from tenfold.telemetry.profiling import Kind, Profile

SECONDS: Final = (("5", "5 s"), ("10", "10 s"), ("30", "30 s"), ("60", "60 s"))
KINDS: Final[dict[str, str]] = {
    "cpu": "on the processor: what computes",
    "wall": "of the clock: what waits, too",
}
FUNCTIONS_SHOWN: Final = 20
LEGEND: Final = (
    ("own", "the app"), ("tenfold", "Tenfold"), ("library", "libraries"), ("python", "Python"), ("thread", "threads"),
)  # fmt: skip
FOLLOW_S: Final = 6.0
"""A page that waited for a profile goes to it when it is done; later ones are only listed."""


class Profiler(Page):
    path = "/profiler"
    title = "Profiler"
    about = "Where this process spends its time, by looking at its stacks a hundred times a second."
    group = "Control"
    key = "f"

    def __init__(self, app: App) -> None:
        super().__init__(app)
        self.sampler = Sampler(app.clock)

    async def body(self, view: View) -> Html:
        chosen = self._chosen(view)
        return join(
            self._ask(view),
            await view.live(self.state),
            _graph(view, chosen) if chosen is not None and chosen.done else None,
        )

    def _ask(self, view: View) -> Html:
        kinds = [(kind, text) for kind, text in KINDS.items() if kind != "cpu" or ThreadTimes().known]
        form = view.form_of(
            self.start,
            tag(
                "div",
                ui.select("For", "seconds", "10", SECONDS),
                ui.select("Time", "kind", kinds[0][0], kinds),
                class_="fields",
            ),
            label="Start a profile",
        )
        about = "It costs about a hundredth of a core while it runs, and nothing else."
        return ui.card("A new profile", form, tag("p", about, class_="muted"))

    def _chosen(self, view: View) -> Profile | None:
        """The profile that is asked for, or else the newest that is done."""
        asked = view.query.get("profile", "")
        if not asked:
            return next((profile for profile in reversed(self.sampler.kept) if profile.done), None)
        found = self.sampler.get(int(asked)) if asked.isdecimal() and len(asked) < 10 else None
        if found is None:
            raise NotFound("This process does not have that profile: the newest few are kept, until it ends.")
        return found

    @live(every_s=1)
    async def state(self, view: View) -> Html:
        running = self.sampler.running
        kept = [profile for profile in reversed(self.sampler.kept) if profile.done]
        rows = [
            (
                tag("a", f"Profile {profile.id}", href=self._address(view, profile), class_="tight"),
                KINDS[profile.kind].partition(":")[0], ui.duration(profile.took_s), profile.looks, tag("span", profile.by, class_="tight"),
                ui.ago(profile.at, view.now),
            )
            for profile in kept
        ]  # fmt: skip
        columns = (
            "",
            ui.Column("time", wide=True),
            ui.Column("for", number=True),
            ui.Column("looks", number=True),
            "by",
            "",
        )
        listed = (
            ui.card(
                "Profiles of this process",
                ui.table(columns, rows, nothing="", caption="Profiles"),
                flush=True,
            )
            if rows
            else None
        )
        return join(
            self._progress(view, running) if running is not None else self._follow(view, kept), listed
        )

    def _progress(self, view: View, running: Profile) -> Html:
        said = f"{running.took_s:.0f} of {running.wanted_s:.0f} s, {running.looks:,} looks"
        bar = ui.meter(running.took_s / running.wanted_s, said, "good")
        return ui.card("Looking", bar, aside=view.button(self.stop))

    def _follow(self, view: View, kept: list[Profile]) -> Html | None:
        """To the profile that was waited for here."""
        newest = kept[0] if kept else None
        if newest is None or view.query.get("profile") == str(newest.id) or newest.by != view.visitor.name:
            return None
        if view.now - newest.at - newest.took_s > FOLLOW_S:
            return None
        shows = tag("a", "Show it", href=self._address(view, newest), data_follow=True)
        return ui.note(join(f"Profile {newest.id} is done. ", shows), "good")

    def _address(self, view: View, profile: Profile) -> str:
        return view.link(self.path, profile=profile.id)

    @action("Start a profile")
    async def start(self, view: View) -> str:
        seconds, kind = view.field("seconds"), view.field("kind")
        if seconds not in dict(SECONDS) or kind not in KINDS:
            raise InvalidInput("A profile takes 5, 10, 30 or 60 seconds, of the processor or of the clock.")
        profile = self.sampler.start(float(seconds), kind=cast("Kind", kind), by=view.visitor.name)
        return f"Profile {profile.id} looks for {profile.wanted_s:.0f} s."

    @action("Stop")
    async def stop(self, view: View) -> str:
        self.sampler.stop()
        return "The profile ends with what it has."


def _graph(view: View, profile: Profile) -> Html:
    if not profile.stacks:
        nothing = "No thread of this process was on the processor in that time: it waited. Give it some work, or ask for the time of the clock."
        return ui.card(f"Profile {profile.id}", ui.empty(nothing))
    root = tree(profile.stacks)
    asked = view.query.get("at", "")
    index = int(asked) if asked.isdecimal() and len(asked) < 10 else 0
    at = next((node for node in root if node.index == index), root)

    def link(node: Node) -> str:
        return view.here(profile=profile.id, at=node.index or None)

    graph = flame(at, label=f"Flame graph of profile {profile.id}", link=link, said=ui.duration)
    share = profile.total_s / profile.took_s if profile.took_s else 0.0
    about = f"{ui.duration(profile.total_s)} in {ui.duration(profile.took_s)}"
    if profile.kind == "cpu":
        about += f": {ui.percent(share)} of a core"
    legend = [tag("span", text, class_=f"whose {kind}") for kind, text in LEGEND]
    aside = join(about, tag("a", "Whole graph", href=link(root)) if at is not root else None)
    beyond = (
        ui.note(f"{ui.duration(profile.beyond_s)} were in stacks that there was no room for.", "warn")
        if profile.beyond_s
        else None
    )
    return join(
        ui.card(f"Profile {profile.id}", tag("p", legend, class_="legend"), graph, beyond, aside=aside),
        ui.card("Functions", _functions(profile), aside="by the time in them, without what they called", flush=True),
    )  # fmt: skip


def _functions(profile: Profile) -> Html:
    whole = profile.total_s or 1.0
    rows: list[tuple[Child, ...]] = [
        (
            join(tag("span", cost.place.function, class_=f"mono whose {whose(cost.place)}"), tag("span", where(cost.place), class_="below")),
            ui.meter(cost.own_s / whole, ui.percent(cost.own_s / whole), "good"),
            ui.duration(cost.own_s), ui.duration(cost.total_s),
        )
        for cost in costs(profile.stacks)[:FUNCTIONS_SHOWN]
        if cost.own_s
    ]  # fmt: skip
    columns = (
        ui.Column("function", wide=True),
        "share",
        ui.Column("in it", number=True),
        ui.Column("with what it called", number=True),
    )
    return ui.table(columns, rows, nothing="", caption="Functions")
