"""Every setting with its value and where that came from. Secrets are not shown."""

from __future__ import annotations

from typing import ClassVar, Final

from tenfold._core.secrets import HIDDEN
from tenfold._core.settings import variable
from tenfold.dashboard import shown, ui
from tenfold.dashboard.html import Child, Html, tag
from tenfold.dashboard.page import Choices, Page
from tenfold.dashboard.view import View
from tenfold.telemetry.redact import is_sensitive

DEFAULT: Final = "default"
Row = tuple[str, str, str]
"""Path, value as it may be printed, source."""


class Settings(Page):
    path = "/settings"
    title = "Settings"
    about = "What this process runs with, and who said so. Secrets are not shown."
    group = "Control"
    key = "s"
    choices: ClassVar[Choices] = {"only": ("set",)}

    async def body(self, view: View) -> Html:
        asked, only = view.query.get("q", "").strip().lower(), view.query.get("only", "")
        rows = [
            (path, value, source)
            for path, value, source in view.app.loaded.rows()
            if (asked in path or asked in value.lower()) and (only != "set" or source != DEFAULT)
        ]
        sections: dict[str, list[Row]] = {}
        for row in rows:
            sections.setdefault(row[0].partition(".")[0], []).append(row)
        chosen = [row for row in rows if row[2] != DEFAULT]
        search = ui.filters(
            view.link(self.path),
            ui.field("Name or value", "q", view.query.get("q", ""), type_="search"),
            ui.select("Show", "only", only, [("", "all settings"), ("set", "only those that somebody set")]),
        )
        shows = [_section(view, "Set by somebody", chosen)] if chosen else []
        if only != "set":
            cards = [_section(view, f"[{name}]", found) for name, found in sections.items()]
            shows += [tag("div", cards, class_="columns")] if cards else []
        said = f"{len(rows):,} settings, {len(chosen):,} of them set by somebody; the others have their defaults."
        return tag(
            "div", search, tag("p", said, class_="muted"), *(shows or [ui.card("Nothing", ui.empty("No setting fits."))]),
            class_="stack settings",
        )  # fmt: skip


def _section(view: View, name: str, found: list[Row]) -> Html:
    rows = [_row(view, *row) for row in found]
    columns = ("setting", "value", "said by")
    return ui.card(name, ui.table(columns, rows, nothing="", caption=name), flush=True)


def _row(view: View, path: str, value: str, source: str) -> tuple[Child, ...]:
    hidden = value == HIDDEN or (is_sensitive(path.rpartition(".")[2]) and value not in ('""', "unset"))
    said: Child = ui.muted("hidden") if hidden else shown.text(view, value, 600)
    is_default = source == DEFAULT
    by = ui.muted("default") if is_default else ui.badge(source, "good")
    name = tag("span", path, class_="mono muted" if is_default else "mono", title=variable(path))
    return name, tag("span", said, class_="mono"), by
