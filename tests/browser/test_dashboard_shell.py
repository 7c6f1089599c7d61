"""The dashboard's overview, services, operations and traces in a real Chromium, and the way in."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Browser, Page, expect

from support.pages_server import READER, Demo

if TYPE_CHECKING:
    from playwright._impl._api_structures import SetCookieParam

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]


def _sign_in(page: Page, token: str) -> None:
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Sign in").last.click()


# ── the way in ──


def test_the_way_in_leads_to_where_one_wanted_and_out_again(page: Page, demo: Demo) -> None:
    page.goto(f"{demo.ops}/operations?text=shelf")
    expect(page.get_by_role("heading", name="Sign in to demo")).to_be_visible()
    _sign_in(page, READER)
    expect(page).to_have_url(f"{demo.ops}/operations?text=shelf")
    expect(page.get_by_text("ops.read_token · reads")).to_be_visible()
    page.goto(f"{demo.ops}/operations/demo.get_shelf")
    expect(page.get_by_role("button", name="Send")).to_be_disabled()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in to demo")).to_be_visible()
    page.goto(f"{demo.ops}/traces")
    expect(page.get_by_role("heading", name="Sign in to demo")).to_be_visible()


# ── overview ──


def test_the_overview_goes_on_by_itself_and_stands_still_when_told(operator: Page, demo: Demo) -> None:
    operator.goto(demo.ops)
    below = operator.locator(".figure", has_text="Requests").first.locator(".below")
    before = below.inner_text()
    demo.traffic()
    expect(below).not_to_have_text(before, timeout=12_000)
    operator.keyboard.press("p")
    expect(operator.get_by_role("button", name="Paused")).to_have_attribute("aria-pressed", "true")
    with (
        pytest.raises(Exception, match="Timeout"),
        operator.expect_request(re.compile("part="), timeout=2_500),
    ):
        pass
    operator.keyboard.press("p")
    with operator.expect_request(re.compile("part="), timeout=6_000):
        pass


def test_charts_are_drawn_and_say_in_words_what_they_show(operator: Page, demo: Demo) -> None:
    operator.goto(demo.ops)
    chart = operator.get_by_role("img", name=re.compile("Requests per second: requests"))
    expect(chart.locator("canvas")).to_be_visible()
    operator.get_by_role("navigation", name="Time").get_by_role("link", name="1h").click()
    expect(operator).to_have_url(re.compile("window=1h"))
    expect(operator.get_by_role("link", name="Traces", exact=True)).to_have_attribute(
        "href", "/traces?window=1h"
    )


def test_from_an_error_to_the_failing_line_in_three_clicks_at_most(operator: Page, demo: Demo) -> None:
    operator.goto(demo.ops)
    errors = operator.get_by_role("region", name="Errors")
    errors.get_by_role("row").filter(has_text="demo.fail").get_by_role(
        "link", name=re.compile("RuntimeError")
    ).click()
    failing = operator.get_by_role("region", name="Failing line")
    expect(failing).to_contain_text("raise RuntimeError(")
    expect(operator.get_by_text(re.compile(r"support/pages_app\.py:\d+"))).to_be_visible()


def test_the_theme_is_chosen_and_kept(operator: Page, demo: Demo) -> None:
    operator.goto(demo.ops)
    switch = operator.locator("#theme")
    for expected in ("light", "dark"):
        switch.click()
        expect(switch).to_have_text(f"Theme: {expected}")
    operator.reload()
    background = operator.evaluate("getComputedStyle(document.body).backgroundColor")
    assert int(background.removeprefix("rgb(").partition(",")[0]) < 80, background


def test_keys_lead_everywhere(operator: Page, demo: Demo) -> None:
    operator.goto(demo.ops)
    operator.keyboard.press("?")
    expect(operator.get_by_role("dialog", name="Keyboard")).to_be_visible()
    operator.keyboard.press("Escape")
    operator.keyboard.press("g")
    operator.keyboard.press("p")
    expect(operator.locator("main h1")).to_have_text("Operations")
    operator.keyboard.press("/")
    operator.keyboard.type("shelf")
    operator.keyboard.press("Enter")
    expect(operator).to_have_url(re.compile("text=shelf"))
    operator.keyboard.press("Tab")
    expect(operator.locator(":focus")).to_have_text("Skip to the page")


# ── services ──


def test_the_picture_of_the_architecture_leads_to_its_parts(operator: Page, demo: Demo) -> None:
    demo.traffic()
    operator.goto(f"{demo.ops}/services")
    picture = operator.get_by_role("region", name="Architecture of demo")
    for name in ("Clients", "SQLite", "payments"):
        expect(picture.get_by_text(name, exact=True)).to_be_visible()
    expect(picture.locator(".edge.busy").first).to_be_visible(timeout=10_000)
    operator.get_by_text("connections as a table").click()
    expect(operator.get_by_role("region", name="Connections").get_by_role("row")).not_to_have_count(0)
    picture.get_by_role("link", name=re.compile("^demo")).click()
    expect(operator.locator("main h1")).to_have_text("demo")
    expect(operator.get_by_role("link", name="demo.get_shelf")).to_be_visible()


# ── operations ──


def test_an_operation_is_found_read_and_sent_a_real_request(operator: Page, demo: Demo) -> None:
    operator.goto(f"{demo.ops}/operations")
    operator.get_by_role("link", name="demo.get_shelf").click()
    expect(operator.get_by_role("cell", name="600/minute")).to_be_visible()
    operator.get_by_label("shelf").fill("A-7")
    operator.get_by_role("button", name="Send").click()
    answer = operator.locator("#answer")
    expect(answer.get_by_role("status")).to_contain_text("200 in ")
    expect(answer.get_by_role("region", name="Body of the answer")).to_contain_text("7")
    trace = answer.get_by_role("link", name="Its trace").get_attribute("href")
    assert trace is not None
    for _ in range(60):
        if demo.pages.get(trace).status_code == 200:
            break
        operator.wait_for_timeout(100)
    operator.goto(demo.ops + trace)
    expect(operator.locator(".waterfall")).to_contain_text("demo.get_shelf")


def test_what_an_action_is_refused_for_is_shown(
    browser: Browser, demo: Demo, cookies: list[SetCookieParam]
) -> None:
    """In a context of its own: Chromium logs every answer that is an error, however well it is handled."""
    context = browser.new_context()
    context.add_cookies(cookies)
    page = context.new_page()
    page.goto(f"{demo.ops}/operations/demo.get_shelf")
    page.get_by_label("Headers, one a line").fill("no header at all")
    page.get_by_label("shelf").fill("A-7")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#said")).to_contain_text("is no header: write Name: value.")
    context.close()


# ── traces ──


def test_a_slow_page_is_explained_by_its_waterfall(operator: Page, demo: Demo) -> None:
    operator.goto(f"{demo.ops}/traces")
    operator.get_by_label("Operation").select_option("demo.get_weights")
    expect(operator).to_have_url(re.compile("operation=demo.get_weights"))
    operator.get_by_role("region", name="Traces").get_by_role("link", name="demo.get_weights").first.click()
    statement = operator.locator(".waterfall details", has_text="db.statement").first
    statement.locator("summary").click()
    expect(statement.get_by_role("region", name="Statement")).to_contain_text("SELECT parts.id")


def test_requests_are_listed_beside_the_traces(operator: Page, demo: Demo) -> None:
    operator.goto(f"{demo.ops}/traces")
    operator.get_by_role("link", name="Requests", exact=True).click()
    operator.get_by_label("Outcome").select_option("failed")
    rows = operator.get_by_role("region", name="Requests").get_by_role("row")
    expect(rows.filter(has_text="/fail").first).to_be_visible()
    expect(rows.filter(has_text="/shelves")).to_have_count(0)
