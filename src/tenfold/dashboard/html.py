"""HTML as values: what is text is escaped, what is HTML already says so by its type.

The dashboard has no templates. A page is typed Python, checked like everything else, and there is one rule to know: a
``str`` is text and gets escaped wherever it lands; only :class:`Html` goes out as it is, and only :func:`tag`,
:func:`join` and :func:`raw` make it.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Final, Union

VOID: Final = frozenset({"area", "br", "col", "hr", "img", "input", "link", "meta", "wbr"})
"""Elements that have no content and no end tag."""


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


Child = Union["str", "int", "float", "Html", None, "Iterable[Child]"]
"""What may stand in an element: text, numbers (with thousands separated), HTML, nothing, or several of these."""
Attribute = str | int | float | bool | None

EMPTY: Final = Html("")


def join(*children: Child, between: str = "") -> Html:
    """Children one after the other; ``between`` is text."""
    return Html(escape(between).join(text for child in children for text in _texts(child)))


def raw(markup: str) -> Html:
    """``markup`` as HTML: for constants and for what was escaped by hand."""
    return Html(markup)


def tag(name: str, /, *children: Child, **attributes: Attribute) -> Html:
    """An element: ``tag("a", "Jobs", href="/jobs", class_="link", aria_current="page")``.

    Of the names of attributes, a trailing underscore goes and others become hyphens. ``True`` stands for an attribute
    without a value, ``None`` and ``False`` for none.
    """
    opened = f"<{name}{_attributes(attributes)}>"
    if name in VOID:
        return Html(opened)
    return Html(f"{opened}{join(*children)}</{name}>")


def _attributes(attributes: dict[str, Attribute]) -> str:
    found: list[str] = []
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        name = key.rstrip("_").replace("_", "-")
        found.append(f" {name}" if value is True else f' {name}="{escape(str(value))}"')
    return "".join(found)


def _texts(child: Child) -> Iterable[str]:
    if child is None:
        return
    if isinstance(child, Html):
        if child:
            yield child
    elif isinstance(child, str):
        yield escape(child)
    elif isinstance(child, (int, float)):
        yield f"{child:,}"
    else:
        for each in child:
            yield from _texts(each)
