"""Charts: the whole of the time that was asked for, and gaps where nothing was measured."""

from __future__ import annotations

import html
import json
import re
from typing import Any

from tenfold.dashboard import ui

WINDOW = ui.Window(1000.0, 1900.0)


def data(shown: str) -> dict[str, Any]:
    found = re.search(r'data="([^"]+)"', shown)
    assert found is not None
    decoded: dict[str, Any] = json.loads(html.unescape(found[1]))
    return decoded


def test_one_point_stands_in_the_window_that_was_asked_for() -> None:
    said = data(ui.chart("Latency", WINDOW, [1890.0], ui.Line("p50", [0.2]), unit="s"))
    assert said["window"] == [1000.0, 1900.0]
    assert said["data"] == [[1890.0], [0.2]]


def test_what_nobody_measured_is_a_gap_and_no_line() -> None:
    times = [1000.0, 1010.0, 1020.0, 1300.0, 1310.0]
    said = data(ui.chart("Traffic", WINDOW, times, ui.Line("requests", [1, 2, 3, 4, 5])))
    assert said["data"] == [
        [1000.0, 1010.0, 1020.0, 1030.0, 1300.0, 1310.0],
        [1.0, 2.0, 3.0, None, 4.0, 5.0],
    ]


def test_points_that_come_a_little_late_are_no_gap() -> None:
    times = [1000.0, 1005.0, 1012.0, 1017.0]
    assert data(ui.chart("Traffic", WINDOW, times, ui.Line("requests", [1, 1, 1, 1])))["data"][0] == times
