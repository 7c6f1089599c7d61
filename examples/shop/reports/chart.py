"""Draw revenue as a picture: one bar per day (or per few days, when there are many), stacked by country.

Pure: rows in, PNG bytes out. It runs in a process of its own, because drawing holds a core for a while.
"""

from __future__ import annotations

import io
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TypeAlias

from PIL import Image, ImageDraw, ImageFont

Rows: TypeAlias = Sequence[tuple[date, str, int]]
"""Day, country, revenue in pence."""

WIDTH, HEIGHT = 1200, 675
LEFT, RIGHT, TOP, BOTTOM = 96, 1168, 140, 590
BARS_MAX = 62
INK, MUTED, GRID, PAPER = "#1d2433", "#69707f", "#e4e7ec", "#ffffff"
COLOURS = ("#2f6fde", "#f2994a", "#27a17c", "#b65fcf", "#e0526a", "#7a8699")
"""The largest countries in order; the last is for all others together."""
OTHERS = "Others"


@dataclass(frozen=True)
class Bars:
    """What is drawn: a label and the revenue of each series for every bar."""

    days_each: int
    series: list[str]
    labels: list[str]
    values: list[list[int]]


def draw(rows: Rows, since: date, until: date) -> bytes:
    """A PNG of the revenue from ``since`` to ``until``, both included; days without sales stay empty."""
    bars = arrange(rows, since, until)
    image = Image.new("RGB", (WIDTH, HEIGHT), PAPER)
    pen = ImageDraw.Draw(image)
    top = nice_ceiling(max(map(sum, bars.values)))
    _title(pen, bars, since, until)
    _legend(pen, bars.series)
    _axis(pen, top)
    _bars(pen, bars, top)
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()


def arrange(rows: Rows, since: date, until: date) -> Bars:
    """Sum the rows into bars, largest country first."""
    days = (until - since).days + 1
    step = 1 if days <= BARS_MAX else -(-days // BARS_MAX)
    by_country: dict[str, int] = defaultdict(int)
    for _, country, revenue in rows:
        by_country[country] += revenue
    ranked = sorted(by_country, key=lambda country: (-by_country[country], country))
    room = len(COLOURS)
    series = ranked if len(ranked) <= room else [*ranked[: room - 1], OTHERS]
    index = {country: min(n, len(series) - 1) for n, country in enumerate(ranked)}
    values = [[0] * len(series) for _ in range(-(-days // step))]
    for day, country, revenue in rows:
        values[(day - since).days // step][index[country]] += revenue
    starts = [since + timedelta(days=n * step) for n in range(len(values))]
    return Bars(step, series, [f"{day:%-d %b}" for day in starts], values)


def nice_ceiling(pence: int) -> int:
    """The least of 1, 2, 4, 6, 8 or 10 times a power of ten that is not below ``pence``; at least £1.

    >>> nice_ceiling(5_876_043)
    6000000
    """
    power = 100
    while power * 10 <= pence:
        power *= 10
    return next(factor * power for factor in (1, 2, 4, 6, 8, 10) if factor * power >= pence)


def _title(pen: ImageDraw.ImageDraw, bars: Bars, since: date, until: date) -> None:
    total = sum(map(sum, bars.values))
    each = "day" if bars.days_each == 1 else f"{bars.days_each} days"
    days = f"{since:%-d %B %Y}" if since == until else f"{since:%-d %B %Y} to {until:%-d %B %Y}"
    pen.text((LEFT, 32), f"Revenue per {each} and country, in pounds", INK, _font(28))
    pen.text((LEFT, 72), f"{days} (UTC)", MUTED, _font(17))
    pen.text((RIGHT, 32), f"{total // 100:,}.{total % 100:02d}", INK, _font(28), anchor="ra")
    pen.text((RIGHT, 72), "in total", MUTED, _font(17), anchor="ra")


def _legend(pen: ImageDraw.ImageDraw, series: list[str]) -> None:
    x, font = float(LEFT), _font(15)
    for n, name in enumerate(map(_plain, series)):
        pen.rounded_rectangle((x, 108, x + 13, 121), 3, COLOURS[n])
        text = name if len(name) <= 20 else f"{name[:18]}..."
        pen.text((x + 20, 115), text, INK, font, anchor="lm")
        x += 20 + font.getlength(text) + 24


def _axis(pen: ImageDraw.ImageDraw, top: int) -> None:
    font = _font(15)
    for quarter in range(5):
        value = top * quarter // 4
        y = _y(value, top)
        pen.line((LEFT, y, RIGHT, y), MUTED if quarter == 0 else GRID, 1)
        pen.text((LEFT - 12, y), _tick(value), MUTED, font, anchor="rm")


def _bars(pen: ImageDraw.ImageDraw, bars: Bars, top: int) -> None:
    slot = (RIGHT - LEFT) / len(bars.values)
    width = min(slot * 0.72, 120)
    every = max(1, -(-64 // int(slot)))  # a label needs about 64 pixels
    for n, values in enumerate(bars.values):
        x, base = LEFT + slot * (n + 0.5), 0
        for colour, value in zip(COLOURS, values, strict=False):
            if value:
                low, base = base, base + value
                bottom = _y(low, top) - 1
                pen.rectangle((x - width / 2, min(_y(base, top), bottom), x + width / 2, bottom), colour)
        if n % every == 0:
            pen.text((x, BOTTOM + 14), bars.labels[n], MUTED, _font(15), anchor="ma")
    if not bars.series:
        pen.text(
            ((LEFT + RIGHT) / 2, TOP + (BOTTOM - TOP) * 3 / 8),
            "No sales on these days",
            MUTED,
            _font(22),
            anchor="mm",
        )


def _y(value: int, top: int) -> int:
    return round(BOTTOM - (BOTTOM - TOP) * value / top)


def _tick(pence: int) -> str:
    if pence >= 100_000_000:
        return f"{pence / 100_000_000:g}M"
    if pence >= 1_000_000:
        return f"{pence / 100_000:g}k"
    return f"{pence / 100:,.2f}" if pence % 100 else f"{pence // 100:,}"


def _plain(name: str) -> str:
    """Without accents: the font that comes with Pillow, and needs no file of the system's, has none."""
    return unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode() or "?"


def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font
