"""What stands around every page: head, navigation, bar. No script in the page, no foreign origin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from tenfold.dashboard import static
from tenfold.dashboard.html import Html, join, raw, tag
from tenfold.dashboard.page import GROUPS
from tenfold.dashboard.view import WINDOWS

if TYPE_CHECKING:
    from tenfold.dashboard.page import Page
    from tenfold.dashboard.view import View

CSP: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HTMX: Final = (
    '{"allowEval":false,"allowScriptTags":false,"includeIndicatorStyles":false,"selfRequestsOnly":true}'
)


def document(view: View, pages: Sequence[Page], body: Html, *, theme: str = "") -> Html:
    """The whole page around ``body``."""
    page = view.page
    heading = page.heading(view)
    up = next((each for each in pages if each.path == page.parent), None)
    title = tag(
        "div",
        tag("a", f"← {up.title}", href=view.link(up.path), class_="crumb") if up is not None else None,
        tag("h1", heading),
        tag("p", page.about) if page.about else None,
    )
    head = tag("header", title, _windows(view) if page.windowed else None, class_="title")
    main = tag("main", head, body, id="main", tabindex=-1)
    shown = join(_side(view, pages, theme), main, _messages(), _keys(view, pages))
    return around(f"{heading} · {view.app.name}", view.root, shown, theme)


def around(title: str, root: str, body: Html, theme: str = "") -> Html:
    """The document of a page with a body of its own."""
    head = join(
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="htmx-config", content=_HTMX),
        tag("title", title),
        tag("link", rel="icon", href=static.address(root, "icon.svg")),
        *(tag("link", rel="stylesheet", href=static.address(root, name)) for name in static.STYLES),
        *(tag("script", src=static.address(root, name), defer=True) for name in static.SCRIPTS),
    )
    skip = tag("a", "Skip to the page", href="#main", class_="skip")
    shown = tag("body", skip, body, hx_ext="morph", data_root=root or None)
    return join(
        raw("<!doctype html>"), tag("html", tag("head", head), shown, lang="en", data_theme=theme or None)
    )


def _side(view: View, pages: Sequence[Page], theme: str) -> Html:
    app = view.app
    name = tag("span", app.name, tag("small", app.settings.app.env))
    brand = tag(
        "a",
        tag("img", src=static.address(view.root, "icon.svg"), alt=""),
        name,
        href=view.link("/"),
        class_="brand",
    )
    menu = tag("button", "Pages", type="button", id="menu", aria_expanded="false", aria_controls="pages")
    return tag(
        "div",
        tag("div", brand, menu, class_="top"),
        _navigation(view, pages),
        _footer(view, theme),
        id="side",
    )


def _navigation(view: View, pages: Sequence[Page]) -> Html:
    current = view.page.parent or view.page.path
    sections: list[Html] = []
    for group in GROUPS:
        links = [
            tag(
                "a", each.title, href=view.link(each.path), data_key=each.key or None,
                aria_current="page" if each.path == current else None,
            )
            for each in pages
            if each.group == group and each.present()
        ]  # fmt: skip
        if links:
            sections.append(tag("section", tag("h2", group), tag("ul", [tag("li", each) for each in links])))
    return tag("nav", sections, id="pages", aria_label="Pages")


def _footer(view: View, theme: str) -> Html:
    visitor = view.visitor
    return tag(
        "footer",
        tag("p", visitor.name, " · ", "operates" if visitor.operates else "reads"),
        _sign_out(view) if visitor.signed_in else None,
        tag(
            "div",
            tag(
                "button",
                "Pause",
                type="button",
                id="pause",
                aria_pressed="false",
                title="Stop live updates (p)",
            ),
            tag("button", f"Theme: {theme or 'system'}", type="button", id="theme"),
            tag("button", "Keys", type="button", id="help", title="Keyboard shortcuts (?)"),
            class_="switches",
        ),
    )


def _sign_out(view: View) -> Html:
    out = tag("button", "Sign out", type="submit")
    return tag("form", out, method="post", action=f"{view.root}/sign-out", class_="switches")


def _messages() -> Html:
    """Where actions say what they did; read out by screen readers."""
    return tag("div", id="said", role="status", aria_live="polite")


def _keys(view: View, pages: Sequence[Page]) -> Html:
    going = [("g " + each.key, each.title) for each in pages if each.key and each.group and each.present()]
    rows = [("/", "Search on this page"), ("p", "Pause and resume live updates"), ("?", "This list"), *going]
    listed = [
        tag("div", tag("dt", [tag("kbd", key) for key in keys.split()]), tag("dd", what))
        for keys, what in rows
    ]
    close = tag("form", tag("button", "Close", type="submit"), method="dialog")
    return tag(
        "dialog",
        tag("h2", "Keyboard", id="keys-title"), tag("dl", listed, class_="pairs"), close,
        id="keys", aria_labelledby="keys-title",
    )  # fmt: skip


def _windows(view: View) -> Html:
    links = [
        tag("a", name, href=view.here(window=name), aria_current="true" if name == view.window else None)
        for name in WINDOWS
    ]
    return tag("nav", links, class_="tabs", aria_label="Time")
