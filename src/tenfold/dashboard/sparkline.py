"""A line as small as a word. Pure: numbers in, SVG out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tenfold.dashboard.html import EMPTY, Html, tag

WIDTH: Final = 104
HEIGHT: Final = 24


def sparkline(values: Sequence[float], label: str) -> Html:
    """``values`` in even steps, from 0 to the greatest; nothing for fewer than two. ``label`` is for screen readers."""
    if len(values) < 2:
        return EMPTY
    line = path(values)
    area = f"{line}L{WIDTH},{HEIGHT}L0,{HEIGHT}Z"
    return tag(
        "svg", tag("path", d=area, class_="area"), tag("path", d=line),
        class_="spark", viewBox=f"0 0 {WIDTH} {HEIGHT}", preserveAspectRatio="none", role="img", aria_label=label,
    )  # fmt: skip


def path(values: Sequence[float]) -> str:
    """The line through the values, as the ``d`` of an SVG path."""
    top = max(values) or 1.0
    step = WIDTH / (len(values) - 1)
    points = (
        f"{n * step:.1f},{HEIGHT - 1 - value / top * (HEIGHT - 2):.1f}" for n, value in enumerate(values)
    )
    return "M" + "L".join(points)
