"""What the app is made of, and what flows between its parts."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from tenfold._core.text import nearest, plural
from tenfold.dashboard import diagram, ui
from tenfold.dashboard.architecture import (
    BROKER,
    CACHE,
    DATABASE,
    METRICS,
    Connection,
    Measured,
    connections,
    named,
    picture,
)
from tenfold.dashboard.html import Child, Html, join, tag
from tenfold.dashboard.numbers import OPERATION_COLUMNS, operation_row
from tenfold.dashboard.page import Page, live
from tenfold.dashboard.view import View, segment
from tenfold.errors import NotFound

if TYPE_CHECKING:
    from tenfold.service import Service

NOW_S: Final = 60.0


async def measured(view: View) -> Measured:
    """What was measured in the last minute, of all instances."""
    since = view.now - NOW_S
    found = await asyncio.gather(*(view.records.series(n, since=since, by=by) for n, by in METRICS.items()))
    return Measured(NOW_S, dict(zip(METRICS, found, strict=True)))


class Services(Page):
    path = "/services"
    title = "Services"
    about = "The app as its code declares it, with what flowed in the last minute."
    group = "Now"
    key = "s"

    async def body(self, view: View) -> Html:
        return join(await view.live(self.architecture), self._catalogue(view))

    @live(every_s=3)
    async def architecture(self, view: View) -> Html:
        now = await measured(view)
        found = connections(view.app, now)
        links = {service.name: _href(view, service.name) for service in view.app.everywhere}
        links |= {DATABASE: view.link("/database"), CACHE: view.link("/cache"), BROKER: view.link("/events")}
        boxes, arrows = picture(view.app, found, links, now)
        drawn = diagram.svg(
            boxes, arrows, f"Architecture of {view.app.name}", ("Outside", "Services", "Stores and others")
        )
        listed = tag(
            "details",
            tag("summary", f"All {plural(len(found), 'connection')} as a table"),
            connection_table(view, found),
        )
        return ui.card("Architecture", drawn, listed)

    def _catalogue(self, view: View) -> Html:
        rows = [_row(view, service) for service in view.app.everywhere]
        columns = ("service", "operations", "background work", "publishes", "keeps", "calls out", "runs")
        return ui.card("Catalogue", ui.table(columns, rows, nothing="The app has no services."), flush=True)


class OneService(Page):
    path = "/services/{name}"
    title = "Service"
    parent = "/services"
    windowed = True

    def heading(self, view: View) -> str:
        return view.params["name"]

    async def body(self, view: View) -> Html:
        service = self._service(view)
        return join(
            await view.live(self.operations), await view.live(self.connections), _declared(view, service)
        )

    @live(every_s=5)
    async def operations(self, view: View) -> Html:
        own = {operation.name for operation in self._service(view).operations}
        found = [each for each in await view.records.operations(since=view.since) if each.operation in own]
        rows = [operation_row(view, each) for each in found]
        quiet = own - {each.operation for each in found}
        listed = ui.table(
            OPERATION_COLUMNS, rows, nothing="None of its operations was asked for in this time."
        )
        others = join(*(_operation(view, name) for name in sorted(quiet)), between=", ")
        below = tag("p", ui.muted("Not asked for: "), others) if quiet and rows else others if quiet else None
        return ui.card("Operations", listed, below, flush=True)

    @live(every_s=3)
    async def connections(self, view: View) -> Html:
        name = self._service(view).name
        found = [c for c in connections(view.app, await measured(view)) if name in (c.source, c.target)]
        return ui.card("Connections, in the last minute", connection_table(view, found), flush=True)

    @staticmethod
    def _service(view: View) -> Service:
        name = view.params["name"]
        found = next((each for each in view.app.everywhere if each.name == name), None)
        if found is None:
            known = [each.name for each in view.app.everywhere]
            raise NotFound(f"There is no service {name!r}.{nearest(name, known)}")
        return found


def connection_table(view: View, found: list[Connection]) -> Html:
    """Connections as rows: what the picture shows, for reading."""
    rows: list[tuple[Child, ...]] = [
        (
            _end(view, each.source),
            _end(view, each.target),
            join(each.kind, tag("span", _few(each.names), class_="below")),
            ui.rate(each.flow.per_s) if each.flow.per_s else ui.muted("–"),
            ui.duration(each.flow.seconds) if each.flow.seconds is not None else ui.muted("–"),
            ui.badge(ui.percent(each.flow.failed), "bad") if each.flow.failed else ui.muted("0 %"),
            _saturation(each),
        )
        for each in found
    ]
    columns = (
        ui.Column("from"), ui.Column("to"), ui.Column("what", wide=True), ui.Column("rate", number=True),
        ui.Column("latency", number=True), ui.Column("failed", number=True), ui.Column("saturation"),
    )  # fmt: skip
    return ui.table(columns, rows, nothing="It is connected to nothing.", caption="Connections")


def _saturation(each: Connection) -> Child:
    if each.flow.full is not None:
        return ui.meter(each.flow.full, ui.percent(each.flow.full))
    return each.flow.note or ui.muted("–")


def _end(view: View, name: str) -> Child:
    settings = view.app.settings
    match name:
        case "clients":
            return "clients"
        case "database":
            return view.a(named(settings.database.url), "/database")
        case "cache":
            return view.a(f"{named(settings.cache.url)} cache", "/cache")
        case "broker":
            return view.a(named(settings.events.url), "/events")
        case _ if name.startswith("out:"):
            return name.removeprefix("out:")
        case _:
            return tag("a", name, href=_href(view, name))


def _href(view: View, service: str) -> str:
    return view.link(f"/services/{segment(service)}")


def _few(names: tuple[str, ...], most: int = 4) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _row(view: View, service: Service) -> tuple[Child, ...]:
    work = (
        (len(service.jobs), "job"), (len(service.subscriptions), "subscriber"), (len(service.schedules), "schedule"),
        (len(service.projections), "projection"),
    )  # fmt: skip
    keeps = (
        (len(service.databases), "database"), (len(service.caches), "cache"), (len(service.aggregates), "aggregate"),
    )  # fmt: skip
    away = service in view.app.elsewhere
    return (
        tag("a", service.name, href=_href(view, service.name)),
        f"{len(service.operations):,}",
        _counts(work),
        _few(tuple(topic.name for topic in service.topics)) or ui.muted("–"),
        _counts(keeps),
        _few(tuple(client.name for client in service.clients)) or ui.muted("–"),
        ui.badge("elsewhere") if away else ui.badge("here", "good"),
    )


def _counts(of: tuple[tuple[int, str], ...]) -> Child:
    said = ", ".join(
        f"{count} {noun}{'' if count == 1 else 'es' if noun.endswith('s') else 's'}"
        for count, noun in of
        if count
    )
    return said or ui.muted("–")


def _operation(view: View, name: str) -> Html:
    return view.a(name, f"/operations/{segment(name)}")


def _declared(view: View, service: Service) -> Html:
    rows: list[tuple[Child, Child]] = [
        ("Jobs", [join(view.a(j.name, "/jobs", handler=j.name), " ") for j in service.jobs]),
        ("Subscribers", [join(s.name, ui.muted(f" of {s.topic.name}"), tag("br")) for s in service.subscriptions]),
        ("Schedules", [join(view.a(s.name, "/schedules"), " ") for s in service.schedules]),
        ("Topics", [join(view.a(t.name, "/events"), " ") for t in service.topics]),
        ("Caches", [join(view.a(c.name, "/cache"), " ") for c in service.caches]),
        ("Databases", [join(view.a(d.name, "/database"), " ") for d in service.databases]),
        ("Calls out", [join(c.name, ui.muted(f" {c.url}" if c.url else " any host"), tag("br")) for c in service.clients]),
        ("Mounted", [join(mount.path, " ") for mount in service.mounts]),
    ]  # fmt: skip
    shown = [(name, value) for name, value in rows if value]
    shown.append(("Code", ui.code(str(service.home))))
    return ui.card("Declared", ui.pairs(*shown))
