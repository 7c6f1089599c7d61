"""What a page knows of the request it answers, and the links, live parts and buttons it makes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode

import msgspec

from tenfold.dashboard.html import Attribute, Child, Html, tag
from tenfold.dashboard.ui import Window
from tenfold.errors import BadRequest, InvalidInput
from tenfold.telemetry.ops_access import Visitor

if TYPE_CHECKING:
    from tenfold.app import App
    from tenfold.assembly.assembly import Assembly
    from tenfold.dashboard.page import Act, Action, Live, Page, Part
    from tenfold.telemetry.store.reader import Records

WINDOWS: Final = {"15m": 900.0, "1h": 3600.0, "6h": 21_600.0, "24h": 86_400.0, "7d": 604_800.0}
"""Spans of time that pages can be asked for, in seconds."""
DEFAULT_WINDOW: Final = "15m"
MARKS: Final = ("before", "from")
"""Members of the query that say where a list goes on."""
SAID_MAX: Final = 60
"""Characters of what was asked for that a sentence repeats."""


class View:
    """One request for one page."""

    def __init__(
        self,
        app: App,
        page: Page,
        visitor: Visitor,
        *,
        root: str = "",
        path: str = "",
        params: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
    ) -> None:
        self.app, self.page, self.visitor = app, page, visitor
        self.root, self.path = root, path or page.path
        self.params, self.query, self.form = params or {}, query or {}, form or {}
        """Segments of the path, the query string, and what an action was sent."""

    # ── where things are ──

    @property
    def assembly(self) -> Assembly:
        """The running parts of the app."""
        return self.app.assembly

    @property
    def records(self) -> Records:
        """What the telemetry store remembers, of all instances."""
        return self.assembly.telemetry.records

    # ── time ──

    @property
    def now(self) -> float:
        """Seconds since the epoch."""
        return self.app.clock.now()

    @property
    def window(self) -> str:
        """The chosen span of time: a key of :data:`WINDOWS`."""
        asked = self.query.get("window", DEFAULT_WINDOW)
        return asked if asked in WINDOWS else DEFAULT_WINDOW

    @property
    def since(self) -> float:
        """Where the chosen span of time begins, in seconds since the epoch."""
        return self.now - WINDOWS[self.window]

    @property
    def time(self) -> Window:
        """The chosen span of time, as charts have it."""
        return Window(self.since, self.now)

    def check(self) -> None:
        """Raises BadRequest, with a sentence, for a query that the page cannot mean: nothing is shown instead of what was
        asked for."""
        for name, known in {"window": WINDOWS, **self.page.choices}.items():
            given = self.query.get(name, "")
            if given and given not in known:
                raise BadRequest(
                    f"{name} is one of {', '.join(filter(None, known))}, and not {given[:SAID_MAX]!r}."
                )
        for name in MARKS:
            given = self.query.get(name, "")
            if given and not (given.isascii() and given.isdigit() and len(given) < 20):
                raise BadRequest(
                    f"{given[:SAID_MAX]!r} is no place in a list: {name} is a number, as its links have it."
                )

    # ── what a page makes ──

    def link(self, path: str, **query: str | int | None) -> str:
        """The address of a page of the dashboard: ``view.link("/traces", operation=name)``. The chosen window stays."""
        given = {key: str(value) for key, value in query.items() if value not in (None, "")}
        if self.window != DEFAULT_WINDOW:
            given.setdefault("window", self.window)
        return f"{self.root}{path}" + (f"?{urlencode(given)}" if given else "")

    def here(self, **query: str | int | None) -> str:
        """The address of this page with its query changed; None takes a member out."""
        return self.link(self.path, **{**self.query, "part": None, **query})

    def a(self, text: Child, path: str, **query: str | int | None) -> Html:
        """A link to a page of the dashboard."""
        return tag("a", text, href=self.link(path, **query))

    async def live(self, part: Part) -> Html:
        """A part of this page (a method marked with :func:`~tenfold.dashboard.page.live`), kept up to date."""
        name: str = part.__name__
        said: Live = self.page.parts[name]
        return tag(
            "div",
            await part(self),
            class_="live",
            id=f"part-{name}",
            hx_get=self.here(part=name),
            hx_trigger=f"every {said.every_s:g}s, acted from:body",
            hx_swap="morph:innerHTML",
        )

    def ask(self, part: Part, label: str, **query: str) -> Html:
        """The button of a part that is marked with :func:`~tenfold.dashboard.page.asked`; the part takes its place."""
        name: str = part.__name__
        button = tag(
            "button", label, type="button", hx_get=self.here(part=name, **query), hx_target="closest .asked",
            hx_swap="innerHTML",
        )  # fmt: skip
        return tag("div", button, class_="asked", aria_live="polite")

    def button(self, act: Act, label: str = "", **fields: str | int) -> Html:
        """The button of an action (a method marked with :func:`~tenfold.dashboard.page.action`) with what it is sent.
        Visitors who only read see it switched off."""
        name: str = act.__name__
        said: Action = self.page.actions[name]
        more: dict[str, Attribute] = {} if self.visitor.operates else {"disabled": True, "title": READERS}
        return tag(
            "button",
            label or said.label,
            type="button",
            class_="danger" if said.danger else None,
            hx_post=self.here(action=name),
            hx_vals=msgspec.json.encode({key: str(value) for key, value in fields.items()}).decode(),
            hx_confirm=said.confirm.format(**fields) or None,
            hx_swap="none",
            **more,
        )

    def form_of(self, act: Act, *children: Child, label: str = "") -> Html:
        """A form that sends its fields to an action."""
        name: str = act.__name__
        said: Action = self.page.actions[name]
        more: dict[str, Attribute] = {} if self.visitor.operates else {"disabled": True, "title": READERS}
        send = tag("button", label or said.label, type="submit", class_="primary", **more)
        return tag(
            "form", *children, send, class_="rows",
            hx_post=self.here(action=name), hx_confirm=said.confirm or None,
            hx_swap="innerHTML" if said.into else "none", hx_target=f"#{said.into}" if said.into else None,
        )  # fmt: skip

    def field(self, name: str) -> str:
        """What an action was sent. Raises InvalidInput for a field that is missing or empty."""
        value = self.form.get(name, "").strip()
        if not value:
            raise InvalidInput(f"The field {name} is missing.")
        return value


READERS: Final = "You may read here, not operate."


def segment(text: str) -> str:
    """``text`` as one segment of a path."""
    return quote(text, safe="")


def decode(form: bytes) -> dict[str, Any]:
    """The fields of an action's body."""
    from urllib.parse import parse_qsl

    return dict(parse_qsl(form.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=1000))
