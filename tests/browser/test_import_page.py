"""The shop's import page: a file goes in, the bar moves, and what is wrong can be fetched."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from shop.demo import ADMIN_PASSWORD
from support.shop_server import Shop

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]


def test_an_import_is_watched_until_its_end_and_its_report_fetched(
    page: Page, shop: Shop, tmp_path: Path
) -> None:
    rows = [f"P-{n},Page {n},Page,1.50" if n != 7 else "not so!" for n in range(5000)]
    file = tmp_path / "page.csv"
    file.write_text("\n".join(["sku,name,category,price", *rows]))
    page.goto(f"{shop.url}/import")
    page.fill("[name=password]", ADMIN_PASSWORD)
    page.set_input_files("[name=products]", file)
    page.click("button")
    expect(page.locator("#who")).to_be_hidden(timeout=20_000)
    expect(page.locator("#said")).to_have_text("Done.", timeout=20_000)
    expect(page.locator("#products")).to_have_text("4,999")
    with page.expect_download() as download:
        page.click("text=What is wrong with them")
    assert download.value.path().read_text().splitlines() == [
        "line,message",
        "9,It has 1 cells instead of 4.",
    ]
