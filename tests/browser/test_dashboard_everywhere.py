"""What holds of every page of the dashboard, whoever looks at it and on whatever."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from support.pages_server import Demo

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

PATHS = (
    "/", "/alerts", "/services", "/services/demo", "/operations", "/operations/demo.get_shelf", "/traces",
    "/traces?show=requests", "/traces?why=failed", "/logs", "/jobs", "/jobs/1", "/schedules", "/events", "/database",
    "/cache", "/mailbox", "/policies", "/profiler", "/settings", "/sign-in",
)  # fmt: skip
LEADS = {"/traces?why=failed": "#part-listed td a", "/mailbox": "td a"}
"""Pages of which the first link is followed: what it leads to has no address that is known."""
LOADED = r"""performance.getEntriesByType('resource').filter(e => /\/static\//.test(e.name))
    .reduce((sum, e) => sum + e.decodedBodySize, 0)"""
BEYOND = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
CLIPPED = """[...document.querySelectorAll('.diagram .box')].flatMap(box => {
    const edge = box.querySelector('rect').getBoundingClientRect();
    return [...box.querySelectorAll('text')].filter(text => {
        const own = text.getBoundingClientRect();
        return own.left < edge.left || own.right > edge.right || own.top < edge.top || own.bottom > edge.bottom;
    }).map(text => text.textContent);
})"""
OUTSIDE = """[...document.querySelectorAll('tenfold-chart')].filter(chart => {
    const { window: [since, until], data } = JSON.parse(chart.getAttribute('data'));
    const { min, max } = chart.plot.scales.x;
    return min !== since || max !== until || chart.plot.width > chart.clientWidth;
}).map(chart => chart.getAttribute('aria-label'))"""
"""Charts whose time is not the one that was asked for, or that are wider than their place."""


@pytest.mark.parametrize("path", PATHS)
def test_a_page_is_usable_by_everybody_on_every_screen_and_small(
    operator: Page, demo: Demo, axe: str, path: str
) -> None:
    """No error in the console (the fixture says so), no serious finding of axe, colours in the dark included, under
    300 kB with all that it loads, no text beyond its box, and on a narrow screen nothing that scrolls sideways."""
    answer = operator.goto(demo.ops + path)
    assert answer is not None
    assert answer.status == 200
    assert len(answer.body()) + operator.evaluate(LOADED) < 300_000
    if path in LEADS:
        operator.locator(LEADS[path]).first.click()
        expect(operator.locator(".crumb")).to_be_visible()
    operator.evaluate(axe)
    assert _serious(operator, {"resultTypes": ["violations"]}) == []
    operator.emulate_media(color_scheme="dark")
    assert _serious(operator, {"runOnly": ["color-contrast"]}) == []
    assert operator.evaluate(CLIPPED) == []
    assert operator.evaluate(OUTSIDE) == []
    operator.set_viewport_size({"width": 390, "height": 800})
    assert operator.evaluate(BEYOND) <= 1


def _serious(page: Page, options: dict[str, Any]) -> list[tuple[str, str, str]]:
    found = page.evaluate("options => axe.run(document, options)", options)
    return [
        (each["id"], str(each["nodes"][0]["target"]), each["nodes"][0]["failureSummary"])
        for each in found["violations"]
        if each["impact"] in ("serious", "critical")
    ]
