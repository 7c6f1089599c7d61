"""The spans of a trace in the order they ran, each below who started it. Pure: spans in, rows and SVG out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from tenfold.dashboard.html import Html, tag
from tenfold.telemetry.contract import Span

ROWS_MAX: Final = 300
"""Spans that one page shows."""
WIDTH: Final = 1000.0
"""Of a bar's picture; it is stretched to the room there is."""
LEAST: Final = 2.5
"""How wide the shortest bar is, so that it can be seen."""
_KINDS: Final = (
    ("http.client", "out"), ("http.server", "request"), ("rpc", "call"), ("db", "sql"), ("cache", "cache"),
    ("queue", "job"), ("job", "job"), ("event", "event"), ("schedule", "job"), ("mail", "out"),
)  # fmt: skip
_SAID: Final = (
    "db.query.text", "db.statement", "url.full", "url", "operation", "http.route", "route", "cache", "handler", "topic",
)  # fmt: skip
"""Attributes that say what a span is about, the best first."""


class Row(NamedTuple):
    """One span in its place. ``start`` and ``length`` are shares of the whole time."""

    span: Span
    depth: int
    start: float
    length: float
    own_s: float
    """Time in which none of its children ran."""

    @property
    def kind(self) -> str:
        """``request``, ``call``, ``sql``, ``cache``, ``job``, ``event``, ``out`` or ``other``."""
        return kind_of(self.span)

    @property
    def said(self) -> str:
        """What it is about."""
        return next((str(self.span.attributes[key]) for key in _SAID if self.span.attributes.get(key)), "")


def kind_of(span: Span) -> str:
    """What sort of work a span is, by its name."""
    named = next((kind for prefix, kind in _KINDS if span.name.startswith(prefix)), "")
    if named:
        return named
    return "request" if span.kind == "server" else "out" if span.kind == "client" else "other"


def rows(spans: Sequence[Span]) -> list[Row]:
    """Every span below its parent, siblings in the order they began. Spans whose parent is not there stand at the left.
    Clocks of several machines may disagree: a bar never leaves the picture."""
    if not spans:
        return []
    first = min(span.started for span in spans)
    whole = max(max(span.ended for span in spans) - first, 1e-9)
    known = {span.span_id for span in spans}
    children: dict[str, list[Span]] = defaultdict(list)
    for span in sorted(spans, key=lambda each: each.started):
        children[span.parent_id if span.parent_id in known else ""].append(span)
    found: list[Row] = []
    stack = [(span, 0) for span in reversed(children[""])]
    seen: set[str] = set()
    while stack and len(found) < ROWS_MAX:
        span, depth = stack.pop()
        if span.span_id in seen:
            continue
        seen.add(span.span_id)
        start = min(1.0, max(0.0, (span.started - first) / whole))
        length = min(1.0 - start, max(0.0, (span.ended - span.started) / whole))
        found.append(Row(span, depth, start, length, own_time(span, children[span.span_id])))
        stack += [(child, depth + 1) for child in reversed(children[span.span_id])]
    return found


def own_time(span: Span, children: Sequence[Span]) -> float:
    """Seconds of a span in which none of its children ran."""
    covered, until = 0.0, span.started
    for child in sorted(children, key=lambda each: each.started):
        start, end = max(child.started, until), min(child.ended, span.ended)
        if end > start:
            covered += end - start
            until = end
    return max(0.0, span.ended - span.started - covered)


def totals(found: Sequence[Row]) -> Mapping[str, tuple[int, float]]:
    """By kind: how many spans, and the seconds that they took themselves; the most first."""
    sums: dict[str, tuple[int, float]] = {}
    for row in found:
        count, seconds = sums.get(row.kind, (0, 0.0))
        sums[row.kind] = (count + 1, seconds + row.own_s)
    return dict(sorted(sums.items(), key=lambda item: -item[1][1]))


def slowest(found: Sequence[Row], attribute: str, most: int) -> list[Row]:
    """Those that took longest of the rows whose spans have this attribute."""
    having = [row for row in found if row.span.attributes.get(attribute)]
    return sorted(having, key=lambda row: row.span.started - row.span.ended)[:most]


def bar(row: Row) -> Html:
    """The span as a bar on the time of the trace."""
    width = max(LEAST, row.length * WIDTH)
    x = min(row.start * WIDTH, WIDTH - width)
    mood = " bad" if row.span.error else ""
    return tag(
        "svg", tag("rect", x=f"{x:.1f}", width=f"{width:.1f}", height=10, y=3, rx=2),
        class_=f"bar {row.kind}{mood}", viewBox=f"0 0 {WIDTH:.0f} 16", preserveAspectRatio="none", aria_hidden="true",
    )  # fmt: skip


def details(span: Span) -> list[tuple[str, Any]]:
    """Attributes for people to read, but the one that the row shows."""
    shown = next((key for key in _SAID if span.attributes.get(key)), "")
    return [
        (key, value)
        for key, value in sorted(span.attributes.items())
        if key != shown and value not in ("", None)
    ]
