"""The revenue chart: what is drawn, and that it is a picture."""

from __future__ import annotations

import io
from datetime import date, timedelta

import pytest
from PIL import Image

from shop.reports import chart

DAY = date(2010, 12, 1)


def test_every_penny_is_in_some_bar() -> None:
    rows = [(DAY + timedelta(days=n % 90), f"Country {n % 9}", n) for n in range(500)]
    bars = chart.arrange(rows, DAY, DAY + timedelta(days=89))
    assert sum(map(sum, bars.values)) == sum(range(500))
    assert len(bars.values) <= chart.BARS_MAX
    assert bars.series[-1] == chart.OTHERS


def test_the_largest_country_comes_first() -> None:
    rows = [(DAY, "Norway", 1), (DAY, "France", 3), (DAY, "EIRE", 2)]
    assert chart.arrange(rows, DAY, DAY).series == ["France", "EIRE", "Norway"]


@pytest.mark.parametrize(
    ("pence", "top"), [(0, 100), (100, 100), (101, 200), (5_876_043, 6_000_000), (9_000_001, 10_000_000)]
)
def test_the_axis_ends_at_a_round_number_above_the_highest_bar(pence: int, top: int) -> None:
    assert chart.nice_ceiling(pence) == top


@pytest.mark.parametrize("days", [1, 2, 62, 1000])
def test_it_is_a_picture_for_any_number_of_days(days: int) -> None:
    rows = [(DAY + timedelta(days=n), "United Kingdom", n * 100 + 1) for n in range(days)]
    png = chart.draw(rows, DAY, DAY + timedelta(days=days - 1))
    with Image.open(io.BytesIO(png)) as image:
        assert image.size == (chart.WIDTH, chart.HEIGHT)
        colours = {colour for _, colour in image.getcolors(1_000_000) or []}
    assert (0x2F, 0x6F, 0xDE) in colours


def test_no_sales_at_all_is_a_picture_too() -> None:
    assert chart.draw([], DAY, DAY).startswith(b"\x89PNG")
