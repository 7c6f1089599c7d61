"""The API explorer and the operations pages, used as a person would."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import Page, expect

from shop.demo import CUSTOMER, CUSTOMER_PASSWORD
from support.shop_server import Shop

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]


def choose(page: Page, shop: Shop, path: str) -> None:
    page.goto(f"{shop.url}/docs")
    page.get_by_role("link", name=path, exact=False).first.click()


def test_the_explorer_lists_every_operation_and_finds_by_words(page: Page, shop: Shop) -> None:
    page.goto(f"{shop.url}/docs")
    expect(page.get_by_role("navigation").get_by_role("link")).not_to_have_count(0)
    page.keyboard.press("/")
    page.keyboard.type("cancel")
    expect(page.get_by_role("navigation").get_by_role("link").filter(visible=True)).to_have_count(1)


def test_a_request_from_the_explorer_reaches_the_api_and_shows_the_answer(page: Page, shop: Shop) -> None:
    choose(page, shop, "/categories")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("status")).to_contain_text("200")
    expect(page.get_by_label("Response body")).to_contain_text("Kitchen")


def test_the_body_editor_is_prefilled_and_a_wrong_body_shows_the_wrong_field(page: Page, shop: Shop) -> None:
    choose(page, shop, "/accounts/login")
    editor = page.get_by_label("Request body as JSON")
    assert "email" in json.loads(editor.input_value())
    editor.fill(json.dumps({"email": CUSTOMER, "password": CUSTOMER_PASSWORD}))
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("status")).to_contain_text("200")
    expect(page.get_by_label("Response body")).to_contain_text("access_token")


def test_the_explorer_can_be_read_in_the_dark(page: Page, shop: Shop) -> None:
    page.emulate_media(color_scheme="dark")
    page.goto(f"{shop.url}/docs")
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    red = int(background.removeprefix("rgb(").partition(",")[0])
    assert red < 80, background


def test_the_operations_index_leads_to_the_mailbox(page: Page, shop: Shop) -> None:
    page.goto(f"{shop.ops_url}/")
    expect(page.get_by_text("Ready.", exact=True)).to_be_visible()
    page.get_by_role("link", name="Mailbox").click()
    expect(page.get_by_role("heading", name="Mailbox")).to_be_visible()


def test_a_receipt_can_be_read_in_the_mailbox(page: Page, shop: Shop) -> None:
    with shop.admin() as admin:
        admin.put("/products", json=[{"sku": "READ", "name": "Read", "category": "Tests", "price": 1}])
        admin.post("/deliveries", json={"note": "to be read", "items": [{"sku": "READ", "quantity": 1}]})
    with shop.customer() as client:
        order = {"lines": [{"sku": "READ", "quantity": 1}]}
        placed = client.post("/orders", json=order, headers={"idempotency-key": "browser-1"})
        assert placed.status_code == 201, placed.text
    page.goto(f"{shop.ops_url}/mailbox")
    mail = page.get_by_role("link", name="order")
    for _ in range(50):
        if mail.count():
            break
        page.wait_for_timeout(100)
        page.reload()
    mail.first.click()
    expect(page.get_by_role("region", name="The mail as text")).to_contain_text("Thank you for your order")


def test_the_page_of_events_shows_what_a_topic_says_and_who_listens(page: Page, shop: Shop) -> None:
    page.goto(f"{shop.url}/docs")
    page.get_by_role("link", name="Events").click()
    page.get_by_role("navigation").get_by_role("link", name="orders.order-placed").click()
    expect(page.get_by_role("heading", name="OrderPlaced")).to_be_visible()
    expect(page.get_by_text("inventory.confirm")).to_be_visible()
    sample = json.loads(page.get_by_label("Sample event").inner_text())
    assert sample["type"] == "orders.order-placed.v1"
    assert sample["data"].keys() == {"order_id", "ordered_at"}


def test_topics_are_found_by_words_and_read_in_the_dark(page: Page, shop: Shop) -> None:
    page.emulate_media(color_scheme="dark")
    page.goto(f"{shop.url}/docs/events")
    page.keyboard.press("/")
    page.keyboard.type("cancelled")
    expect(page.get_by_role("navigation").get_by_role("link")).to_have_count(1)
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert int(background.removeprefix("rgb(").partition(",")[0]) < 80, background


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_limits_and_shedding_are_shown_to_people(page: Page, shop: Shop, scheme: str) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.goto(f"{shop.ops_url}/")
    page.get_by_role("link", name="Limits and shedding").click()
    expect(page.get_by_role("heading", name="Policies in force")).to_be_visible()
    expect(page.get_by_text("limit 30/minute per principal").first).to_be_visible()
    expect(page.get_by_text("learned", exact=True)).to_be_visible()
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    red = int(background.removeprefix("rgb(").partition(",")[0])
    assert (red < 80) == (scheme == "dark"), background
