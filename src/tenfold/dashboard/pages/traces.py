"""Kept traces; and one of them: where its time went, what it said, and where it failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Final

from tenfold.dashboard import failure, ui, waterfall
from tenfold.dashboard.html import Child, Html, join, tag
from tenfold.dashboard.page import Choices, Page, asked, live
from tenfold.dashboard.pages.operations import request_table, status
from tenfold.dashboard.view import SAID_MAX, View, segment
from tenfold.errors import BadRequest, NotFound
from tenfold.telemetry import names
from tenfold.telemetry.store.records import (
    JobSummary,
    LogEvent,
    RequestFilter,
    TraceDetail,
    TraceFilter,
    TraceSummary,
)

if TYPE_CHECKING:
    from tenfold.db.finder.plans import Step

PER_PAGE: Final = 50
ID_LENGTH: Final = 32
SLOWER_MAX_S: Final = 1e9
PLANS_MAX: Final = 20
"""Statements of one trace that the planner can be asked about: the slowest."""
WHY: Final = {"failed": "bad", "slow": "warn", "first": "", "sampled": ""}
_SLOWER: Final = (
    ("", "Any time"),
    ("0.01", "10 ms"),
    ("0.1", "100 ms"),
    ("0.5", "500 ms"),
    ("1", "1 s"),
    ("5", "5 s"),
)
_KINDS: Final = (
    ("", "All"),
    ("request", "Requests"),
    ("job", "Jobs"),
    ("event", "Events"),
    ("schedule", "Schedules"),
)
_WHYS: Final = (
    ("", "Any reason"),
    ("failed", "Failed"),
    ("slow", "Slow"),
    ("first", "First"),
    ("sampled", "Sampled"),
)


class Traces(Page):
    path = "/traces"
    title = "Traces"
    about = "Failed and slow work is always kept with its spans, of the rest a share."
    group = "Traffic"
    key = "t"
    windowed = True
    choices: ClassVar[Choices] = {"show": ("requests",), "kind": dict(_KINDS), "why": dict(_WHYS)}

    async def body(self, view: View) -> Html:
        requests = view.query.get("show") == "requests"
        tabs = ui.tabs(
            "What to list",
            ("Traces", view.here(show=None, before=None), not requests),
            ("Requests", view.here(show="requests", before=None), requests),
        )
        return join(tabs, _filters(view, requests), await view.live(self.listed))

    @live(every_s=3)
    async def listed(self, view: View) -> Html:
        before = view.query.get("before", "")
        if view.query.get("show") == "requests":
            return await self._requests(view, before)
        found = await view.records.traces(_trace_filter(view), before=before, limit=PER_PAGE)
        rows = [_row(view, each) for each in found.items]
        columns = (
            ui.Column("when"), ui.Column("what", wide=True), ui.Column("took", number=True),
            ui.Column("spans", number=True), ui.Column("kept for"), ui.Column("instance"),
        )  # fmt: skip
        nothing = "No trace of this kind was kept in this time. Choose a longer one, or fewer conditions."
        listed = ui.table(columns, rows, nothing=nothing, caption="Traces")
        return ui.card("Traces", listed, _older(view, found.before), flush=True)

    async def _requests(self, view: View, before: str) -> Html:
        query = view.query
        where = RequestFilter(
            operation=query.get("operation", ""),
            status_min=500 if query.get("why") == "failed" else 0,
            seconds_min=_number(query.get("slower", "")),
            since=view.since,
        )
        found = await view.records.requests(where, before=before, limit=PER_PAGE)
        listed = request_table(view, found.items, set())
        return ui.card("Requests", listed, _older(view, found.before), flush=True)


class OneTrace(Page):
    path = "/traces/{id}"
    title = "Trace"
    parent = "/traces"

    def heading(self, view: View) -> str:
        return f"Trace {view.params['id'][:12]}"

    async def body(self, view: View) -> Html:
        detail = await view.records.trace(trace_id(view.params["id"]))
        if detail is None:
            raise NotFound(
                "Nothing is kept of this trace: it is too young (it takes two seconds), too old, or was never here."
            )
        found = waterfall.rows([kept.span for kept in detail.spans])
        return join(
            _summary(view, detail, found), _failed(view, detail), self._waterfall(view, detail, found), _logs(view, detail),
            _jobs(view, detail),
        )  # fmt: skip

    def _waterfall(self, view: View, detail: TraceDetail, found: list[waterfall.Row]) -> Html:
        if view.assembly.databases.finder is None:
            return _waterfall(view, detail, found, {})
        plans = {
            row.span.span_id: view.ask(self.plan, "Show its plan", span=row.span.span_id)
            for row in waterfall.slowest(found, names.SQL, PLANS_MAX)
        }
        return _waterfall(view, detail, found, plans)

    @asked
    async def plan(self, view: View) -> Html:
        """How the database would carry out a statement of this trace now. The visitor names a span, and so can have
        planned only what the app has run."""
        finder, detail = view.assembly.databases.finder, await view.records.trace(trace_id(view.params["id"]))
        spans = [kept.span for kept in detail.spans] if detail is not None else []
        wanted = next((span for span in spans if span.span_id == view.query.get("span")), None)
        if finder is None or wanted is None:
            raise NotFound("The span of this statement is no longer kept, or statements are not watched.")
        return _plan(
            view,
            await finder.steps(
                str(wanted.attributes.get(names.SQL, "")), view.assembly.telemetry.redactor.text
            ),
        )


# ── the list ──────────────────────────────────────────────────────────────────────────────────────


def _filters(view: View, requests: bool) -> Html:
    query = view.query
    names = sorted({each.name for each in view.app.operations} | {query.get("operation", "")} - {""})
    hidden = [("window", view.window), ("show", "requests" if requests else "")]
    return ui.filters(
        view.here(),
        ui.select(
            "Operation", "operation", query.get("operation", ""), [("", "All"), *((name, name) for name in names)]
        ),
        None if requests else ui.select("Kind", "kind", query.get("kind", ""), _KINDS),
        ui.select("Kept for" if not requests else "Outcome", "why", query.get("why", ""), _WHYS[:2] if requests else _WHYS),
        ui.select("Longer than", "slower", query.get("slower", ""), _SLOWER),
        *(tag("input", type="hidden", name=name, value=value) for name, value in hidden if value),
        label="Show",
    )  # fmt: skip


def _trace_filter(view: View) -> TraceFilter:
    query = view.query
    return TraceFilter(
        operation=query.get("operation", ""), kind=query.get("kind", ""), why=query.get("why", ""),
        seconds_min=_number(query.get("slower", "")), since=view.since,
    )  # fmt: skip


def _number(text: str) -> float:
    """Seconds. Raises BadRequest."""
    try:
        seconds = float(text or 0)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < SLOWER_MAX_S:
        raise BadRequest(f"slower is a number of seconds, 0.5 say, and not {text[:SAID_MAX]!r}.")
    return seconds


def trace_id(given: str) -> str:
    """Raises NotFound for what is no id of a trace."""
    if len(given) != ID_LENGTH or not set(given) <= set("0123456789abcdef"):
        raise NotFound(f"{given[:SAID_MAX]!r} is no id of a trace: those are {ID_LENGTH} digits from 0 to f.")
    return given


def _row(view: View, each: TraceSummary) -> tuple[Child, ...]:
    what = tag("a", each.operation, href=view.link(f"/traces/{each.trace_id}"))
    return (
        ui.ago(each.at, view.now),
        join(what, " ", ui.badge(each.kind) if each.kind != "request" else None, tag("span", each.error, class_="below text-bad") if each.error else None),
        ui.duration(each.seconds),
        f"{each.spans:,}",
        why(each.why),
        each.instance or ui.muted("–"),
    )  # fmt: skip


def why(kept: str) -> Html:
    """Why a trace was kept, in its colour."""
    mood: ui.Mood = "bad" if kept == "failed" else "warn" if kept == "slow" else ""
    return ui.badge(kept, mood)


def _older(view: View, before: str) -> Html:
    return ui.older(view.here(before=before) if before else "")


# ── one trace ─────────────────────────────────────────────────────────────────────────────────────


def _summary(view: View, detail: TraceDetail, found: list[waterfall.Row]) -> Html:
    request = detail.requests[0] if detail.requests else None
    job = detail.jobs[0] if detail.jobs and request is None else None
    figures: list[Html] = []
    if request is not None:
        name = tag("a", request.operation, href=view.link(f"/operations/{segment(request.operation)}"))
        figures += [
            ui.figure(
                "Request", status(request.status), join(f"{request.method} {request.path}", tag("br"), name)
            ),
            ui.figure("Took", ui.duration(request.seconds), ui.ago(request.at, view.now)),
        ]
    elif job is not None:
        figures += [
            ui.figure("Run", job.outcome, job.handler, "bad" if job.error else ""),
            ui.figure("Took", ui.duration(job.seconds), ui.ago(job.at, view.now)),
        ]
    if found:
        whole = max(r.span.ended for r in found) - min(r.span.started for r in found)
        figures.append(
            ui.figure("Spans", f"{len(detail.spans):,}", f"{ui.duration(whole)} from first to last")
        )
        shares = waterfall.totals(found)
        most, (count, seconds) = next(iter(shares.items()))
        figures.append(
            ui.figure("Most time in", LABELS.get(most, most), f"{ui.duration(seconds)} in {count:,}")
        )
    instances = sorted({k.instance for k in detail.spans} | {r.instance for r in detail.requests} - {""})
    figures.append(ui.figure("Kept", detail.why or "summary", ", ".join(instances)))
    return ui.figures(*figures)


LABELS: Final = {
    "request": "handler", "call": "calls", "sql": "SQL", "cache": "cache", "job": "jobs", "event": "events",
    "out": "calls out", "other": "other",
}  # fmt: skip


def _failed(view: View, detail: TraceDetail) -> Html | None:
    """The error and the line that raised it."""
    traced = next((each for each in detail.logs if each.fields.get("trace")), None)
    errors = [each.error for each in detail.requests] + [each.error for each in detail.jobs]
    error = next(filter(None, (*errors, *(kept.span.error for kept in detail.spans))), "")
    if traced is None:
        return ui.card("Failed", ui.note(error, "bad")) if error else None
    text = view.assembly.telemetry.redactor.text(str(traced.fields["trace"]))
    frame = failure.failing(text)
    last = text.strip().splitlines()[-1]
    said = ui.note(error or last, "bad")
    if frame is None:
        return ui.card("Failed", said, ui.pre(text, "Traceback"))
    before, frame_text, after = failure.parts(text)
    where = join(
        tag("b", f"{failure.short(frame.file)}:{frame.line}"),
        f" in {frame.function}" if frame.function else None,
    )
    block = tag(
        "pre", before, tag("mark", frame_text.rstrip("\n")), "\n", after, tabindex=0, role="region",
        aria_label="Traceback",
    )  # fmt: skip
    opened = tag("details", tag("summary", "Traceback"), block, open=True)
    return ui.card("Failed", said, tag("p", where), tag("pre", tag("mark", frame.code or "(no source)"), aria_label="Failing line", role="region", tabindex=0), opened)  # fmt: skip


def _plan(view: View, steps: Sequence[Step]) -> Html:
    scanned = sorted({step.scans for step in steps if step.scans})
    said = f"It reads the whole of {', '.join(scanned)}." if scanned else "It reads no table whole."
    text = "\n".join(f"{'  ' * step.depth}{step.text}" for step in steps) or "Nothing to look up."
    return join(
        ui.pre(view.assembly.telemetry.redactor.text(text), "Plan"),
        tag("p", ui.badge("scan", "warn") if scanned else None, " ", said, " ", ui.muted("Planned now, with the values of another run; it was not run.")),
    )  # fmt: skip


def _waterfall(
    view: View, detail: TraceDetail, found: list[waterfall.Row], plans: Mapping[str, Html]
) -> Html:
    """``plans``: what asks for the plan of a statement, by span."""
    if not found:
        sentence = "Its spans were not kept: it was neither slow nor failed, nor in the share that is kept whatever happens."
        return ui.card("Waterfall", ui.empty(sentence))
    shares = waterfall.totals(found)
    legend = [
        tag("span", tag("i", class_=f"key {kind}"), f"{LABELS.get(kind, kind)} {ui.duration(seconds)}")
        for kind, (_, seconds) in shares.items()
    ]
    rows = [
        tag("li", _span(view, row, plans.get(row.span.span_id)), class_=f"deep-{min(row.depth, 12)}")
        for row in found
    ]
    more = len(detail.spans) - len(found)
    rest = tag("p", f"{more:,} more spans are not shown.", class_="muted") if more > 0 else None
    return ui.card(
        "Waterfall", tag("ol", rows, class_="waterfall"), rest, aside=tag("span", legend, class_="legend")
    )


def _span(view: View, row: waterfall.Row, plan: Html | None) -> Html:
    span = row.span
    said = view.assembly.telemetry.redactor.text(row.said)
    known = waterfall.details(span)
    head = tag(
        "summary",
        tag("span", _named(row, said), class_="head"),
        waterfall.bar(row),
        tag("span", ui.duration(span.ended - span.started), class_="took"),
    )
    facts: list[tuple[Child, Child]] = [("span", ui.code(span.name))]
    facts += [(key, ui.code(str(value))) for key, value in known]
    facts.append(("own time", ui.duration(row.own_s)))
    inner = [
        ui.note(span.error, "bad") if span.error else None,
        ui.pre(said, "Statement" if row.kind == "sql" else "About") if said else None,
        plan,
        ui.pairs(*facts),
    ]
    return tag("details", head, tag("div", inner, class_="inner"), class_="bad" if span.error else None)


def _named(row: waterfall.Row, said: str) -> Html:
    """What a line of the waterfall is called: statements and calls by what they are about, which tells them apart."""
    if row.kind == "sql" and said:
        return join(tag("span", "SQL", class_="kind"), tag("span", said, class_="about sql", title=said))
    if row.kind == "call" and said:
        return join(tag("span", "call", class_="kind"), tag("span", said, class_="what"))
    return join(
        tag("span", row.span.name, class_="what"), tag("span", said, class_=f"about {row.kind}", title=said)
    )


def _logs(view: View, detail: TraceDetail) -> Html | None:
    if not detail.logs:
        return None
    rows = [_log(view, each) for each in detail.logs]
    columns = (ui.Column("when"), ui.Column("level"), ui.Column("event", wide=True), ui.Column("logger"))
    return ui.card("Log", ui.table(columns, rows, nothing="", caption="Log of this trace"), flush=True)


def _log(view: View, each: LogEvent) -> tuple[Child, ...]:
    mood: ui.Mood = (
        "bad" if each.level in ("error", "critical") else "warn" if each.level == "warning" else ""
    )
    fields = ", ".join(f"{key}={value}" for key, value in each.fields.items() if key != "trace")
    below = (
        tag("span", view.assembly.telemetry.redactor.text(fields)[:400], class_="below") if fields else None
    )
    return ui.moment(each.at), ui.badge(each.level, mood), join(each.event, below), each.logger


def _jobs(view: View, detail: TraceDetail) -> Html | None:
    if not detail.jobs:
        return None
    rows = [_job(view, each) for each in detail.jobs]
    columns = (
        ui.Column("when"), ui.Column("run", wide=True), ui.Column("outcome"), ui.Column("waited", number=True),
        ui.Column("took", number=True), ui.Column("attempt", number=True),
    )  # fmt: skip
    return ui.card(
        "Jobs and deliveries", ui.table(columns, rows, nothing="", caption="Runs of this trace"), flush=True
    )


def _job(view: View, each: JobSummary) -> tuple[Child, ...]:
    mood: ui.Mood = "bad" if each.error else "good" if each.outcome == "done" else ""
    name: Child = view.a(each.handler, f"/jobs/{segment(each.job_id)}") if each.job_id else each.handler
    error = tag("span", each.error, class_="below text-bad") if each.error else None
    return (
        ui.ago(each.at, view.now), join(name, error), ui.badge(each.outcome, mood), ui.duration(each.wait_s),
        ui.duration(each.seconds), f"{each.attempt}",
    )  # fmt: skip
