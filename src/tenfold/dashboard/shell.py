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
    heading = view.page.heading(view)
    about = view.page.about
    main = tag(
        "main",
        tag(
            "header",
            tag("div", tag("h1", heading), tag("p", about) if about else None),
            _windows(view) if view.page.windowed else None,
            class_="title",
        ),
        body,
        id="main",
        tabindex=-1,
    )
    return around(
        f"{heading} · {view.app.name}", view.root, join(_bar(view), _navigation(view, pages), main), theme
    )


def around(title: str, root: str, body: Html, theme: str = "") -> Html:
    """The document of a page with a body of its own."""
    head = join(
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="htmx-config", content=_HTMX),
        tag("title", title),
        tag("link", rel="icon", href=static.address(root, "icon.svg")),
        tag("link", rel="stylesheet", href=static.address(root, "dashboard.css")),
        *(tag("script", src=static.address(root, name), defer=True) for name in static.SCRIPTS),
    )
    page = tag(
        "html", tag("head", head), tag("body", body, hx_ext="morph"), lang="en", data_theme=theme or None
    )
    return join(raw("<!doctype html>"), page)


def _bar(view: View) -> Html:
    return tag("a", "Skip to the page", href="#main", class_="skip")


def _navigation(view: View, pages: Sequence[Page]) -> Html:
    current = view.page.parent or view.page.path
    sections: list[Html] = []
    for group in GROUPS:
        shown = [page for page in pages if page.group == group and page.present()]
        links = [
            tag(
                "a",
                each.title,
                href=view.link(each.path),
                aria_current="page" if each.path == current else None,
            )
            for each in shown
        ]
        if links:
            sections.append(tag("section", tag("h2", group), tag("ul", [tag("li", each) for each in links])))
    return tag("nav", sections, id="pages", aria_label="Pages")


def _windows(view: View) -> Html:
    links = [
        tag("a", name, href=view.here(window=name), aria_current="true" if name == view.window else None)
        for name in WINDOWS
    ]
    return tag("nav", links, class_="tabs", aria_label="Time")
