"""Every operation with its numbers; and one of them, with its policies and a form that sends it real requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from tenfold._core.text import nearest
from tenfold.dashboard import explorer, ui
from tenfold.dashboard.html import Child, Html, join, tag
from tenfold.dashboard.numbers import OPERATION_COLUMNS, latency_lines, operation_row, step_of, whole_of
from tenfold.dashboard.page import Page, action, live
from tenfold.dashboard.view import View, segment
from tenfold.errors import NotFound
from tenfold.telemetry.store.records import OperationSummary, RequestFilter, RequestSummary, TraceFilter

if TYPE_CHECKING:
    from tenfold.http.operation import Operation
    from tenfold.http.overview import OperationRow

RECENT: Final = 12


class Operations(Page):
    path = "/operations"
    title = "Operations"
    about = "What clients and services may ask for, the busiest first."
    group = "Traffic"
    key = "p"
    windowed = True

    async def body(self, view: View) -> Html:
        form = ui.filters(
            view.here(),
            ui.field("Name or route", "text", view.query.get("text", ""), type_="search", hint="orders"),
            tag("input", type="hidden", name="window", value=view.window),
        )
        return join(form, await view.live(self.listed))

    @live(every_s=5)
    async def listed(self, view: View) -> Html:
        found = {each.operation: each for each in await view.records.operations(since=view.since)}
        declared = [*view.app.operations]
        text = view.query.get("text", "").lower()
        every = [found.get(o.name) or OperationSummary(o.name, o.method, o.path) for o in declared]
        known = {o.name for o in declared}
        every += [each for name, each in found.items() if name not in known]  # of services elsewhere
        shown = [e for e in every if text in e.operation.lower() or text in e.route.lower()]
        shown.sort(key=lambda each: (-each.requests, each.operation))
        nothing = (
            f"No operation has {text!r} in its name or route." if text else "The app declares no operations."
        )
        rows = [operation_row(view, each) for each in shown]
        return ui.card(
            f"{len(shown):,} operations", ui.table(OPERATION_COLUMNS, rows, nothing=nothing), flush=True
        )


class OneOperation(Page):
    path = "/operations/{name}"
    title = "Operation"
    parent = "/operations"
    windowed = True

    def heading(self, view: View) -> str:
        return view.params["name"]

    async def body(self, view: View) -> Html:
        operation = _operation(view)
        return join(
            await view.live(self.numbers),
            await view.live(self.charts),
            ui.grid(_policies(view, operation), self._explorer(view, operation)),
            await view.live(self.recent),
        )

    @live(every_s=3)
    async def numbers(self, view: View) -> Html:
        operation = _operation(view)
        whole = await whole_of(view, view.since, operation.name)
        share = whole.errors / whole.requests if whole.requests else 0.0
        some = bool(whole.requests)
        return ui.figures(
            ui.figure("Requests", f"{whole.requests:,.0f}", f"in {view.window}"),
            ui.figure("Errors", ui.percent(share) if some else "–", f"{whole.errors:,.0f} failed", "bad" if whole.errors else ""),
            ui.figure("Refused", f"{whole.refused:,.0f}", "answered with 4xx"),
            ui.figure("p50", ui.duration(whole.p50) if some else "–"),
            ui.figure("p95", ui.duration(whole.p95) if some else "–"),
            ui.figure("p99", ui.duration(whole.p99) if some else "–"),
        )  # fmt: skip

    @live(every_s=5)
    async def charts(self, view: View) -> Html:
        points = await view.records.latency(_operation(view).name, since=view.since)
        times = [point.at for point in points]
        step = step_of(times, view)
        requests = ui.Line("requests", [p.requests / step for p in points], fill=True)
        errors = ui.Line("errors", [p.errors / step for p in points], "bad")
        return ui.grid(
            ui.card(
                "Traffic", ui.chart("Requests per second", view.time, times, requests, errors, unit="/s")
            ),
            ui.card("Latency", ui.chart("Latency", view.time, times, *latency_lines(points), unit="s")),
        )

    @live(every_s=5)
    async def recent(self, view: View) -> Html:
        name = _operation(view).name
        kept = await view.records.requests(RequestFilter(operation=name, since=view.since), limit=RECENT)
        traced = await view.records.traces(TraceFilter(operation=name, since=view.since), limit=200)
        with_spans = {each.trace_id for each in traced.items}
        aside = view.a("Its traces", "/traces", operation=name)
        return ui.card("Requests", request_table(view, kept.items, with_spans), aside=aside, flush=True)

    @action("Send", private=("headers", "body"), into="answer")
    async def send(self, view: View) -> Html:
        operation = _operation(view)
        if not operation.routed:
            raise NotFound("Only other services may call it: it has no route.")
        given = {key[2:]: value for key, value in view.form.items() if key[:2] == "p."}
        query = [(key[2:], value) for key, value in view.form.items() if key[:2] == "q." and value]
        body = view.form.get("body", "").strip().encode()
        headers = explorer.headers_of(view.form.get("headers", ""))
        if body and not any(name.lower() == "content-type" for name, _ in headers):
            headers.append(("content-type", "application/json"))
        path = explorer.filled(operation.path, given)
        sent = await explorer.send(view.app, operation.method, path, query=query, headers=headers, body=body)
        return _answer(view, sent)

    def _explorer(self, view: View, operation: Operation[..., Any]) -> Html:
        if not operation.routed:
            return ui.card("Try it", ui.empty("It has no route: only other services of the app may call it."))
        document = view.app.openapi()
        said = explorer.described(document, operation.method, operation.path)
        parameters = explorer.parameters(said, operation.path)
        fields = [
            ui.field(
                f"{each.name}{'' if each.required else ' (optional)'}", f"{each.where[0]}.{each.name}", each.sample,
                required=each.where == "path", title=each.about or None,
            )
            for each in parameters
        ]  # fmt: skip
        body = explorer.sample_body(document, said)
        public = "Authorization: Bearer …" if _needs_caller(view, operation.name) else ""
        form = view.form_of(
            self.send,
            tag("div", fields, class_="fields") if fields else None,
            _area("Body, JSON", "body", body, 10) if body is not None else None,
            _area("Headers, one a line", "headers", "", 2, public),
        )
        about = "A real request to this process: it is authenticated, limited, counted and traced, and changes what it changes."
        return ui.card("Try it", ui.muted(about), form, tag("div", id="answer", aria_live="polite"))


def request_table(view: View, found: list[RequestSummary], with_spans: set[str]) -> Html:
    """Requests; those whose spans were kept say so."""
    rows: list[tuple[Child, ...]] = [
        (
            ui.ago(each.at, view.now),
            join(
                f"{each.method} ",
                tag("a", each.path, href=view.link(f"/traces/{each.trace_id}")) if each.trace_id else each.path,
                " ",
                ui.badge("spans", title="Its spans were kept") if each.trace_id in with_spans else None,
            ),
            status(each.status),
            ui.duration(each.seconds),
            each.error or ui.muted("–"),
            each.tenant or ui.muted("–"),
            each.instance or ui.muted("–"),
        )
        for each in found
    ]  # fmt: skip
    columns = (
        ui.Column("when"), ui.Column("request", wide=True), ui.Column("status"), ui.Column("took", number=True),
        ui.Column("error"), ui.Column("tenant"), ui.Column("instance"),
    )  # fmt: skip
    return ui.table(columns, rows, nothing="No request was kept in this time.", caption="Requests")


def status(code: int) -> Html:
    """A status code in its colour."""
    return ui.badge(str(code), "bad" if code >= 500 else "warn" if code >= 400 else "good")


def _operation(view: View) -> Operation[..., Any]:
    name = view.params["name"]
    every = [operation for service in view.app.everywhere for operation in service.operations]
    found = next((each for each in every if each.name == name), None)
    if found is None:
        raise NotFound(f"There is no operation {name!r}.{nearest(name, [each.name for each in every])}")
    return found


def _row(view: View, name: str) -> OperationRow | None:
    return next((each for each in view.assembly.policies.read().operations if each.operation == name), None)


def _needs_caller(view: View, name: str) -> bool:
    row = _row(view, name)
    return row is not None and any(p.name == "auth" and p.value != "public" for p in row.policies)


def _policies(view: View, operation: Operation[..., Any]) -> Html:
    row = _row(view, operation.name)
    rows: list[tuple[Child, ...]] = [
        (ui.code(each.name), each.shown, ui.badge("changed", "warn") if each.source == "override" else ui.muted(each.source))
        for each in (row.policies if row is not None else ())
    ]  # fmt: skip
    listed = ui.table(("policy", "value", "said by"), rows, nothing="It is served by other processes.")
    route = f"{operation.method} {operation.path}" if operation.routed else "no route: other services only"
    facts = ui.pairs(
        ("Route", ui.code(route)),
        ("Service", view.a(operation.service, f"/services/{segment(operation.service)}")),
        ("Code", ui.code(operation.where)),
        *([("Says", operation.__doc__.strip().partition("\n")[0])] if operation.__doc__ else []),
    )
    return ui.card("Policies", facts, listed, aside=view.a("Change", "/policies"))


def _area(label: str, name: str, value: str, rows: int, hint: str = "") -> Html:
    area = tag("textarea", value, name=name, rows=rows, spellcheck="false", placeholder=hint or None)
    return tag("label", tag("span", label), area, class_="field whole")


def _answer(view: View, sent: explorer.Sent) -> Html:
    facts = join(
        status(sent.status), f" in {ui.duration(sent.seconds)}, {ui.size(sent.size)}. ",
        view.a("Its trace", f"/traces/{sent.trace_id}"),
    )  # fmt: skip
    headers = "\n".join(f"{name}: {value}" for name, value in sent.headers)
    shown = tag(
        "details", tag("summary", f"{len(sent.headers)} headers"), ui.pre(headers, "Headers of the answer")
    )
    return tag(
        "div",
        tag("p", facts, role="status"),
        ui.pre(_laid_out(sent.body), "Body of the answer"),
        shown,
        class_="stack",
    )


def _laid_out(body: str) -> str:
    try:
        return msgspec.json.format(body, indent=2) or "(empty)"
    except (msgspec.DecodeError, UnicodeEncodeError):
        return body or "(empty)"
