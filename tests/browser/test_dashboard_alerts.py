"""The page of alerts in a real Chromium: silences are made and ended, and axe finds no serious fault."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from support.shop_server import Shop

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

AXE = (Path(__file__).parent / "axe.min.js").read_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_silences_are_made_and_ended_on_an_accessible_page(page: Page, shop: Shop, scheme: str) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.goto(f"{shop.ops_url}/alerts")
    expect(page.locator("main h1")).to_have_text("Alerts")
    page.get_by_label("Why").fill("the database is being moved")
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Silence everything").click()
    row = page.get_by_role("row", name="the database is being moved")
    expect(row).to_be_visible()
    row.get_by_role("button", name="End").click()
    expect(row).to_be_hidden()
    page.evaluate(AXE)
    found = page.evaluate("axe.run().then(result => result.violations)")
    assert [each["id"] for each in found if each["impact"] in ("serious", "critical")] == []
