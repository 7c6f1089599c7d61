"""The shop's main flows, through its public API on a real server."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest
from PIL import Image

from support.shop_server import Shop

LAYOUTS = ("whole", "split")
"""In one process, and as five behind a balancer: the same tests."""
Json = dict[str, Any]


def eventually(ask: Callable[[], Any], within_s: float = 15.0) -> Any:
    """The first true answer."""
    until = time.monotonic() + within_s
    while not (answer := ask()):
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.05)
    return answer


def place(client: httpx2.Client, key: str, *lines: Json, **more: Any) -> httpx2.Response:
    return client.post("/orders", json={"lines": list(lines), **more}, headers={"idempotency-key": key})


def problem(response: httpx2.Response, status: int) -> Json:
    """The problem document, which is what it says it is."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document: Json = response.json()
    assert document["status"] == status
    assert document["detail"]
    return document


@pytest.fixture
def product(admin: httpx2.Client, request: pytest.FixtureRequest) -> str:
    """A product of the test's own, ten of which are in stock."""
    sku = f"T-{abs(hash(request.node.nodeid)):x}"[:32]
    new = {"sku": sku, "name": f"Test {sku}", "category": "Tests", "price": 1250}
    assert admin.put("/products", json=[new]).status_code == 200
    delivery = {"note": f"note-{sku}", "items": [{"sku": sku, "quantity": 10}]}
    assert admin.post("/deliveries", json=delivery).status_code == 201
    return sku


def left(client: httpx2.Client, sku: str) -> int:
    return int(client.get(f"/stock/{sku}").json()["available"])


# ── catalogue ──


def test_a_fresh_shop_has_a_catalogue(anyone: httpx2.Client) -> None:
    page = anyone.get("/products", params={"per_page": 50}).json()
    assert page["total"] >= 200
    assert len(page["items"]) == 50
    assert (
        sum(c["products"] for c in anyone.get("/categories").json())
        == anyone.get("/products").json()["total"]
    )


def test_pages_are_linked_from_the_first_to_the_last(anyone: httpx2.Client) -> None:
    seen, link = [], "/products?category=Kitchen&per_page=30"
    while link:
        page = anyone.get(link).json()
        seen += [item["sku"] for item in page["items"]]
        link = page["next"]
    assert len(seen) == len(set(seen)) == page["total"]
    assert page["previous"]


def test_search_wants_every_word_and_takes_wildcards_literally(anyone: httpx2.Client) -> None:
    found = anyone.get("/products", params={"q": "blue mug"}).json()["items"]
    assert found
    assert all("blue" in p["name"].lower() and "mug" in p["name"].lower() for p in found)
    assert anyone.get("/products", params={"q": "%"}).json()["total"] == 0


def test_a_changed_product_is_seen_at_once_although_responses_are_cached(
    admin: httpx2.Client, anyone: httpx2.Client, product: str
) -> None:
    before = anyone.get(f"/products/{product}")
    assert before.json()["price"] == 1250
    assert (
        anyone.get(f"/products/{product}", headers={"if-none-match": before.headers["etag"]}).status_code
        == 304
    )
    changed = {**before.json(), "price": 999}
    assert admin.put("/products", json=[changed]).status_code == 200
    assert anyone.get(f"/products/{product}").json()["price"] == 999


# ── orders and stock ──


def test_an_order_is_placed_paid_by_the_penny_and_taken_from_stock(
    customer: httpx2.Client, product: str
) -> None:
    response = place(customer, f"a-{product}", {"sku": product, "quantity": 3}, country="France")
    assert response.status_code == 201, response.text
    order = response.json()
    assert (order["total"], order["line_count"], order["country"], order["status"]) == (
        3750,
        1,
        "France",
        "placed",
    )
    assert customer.get(f"/orders/{order['id']}").json() == order
    assert customer.get("/orders").json()["items"][0]["id"] == order["id"]
    assert left(customer, product) == 7


def test_the_same_key_is_the_same_order(customer: httpx2.Client, product: str) -> None:
    first, second = (place(customer, f"b-{product}", {"sku": product, "quantity": 2}) for _ in range(2))
    assert first.content == second.content
    assert second.headers["idempotency-replayed"] == "true"
    assert left(customer, product) == 8


def test_the_same_key_for_another_order_is_refused(customer: httpx2.Client, product: str) -> None:
    place(customer, f"c-{product}", {"sku": product, "quantity": 2})
    found = problem(place(customer, f"c-{product}", {"sku": product, "quantity": 3}), 422)
    assert found["type"].endswith("idempotency-mismatch")


def test_an_order_without_a_key_is_refused(customer: httpx2.Client, product: str) -> None:
    response = customer.post("/orders", json={"lines": [{"sku": product, "quantity": 1}]})
    assert "idempotency-key" in problem(response, 400)["detail"].lower()


def test_out_of_stock_names_the_line_and_what_is_left(customer: httpx2.Client, product: str) -> None:
    lines = [{"sku": product, "quantity": 8}, {"sku": product, "quantity": 3}]
    found = problem(place(customer, f"d-{product}", *lines), 409)
    assert found["type"].endswith("out-of-stock")
    assert found["lines"] == [{"path": "lines[1]", "sku": product, "quantity": 3, "available": 2}]
    assert "lines[1]" in found["detail"]
    assert left(customer, product) == 10, "a refused order holds nothing"


def test_what_is_wrong_is_all_said_at_once(customer: httpx2.Client, product: str) -> None:
    lines: list[Json] = [
        {"sku": product, "quantity": -1},
        {"sku": product, "quantity": "two"},
        {"quantity": 1},
    ]
    found = problem(place(customer, f"e-{product}", *lines), 422)
    paths = {error["path"] for error in found["errors"]}
    assert {"lines[0].quantity", "lines[1].quantity"} <= paths
    assert any(path.startswith("lines[2]") for path in paths)


def test_an_unknown_product_is_named(customer: httpx2.Client, product: str) -> None:
    lines = [{"sku": product, "quantity": 1}, {"sku": "NONE", "quantity": 1}]
    found = problem(place(customer, f"f-{product}", *lines), 422)
    assert [error["path"] for error in found["errors"]] == ["lines[1].sku"]


def test_many_customers_at_once_never_buy_more_than_there_is(
    shop: Shop, customer: httpx2.Client, product: str
) -> None:
    answers = shop.concurrently(
        [
            ("POST", "/orders", {"lines": [{"sku": product, "quantity": 3}]}, f"{n}-{product}")
            for n in range(12)
        ],
        customer,
    )
    assert sorted(answers) == [201] * 3 + [409] * 9
    assert left(customer, product) == 1


def test_a_cancelled_order_gives_its_goods_back_once(customer: httpx2.Client, product: str) -> None:
    order = place(customer, f"g-{product}", {"sku": product, "quantity": 4}).json()
    for _ in range(2):
        cancelled = customer.post(f"/orders/{order['id']}/cancel")
        assert cancelled.json()["status"] == "cancelled"
    eventually(lambda: left(customer, product) == 10)


def test_somebody_elses_order_does_not_exist(
    customer: httpx2.Client, other: httpx2.Client, product: str
) -> None:
    order = place(customer, f"h-{product}", {"sku": product, "quantity": 1}).json()
    hidden = problem(other.get(f"/orders/{order['id']}"), 404)
    missing = problem(other.get("/orders/none"), 404)
    assert hidden["detail"].replace(order["id"], "") == missing["detail"].replace("none", "")
    problem(other.post(f"/orders/{order['id']}/cancel"), 404)
    assert customer.get(f"/orders/{order['id']}").json()["status"] == "placed"


def test_an_admin_sees_every_order(admin: httpx2.Client, customer: httpx2.Client, product: str) -> None:
    order = place(customer, f"i-{product}", {"sku": product, "quantity": 1}).json()
    assert admin.get(f"/orders/{order['id']}").json() == order


def test_history_is_the_callers_own(other: httpx2.Client, customer: httpx2.Client, product: str) -> None:
    order = place(customer, f"j-{product}", {"sku": product, "quantity": 1}).json()
    assert order["id"] not in {
        item["id"] for item in other.get("/orders", params={"per_page": 100}).json()["items"]
    }


def test_only_an_import_may_set_price_and_date(
    customer: httpx2.Client, admin: httpx2.Client, anyone: httpx2.Client, product: str
) -> None:
    line = {"sku": product, "quantity": 1, "unit_price": 1}
    extras = {"ordered_at": "2010-12-01T10:03:00Z", "reference": f"r-{product}"}
    found = problem(place(customer, f"k-{product}", line, **extras), 403)
    assert found["fields"] == ["ordered_at", "reference", "lines[0].unit_price"]
    key = admin.post("/accounts/keys", json={"name": "import", "scopes": ["orders:import"]}).json()["key"]
    headers = {"x-api-key": key, "idempotency-key": f"k-{product}"}
    placed = anyone.post("/orders", json={"lines": [line], **extras}, headers=headers)
    assert placed.status_code == 201, placed.text
    assert (placed.json()["total"], placed.json()["ordered_at"]) == (1, "2010-12-01T10:03:00Z")
    problem(anyone.get("/orders", headers=headers), 403)


def test_a_reference_is_used_once(admin: httpx2.Client, product: str) -> None:
    line = {"sku": product, "quantity": 1}
    assert place(admin, f"l-{product}", line, reference=f"once-{product}").status_code == 201
    found = problem(place(admin, f"m-{product}", line, reference=f"once-{product}"), 409)
    assert found["type"].endswith("already-placed")
    assert left(admin, product) == 9


def test_a_delivery_note_counts_once(admin: httpx2.Client, product: str) -> None:
    delivery = {"note": f"twice-{product}", "items": [{"sku": product, "quantity": 5}]}
    for _ in range(2):
        assert admin.post("/deliveries", json=delivery).status_code == 201
    assert left(admin, product) == 15


# ── receipts, reports, pictures ──


def test_every_order_gets_one_receipt(shop: Shop, customer: httpx2.Client, product: str) -> None:
    order = place(customer, f"n-{product}", {"sku": product, "quantity": 2}).json()
    [mail] = eventually(lambda: shop.mails(order["id"]))
    assert "25.00" in mail
    assert "ada@shop.example" in mail


def test_a_report_is_made_and_can_be_fetched_in_parts(
    admin: httpx2.Client, customer: httpx2.Client, product: str
) -> None:
    place(customer, f"o-{product}", {"sku": product, "quantity": 1}, country="Norway")
    today = datetime.now(UTC).date().isoformat()
    started = admin.post("/reports/revenue", json={"since": today, "until": today})
    assert started.status_code == 202
    where = f"/reports/{started.json()['id']}"
    report = eventually(lambda: (found := admin.get(where).json())["state"] == "done" and found)
    table = admin.get(f"{where}/revenue.csv")
    assert table.headers["content-type"].startswith("text/csv")
    rows = [line.split(",") for line in table.text.splitlines()]
    assert rows[0] == ["day", "country", "orders", "lines", "revenue"]
    assert sum(int(row[4].replace(".", "")) for row in rows[1:]) == report["revenue"] > 0
    part = admin.get(f"{where}/revenue.csv", headers={"range": "bytes=0-2"})
    assert (part.status_code, part.text) == (206, "day")
    picture = Image.open(io.BytesIO(admin.get(f"{where}/revenue.png").content))
    assert picture.format == "PNG"


def test_reports_are_for_admins(customer: httpx2.Client, anyone: httpx2.Client) -> None:
    days = {"since": "2010-12-01", "until": "2010-12-02"}
    problem(customer.post("/reports/revenue", json=days), 403)
    problem(anyone.post("/reports/revenue", json=days), 401)


def test_a_report_of_no_days_is_refused(admin: httpx2.Client) -> None:
    found = problem(admin.post("/reports/revenue", json={"since": "2010-12-02", "until": "2010-12-01"}), 422)
    assert found["errors"][0]["path"] == "until"


def test_a_picture_is_cut_to_size_and_served_with_an_etag(
    admin: httpx2.Client, anyone: httpx2.Client, product: str
) -> None:
    out = io.BytesIO()
    Image.new("RGB", (900, 300), "#2f6fde").save(out, "PNG")
    sent = admin.put(f"/pictures/{product}", files={"picture": ("../../x.png", out.getvalue(), "image/png")})
    assert sent.status_code == 202, sent.text
    eventually(lambda: anyone.get(f"/pictures/{product}").json()["state"] == "ready")
    small = anyone.get(f"/pictures/{product}/small")
    assert Image.open(io.BytesIO(small.content)).size == (160, 53)
    assert small.headers["content-type"] == "image/webp"
    again = anyone.get(f"/pictures/{product}/small", headers={"if-none-match": small.headers["etag"]})
    assert again.status_code == 304


def test_a_file_that_only_looks_like_a_picture_is_refused(
    admin: httpx2.Client, anyone: httpx2.Client, product: str
) -> None:
    sent = admin.put(f"/pictures/{product}", files={"picture": ("x.png", b"\x89PNG\r\n\x1a\nnot really")})
    assert sent.status_code == 202, sent.text
    picture = eventually(
        lambda: (found := anyone.get(f"/pictures/{product}").json())["state"] != "processing" and found
    )
    assert picture["state"] == "refused"
    assert "not a picture" in picture["reason"]
    problem(anyone.get(f"/pictures/{product}/small"), 404)


def test_a_text_file_is_no_picture(admin: httpx2.Client, product: str) -> None:
    problem(admin.put(f"/pictures/{product}", files={"picture": ("x.png", b"hello")}), 415)
