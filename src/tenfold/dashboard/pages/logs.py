"""The log of all instances, searched by words, level, logger, request and trace."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

import msgspec

from tenfold.dashboard import shown, ui
from tenfold.dashboard.html import Child, Html, join, tag
from tenfold.dashboard.page import Choices, Page, live
from tenfold.dashboard.pages.traces import trace_id
from tenfold.dashboard.view import View
from tenfold.telemetry.store.records import LogFilter

if TYPE_CHECKING:
    from tenfold.telemetry.store.records import LogEvent

SHOWN: Final = 100
LEVELS: Final = ("debug", "info", "warning", "error", "critical")
MOODS: Final[dict[str, ui.Mood]] = {"warning": "warn", "error": "bad", "critical": "bad"}
FIELD_MAX: Final = 120
"""Characters of a field in the list; its line opens to show it whole."""


class Logs(Page):
    path = "/logs"
    title = "Logs"
    about = "What all instances said; requests are under Traces."
    group = "Traffic"
    key = "w"
    windowed = True
    choices: ClassVar[Choices] = {"level": LEVELS}

    async def body(self, view: View) -> Html:
        return join(self._search(view), await view.live(self.lines))

    def _search(self, view: View) -> Html:
        asked = view.query
        levels = [("", "every level"), *((level, f"{level} and worse") for level in LEVELS[1:])]
        kept = {name: asked.get(name, "") for name in ("window", "trace_id", "request_id", "instance")}
        return ui.filters(
            view.link(self.path),
            *(tag("input", type="hidden", name=name, value=value) for name, value in kept.items() if value),
            ui.field(
                "Words", "text", asked.get("text", ""), type_="search", hint="all of them, anywhere", size=34
            ),
            ui.select("Level", "level", asked.get("level", ""), levels),
            ui.field("Logger begins with", "logger", asked.get("logger", "")),
        )

    @live(every_s=2)
    async def lines(self, view: View) -> Html:
        asked = view.query
        level = asked.get("level", "")
        where = LogFilter(
            text=asked.get("text", "").strip(),
            level=level,
            logger=asked.get("logger", "").strip(),
            instance=asked.get("instance", ""),
            trace_id=trace_id(trace) if (trace := asked.get("trace_id", "")) else "",
            request_id=asked.get("request_id", ""),
            since=view.since,
        )
        found = await view.records.logs(where, before=asked.get("before", ""), limit=SHOWN)
        columns = ("time", "level", ui.Column("said", wide=True), "logger", "")
        rows = [_row(view, event) for event in found.items]
        listed = ui.table(columns, rows, nothing=_nothing(view, where), caption="Log")
        older = view.here(before=found.before) if found.before else ""
        return ui.card(_title(where), listed, ui.older(older), aside=_chosen(view, where), flush=True)


def _title(where: LogFilter) -> str:
    if where.trace_id:
        return f"Log of trace {where.trace_id}"
    return f"Log of request {where.request_id}" if where.request_id else "Log"


def _chosen(view: View, where: LogFilter) -> Child:
    if where.trace_id:
        trace = view.a("The trace", f"/traces/{where.trace_id}")
        return join(trace, tag("a", "All lines", href=view.here(trace_id=None, before=None)))
    if where.request_id or where.instance:
        return tag("a", "All lines", href=view.here(request_id=None, instance=None, before=None))
    return tag("a", "Newest", href=view.here(before=None)) if view.query.get("before") else None


def _row(view: View, event: LogEvent) -> tuple[Child, ...]:
    fields = {name: value for name, value in event.fields.items() if name != "trace"}
    traceback = str(event.fields.get("trace", ""))
    brief = [
        tag("span", tag("b", name), "=", shown.line(view, _text(value), FIELD_MAX), class_="pair")
        for name, value in fields.items()
    ]
    head = join(
        shown.line(view, event.event, 400),
        tag("span", join(*brief, between=" "), class_="below") if brief else None,
    )
    return (
        ui.moment(event.at),
        ui.badge(event.level, MOODS.get(event.level, "")),
        tag("details", tag("summary", head), _whole(view, event, fields, traceback), class_="said"),
        tag("a", ui.muted(event.logger), href=view.here(logger=event.logger, before=None)),
        view.a("Trace", f"/traces/{event.trace_id}") if event.trace_id else None,
    )


def _whole(view: View, event: LogEvent, fields: dict[str, object], traceback: str) -> Html:
    """Everything about the line, for who opens it."""
    facts: list[tuple[Child, Child]] = [
        (name, shown.text(view, _text(value), 2_000)) for name, value in fields.items()
    ]
    if event.instance:
        facts.append(
            ("instance", tag("a", event.instance, href=view.here(instance=event.instance, before=None)))
        )
    if event.request_id:
        request = tag("a", event.request_id, href=view.here(request_id=event.request_id, before=None))
        facts.append(("request", request))
    if event.trace_id:
        facts.append(
            ("trace", tag("a", event.trace_id, href=view.here(trace_id=event.trace_id, before=None)))
        )
    shows = ui.pre(shown.text(view, traceback), "Traceback") if traceback else None
    return join(ui.pairs(*facts) if facts else None, shows)


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    try:
        return msgspec.json.encode(value).decode()
    except (TypeError, ValueError):
        return str(value)


def _nothing(view: View, where: LogFilter) -> str:
    asked = where.text or where.level or where.logger or where.trace_id or where.request_id or where.instance
    return (
        f"Nothing of that kind was said in {view.window}." if asked else f"Nothing was said in {view.window}."
    )
