"""The pictures of docs/guides/observability.md: what a newcomer sees, kept small.

``WRITE_PICTURES=1 pytest -m soak tests/browser/test_pictures.py`` writes them anew. Without it the same is looked at, so that
what the guide shows is what there is, and thrown away.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from support.pages_server import ROOT, Demo
from support.process import Process
from support.shop_server import EXAMPLES, PATH, Shop

pytestmark = [pytest.mark.browser, pytest.mark.soak, pytest.mark.xdist_group("browser")]

PICTURES = ROOT / "docs/guides/pictures"
LARGEST = 80_000
"""Bytes of one picture."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where pictures go."""
    return PICTURES if os.environ.get("WRITE_PICTURES") else tmp_path


@pytest.fixture(scope="module")
def visited(shop: Shop) -> Generator[Shop]:
    """The shop with visitors, more of them than ``make run`` sends: nobody waits for minutes here."""
    visitors = Process(
        [sys.executable, "-m", "shop.visitors", "--url", shop.url, "--per-s", "30"],
        cwd=EXAMPLES,
        env={"PYTHONPATH": PATH},
    )
    with visitors:
        yield shop


def take(page: Page, folder: Path, name: str, until: Locator | None = None) -> None:
    """The page from its top to the end of ``until``, or what the window shows of it."""
    page.set_viewport_size({"width": 1300, "height": 900})
    page.evaluate("document.fonts.ready")
    box = until.bounding_box() if until is not None else None
    height = 900 if box is None else min(1100, box["y"] + box["height"] + 28)
    page.set_viewport_size({"width": 1300, "height": int(height)})
    whole = Image.open(BytesIO(page.screenshot(timeout=60_000, animations="disabled")))
    path = folder / f"{name}.webp"
    path.parent.mkdir(exist_ok=True)
    whole.convert("RGB").save(path, "WEBP", quality=80, method=6)
    assert path.stat().st_size < LARGEST, (name, path.stat().st_size)


def test_the_live_picture_of_a_shop_with_visitors(page: Page, visited: Shop, folder: Path) -> None:
    page.goto(visited.ops_url)
    busy = page.get_by_role("region", name="Busiest operations")
    expect(busy.get_by_role("link", name="orders.place_order")).to_be_visible(timeout=60_000)
    expect(page.locator("tenfold-chart canvas").first).to_be_visible()
    take(page, folder, "overview", page.locator("#part-errors"))
    page.goto(f"{visited.ops_url}/services")
    picture = page.get_by_role("region", name="Architecture of shop")
    expect(picture.locator(".edge.busy.call").first).to_be_visible()
    take(page, folder, "services", picture)


def test_the_trace_of_an_order(page: Page, visited: Shop, folder: Path) -> None:
    page.goto(f"{visited.ops_url}/traces?operation=orders.place_order")
    placed = page.locator("#part-listed").get_by_role("row").filter(has_not_text="failed")
    placed.get_by_role("link", name="orders.place_order").first.click(timeout=60_000)
    waterfall = page.locator(".waterfall")
    expect(waterfall).to_contain_text("inventory.hold")
    take(page, folder, "trace", waterfall)


def test_an_error_and_its_line(operator: Page, demo: Demo, folder: Path) -> None:
    operator.goto(demo.ops)
    operator.get_by_role("region", name="Errors").get_by_role("link", name="RuntimeError").first.click()
    failing = operator.get_by_role("region", name="Failing line")
    expect(failing).to_be_visible()
    take(operator, folder, "error", failing)  # what is below has the path of a machine


def test_findings_about_the_database(operator: Page, demo: Demo, folder: Path) -> None:
    operator.goto(f"{demo.ops}/database")
    findings = operator.locator("#part-findings")
    expect(findings).to_contain_text("CREATE INDEX")
    take(operator, folder, "database", findings.get_by_text("the planner would use it").first)
