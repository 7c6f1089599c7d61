"""The page of alerts in a real Chromium: silences of one alert and of all are made and ended."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from support.pages_server import Demo

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]


def test_silences_are_made_and_ended(operator: Page, demo: Demo) -> None:
    operator.goto(f"{demo.ops}/alerts")
    expect(operator.locator("main h1")).to_have_text("Alerts")
    operator.get_by_label("Why").fill("the database is being moved")
    operator.once("dialog", lambda dialog: dialog.accept())
    operator.get_by_role("button", name="Silence everything").click()
    row = operator.get_by_role("row", name="the database is being moved")
    expect(row).to_be_visible()
    row.get_by_role("button", name="End").click()
    expect(row).to_be_hidden()


def test_one_alert_is_silenced_for_an_hour(operator: Page, demo: Demo) -> None:
    operator.goto(f"{demo.ops}/alerts")
    row = operator.locator("#part-firing").get_by_role("row").filter(has_text="are dead")
    row.get_by_role("button", name="Silence for an hour").click()
    expect(operator.locator("#said")).to_contain_text("for an hour")
    expect(row.get_by_text("silenced")).to_be_visible()
