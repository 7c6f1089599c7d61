"""What pages are made of, so that they look like one place: cards, tables, numbers, badges, charts.

Everything returns :class:`~tenfold.dashboard.html.Html`; moods are ``good``, ``bad``, ``warn`` and none.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final, Literal, NamedTuple

import msgspec

from tenfold.dashboard.html import EMPTY, Child, Html, join, tag

Mood = Literal["", "good", "warn", "bad"]


class Column(NamedTuple):
    """Heading of a column; ``number`` columns stand to the right, ``wide`` ones take the room that is left."""

    title: str
    number: bool = False
    wide: bool = False


# ── words and numbers ─────────────────────────────────────────────────────────────────────────────


def duration(seconds: float) -> str:
    """``340 µs``, ``12.3 ms``, ``1.25 s``, ``3.2 min``, ``1.5 h``, ``2.0 d``: three digits at most."""
    size = abs(seconds)
    if size < 1e-3:
        return f"{seconds * 1e6:.0f} µs"
    if size < 1:
        ms = seconds * 1e3
        return f"{ms:.{0 if abs(ms) >= 99.95 else 1}f} ms"
    if size < 60:
        return f"{seconds:.{1 if size >= 10 else 2}f} s"
    for unit_s, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if size >= unit_s:
            return f"{seconds / unit_s:.1f} {unit}"
    return f"{seconds:.0f} s"


def size(bytes_: float) -> str:
    """``812 B``, ``3.4 MB``: powers of 1,000."""
    for power, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if abs(bytes_) >= power:
            return f"{bytes_ / power:.1f} {unit}"
    return f"{bytes_:.0f} B"


def rate(per_s: float) -> str:
    """``0.20/s``, ``12.3/s``, ``1,240/s``; what is rarer than one in ten seconds, by the minute: ``1.8/min``."""
    if 0 < per_s < 0.1:
        return f"{per_s * 60:.{1 if per_s * 60 >= 0.1 else 2}f}/min"
    return f"{per_s:,.{2 if per_s < 1 else 1 if per_s < 100 else 0}f}/s" if per_s else "0/s"


def percent(share: float) -> str:
    """``0 %``, ``0.05 %``, ``12.3 %``, ``100 %`` of a share between 0 and 1."""
    value = share * 100
    return f"{value:.{0 if value in (0, 100) or value >= 99.95 else 1 if value >= 1 else 2}f} %"


def moment(at: float) -> Html:
    """A time of day with its date in the tooltip, UTC; the browser shows it in the reader's zone."""
    whole = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
    return tag("time", f"{whole[11:19]}", datetime=whole, title=f"{whole[:10]} {whole[11:19]} UTC")


def ago(at: float, now: float) -> Html:
    """``12 s ago``, with the time itself in the tooltip."""
    whole = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
    past = max(0.0, now - at)
    said = "now" if past < 1 else f"{past:.0f} s ago" if past < 60 else f"{duration(past)} ago"
    return tag("time", said, datetime=whole, title=f"{whole[:10]} {whole[11:19]} UTC")


# ── small things ──────────────────────────────────────────────────────────────────────────────────


def badge(text: Child, mood: Mood = "", title: str = "") -> Html:
    """A word in a coloured pill."""
    return tag("span", text, class_=f"badge {mood}".strip(), title=title or None)


def code(text: Child) -> Html:
    """Names of operations, statements and paths inside a sentence."""
    return tag("code", text)


def pre(text: str, label: str) -> Html:
    """A block of text as it is; ``label`` names it for screen readers."""
    return tag("pre", text, tabindex=0, role="region", aria_label=label)


def muted(*children: Child) -> Html:
    """Of less importance."""
    return tag("span", *children, class_="muted")


def empty(sentence: Child) -> Html:
    """What stands where there is nothing to show: why, and what would fill it."""
    return tag("p", sentence, class_="empty")


def note(sentence: Child, mood: Mood = "") -> Html:
    """A sentence that has to be read before the rest."""
    return tag("p", sentence, class_=f"note {mood}".strip(), role="note")


# ── blocks ────────────────────────────────────────────────────────────────────────────────────────


def card(title: Child, *children: Child, aside: Child = None, flush: bool = False) -> Html:
    """A section with a heading. ``aside`` stands beside the heading; ``flush`` is for tables, which have edges of their
    own."""
    head = tag("header", tag("h2", title), tag("div", aside, class_="aside") if aside else None)
    return tag(
        "section", head, tag("div", *children, class_="inner"), class_="card flush" if flush else "card"
    )


def grid(*children: Child, columns: Literal[2, 3, 4] = 2) -> Html:
    """Side by side where there is room."""
    return tag("div", *children, class_=f"grid of-{columns}")


def figure(label: str, value: Child, below: Child = None, mood: Mood = "", href: str = "") -> Html:
    """One number that matters, for :func:`figures`."""
    inner = join(tag("dt", label), tag("dd", tag("a", value, href=href) if href else value))
    return tag(
        "div", inner, tag("dd", below, class_="below") if below else None, class_=f"figure {mood}".strip()
    )


def figures(*each: Child) -> Html:
    """A row of numbers."""
    return tag("dl", *each, class_="figures")


def pairs(*rows: tuple[Child, Child]) -> Html:
    """Names and values."""
    return tag("dl", [tag("div", tag("dt", name), tag("dd", value)) for name, value in rows], class_="pairs")


def table(
    columns: Sequence[str | Column], rows: Sequence[Sequence[Child]], *, nothing: Child, caption: str = ""
) -> Html:
    """Rows under headings; without rows, the sentence ``nothing``. ``caption`` is for screen readers."""
    if not rows:
        return empty(nothing)
    of = [each if isinstance(each, Column) else Column(each) for each in columns]
    classes = ["number" if each.number else "wide" if each.wide else None for each in of]
    # On a narrow screen a row of words is a block, where the later cells say what they are; one of numbers is scrolled.
    stacks = 2 * sum(each.number for each in of) < len(of)
    labels = [each.title or None if stacks and n > 1 and not each.wide else None for n, each in enumerate(of)]
    head = [
        tag("th", each.title, scope="col", class_=class_) for each, class_ in zip(of, classes, strict=True)
    ]
    body = [
        tag(
            "tr",
            [
                tag("td", cell, class_=class_, data_label=label)
                for cell, class_, label in zip(row, classes, labels, strict=True)
            ],
        )
        for row in rows
    ]
    return tag(
        "div",
        tag(
            "table",
            tag("caption", caption, class_="unseen") if caption else None,
            tag("thead", tag("tr", head)),
            tag("tbody", body),
        ),
        class_="scroll stacks" if stacks else "scroll", tabindex=0, role="region", aria_label=caption or f"Table: {of[0].title}",
    )  # fmt: skip


def older(href: str) -> Html:
    """The link to the next page of a list; nothing where there is none."""
    return tag("p", tag("a", "Older", href=href, rel="next"), class_="older") if href else EMPTY


def tabs(label: str, *choices: tuple[str, str, bool]) -> Html:
    """Links of which one is current: text, address, and whether it is the one."""
    return tag(
        "nav",
        [tag("a", text, href=href, aria_current="true" if now else None) for text, href, now in choices],
        class_="tabs",
        aria_label=label,
    )


def field(
    label: str, name: str, value: str = "", *, type_: str = "text", hint: str = "", **more: Any
) -> Html:
    """A labelled input of a form."""
    return tag(
        "label", tag("span", label),
        tag("input", type=type_, name=name, value=value, placeholder=hint or None, autocomplete="off", **more),
        class_="field",
    )  # fmt: skip


def select(label: str, name: str, value: str, choices: Sequence[tuple[str, str]]) -> Html:
    """A labelled choice of a form: ``(value, text)``."""
    options = [tag("option", text, value=key, selected=key == value) for key, text in choices]
    return tag("label", tag("span", label), tag("select", options, name=name), class_="field")


def filters(href: str, *fields: Child, label: str = "Search") -> Html:
    """A form above a list that asks for the page again with its fields in the query."""
    send = tag("button", label, type="submit")
    return tag("form", *fields, send, class_="filters", action=href, method="get", role="search")


def meter(share: float, label: str, mood: Mood = "") -> Html:
    """A bar between empty and full. Its mood, if none is given: bad from 90 %, a warning from 70 %."""
    filled = min(1.0, max(0.0, share))
    feeling = mood or ("bad" if filled >= 0.9 else "warn" if filled >= 0.7 else "good")
    bar = tag(
        "svg",
        tag("rect", class_="track", width="100", height="6", rx="3"),
        tag("rect", class_="fill", width=f"{filled * 100:.1f}", height="6", rx="3"),
        viewBox="0 0 100 6", preserveAspectRatio="none", aria_hidden="true",
    )  # fmt: skip
    return tag("span", bar, tag("span", label), class_=f"meter {feeling}")


# ── charts ────────────────────────────────────────────────────────────────────────────────────────

Unit = Literal["", "s", "/s", "%", "B"]
GAP: Final = 3.5
"""How many steps without a point make a gap in a line."""


class Window(NamedTuple):
    """The time that a chart is of, in seconds since the epoch."""

    since: float
    until: float


class Line(NamedTuple):
    """One line of a chart: its values stand above the chart's times; None leaves a gap. ``mood`` colours it."""

    label: str
    values: Sequence[float | None]
    mood: Mood = ""
    fill: bool = False


def chart(
    label: str, window: Window, times: Sequence[float], *lines: Line, unit: Unit = "", height: int = 160
) -> Html:
    """Lines over the whole of ``window``, drawn by uPlot; ``label`` and the latest values are what screen readers get.
    Times in seconds since the epoch, values in base units (seconds, bytes, shares of 1 for ``%``). Where nothing was
    measured for a while, lines have a gap."""
    if not times:
        return empty("Nothing was measured in this time.")
    rows = list(zip(times, *(line.values for line in lines), strict=True))
    at, *values = zip(*_with_gaps(rows), strict=True)
    data = {
        "unit": unit,
        "height": height,
        "window": [round(each, 3) for each in window],
        "lines": [[line.label, line.mood, line.fill] for line in lines],
        "data": [[round(each, 3) for each in at], *([_short(v) for v in each] for each in values)],
    }
    latest = ", ".join(f"{line.label} {_latest(line.values, unit)}" for line in lines)
    return tag(
        "tenfold-chart", role="img", aria_label=f"{label}: {latest}", data=msgspec.json.encode(data).decode()
    )


def _with_gaps(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Rows of times and values with an empty one where more than two are missing: a process that was away leaves a gap,
    where a line would claim what nobody has measured."""
    steps = sorted(after[0] - before[0] for before, after in pairwise(rows))
    usual = steps[len(steps) // 2] if steps else 0.0
    found = rows[:1]
    for before, after in pairwise(rows):
        if after[0] - before[0] > GAP * usual:
            found.append((before[0] + usual, *(None for _ in before[1:])))
        found.append(after)
    return found


def _short(value: float | None) -> float | None:
    """Five digits are more than a screen can show."""
    return None if value is None else float(f"{value:.5g}")


def shown(value: float, unit: Unit) -> str:
    """A value with its unit."""
    match unit:
        case "s":
            return duration(value)
        case "B":
            return size(value)
        case "/s":
            return rate(value)
        case "%":
            return percent(value)
        case _:
            return f"{value:,.5g}"


def _latest(values: Sequence[float | None], unit: Unit) -> str:
    last = next((value for value in reversed(values) if value is not None), None)
    return "none" if last is None else shown(last, unit)
