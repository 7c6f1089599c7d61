"""The picture as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tenfold.dashboard.diagram.layout import (
    LABEL_HEIGHT,
    MARGIN,
    PADDING,
    Drawing,
    Line,
    Place,
    Point,
    cut,
    draw,
    width_of,
)
from tenfold.dashboard.diagram.parts import Arrow, Box
from tenfold.dashboard.html import Html, join, tag

_ABOVE: Final = ("", "busy", "warn", "bad")
"""Of arrows that share a way, the later ones are drawn over the earlier."""


def svg(boxes: Sequence[Box], arrows: Sequence[Arrow], label: str, heads: Sequence[str] = ()) -> Html:
    """The picture. ``label`` says what it is of; ``heads`` stand above the first, the second and the last lane."""
    drawing = draw(boxes, arrows)
    return tag(
        "div",
        tag(
            "svg",
            _defs(),
            _heads(drawing, heads),
            [_arrow(*each) for each in sorted(drawing.lines, key=lambda each: _ABOVE.index(each[0].mood))],
            [_box(box, drawing.places[box.id]) for box in boxes],
            [
                _label(arrow, drawing.labels[n])
                for n, (arrow, _) in enumerate(drawing.lines)
                if n in drawing.labels
            ],
            viewBox=f"0 0 {drawing.width:.0f} {drawing.height:.0f}",
            width=f"{drawing.width:.0f}",
            height=f"{drawing.height:.0f}",
            role="group",
            aria_label=label,
        ),
        class_="diagram",
        tabindex=0,
        role="region",
        aria_label=label,
    )


def _defs() -> Html:
    tip = tag("path", d="M0,0L8,4L0,8Z")
    return tag(
        "defs",
        tag(
            "marker", tip, id="tip", viewBox="0 0 8 8", refX=7, refY=4,
            markerWidth=7, markerHeight=7, orient="auto-start-reverse", markerUnits="userSpaceOnUse",
        ),
    )  # fmt: skip


def _heads(drawing: Drawing, heads: Sequence[str]) -> Html:
    last = len(drawing.heads) - 1
    spots = [drawing.heads[n] for n in (0, 1, last) if n <= last]
    return join(
        *(
            tag("text", text, class_="lane", x=f"{x:.0f}", y=f"{MARGIN:.0f}")
            for x, text in zip(spots, heads, strict=False)
        )
    )


def _arrow(arrow: Arrow, line: Line) -> Html:
    classes = " ".join(filter(None, ("edge", arrow.kind, arrow.mood)))
    return tag(
        "g",
        tag("title", arrow.title) if arrow.title else None,
        tag("path", d=line.path, marker_end="url(#tip)"),
        tag("path", d=line.path, class_="flow") if arrow.flows else None,
        class_=classes,
    )


def _box(box: Box, place: Place) -> Html:
    top = place.y + (place.height - 16 * (1 + len(box.lines))) / 2 + 12
    x = f"{place.x + PADDING:.0f}"
    lines = [
        tag("text", cut(line), class_="said", x=x, y=f"{top + 16 * (n + 1):.1f}")
        for n, line in enumerate(box.lines)
    ]
    drawn = tag(
        "g",
        tag("title", "; ".join((box.name, *box.lines))),
        tag(
            "rect", x=f"{place.x:.0f}", y=f"{place.y:.1f}", width=f"{place.width:.0f}", height=f"{place.height:.0f}",
            rx=9,
        ),
        tag("text", cut(box.name), class_="name", x=x, y=f"{top:.1f}"),
        lines,
        class_=f"box {box.kind} {box.mood}".rstrip(),
    )  # fmt: skip
    return tag("a", drawn, href=box.href) if box.href else drawn


def _label(arrow: Arrow, at: Point) -> Html:
    width = width_of(arrow.label)
    return tag(
        "g",
        tag(
            "g",
            tag("title", arrow.title) if arrow.title else None,
            tag(
                "rect", x=f"{at.x - width / 2:.1f}", y=f"{at.y - LABEL_HEIGHT / 2:.1f}", width=f"{width:.1f}",
                height=f"{LABEL_HEIGHT:.0f}", rx=9,
            ),
            tag("text", arrow.label, x=f"{at.x:.1f}", y=f"{at.y + 3.6:.1f}", text_anchor="middle"),
            class_="label",
        ),
        class_=f"edge {arrow.mood}".rstrip(),
    )  # fmt: skip
