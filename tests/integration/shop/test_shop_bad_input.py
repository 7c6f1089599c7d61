"""Bad input of every kind gets a 4xx problem document that says what and where."""

from __future__ import annotations

import base64
import json
import uuid
from typing import Any

import httpx2
import pytest


def json_headers() -> dict[str, str]:
    """With a key of its own: a key belongs to one body."""
    return {"content-type": "application/json", "idempotency-key": uuid.uuid4().hex}


def check(response: httpx2.Response, status: int, *said: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert document["status"] == status
    for words in said:
        assert words in response.text, f"{words!r} is not said in {response.text}"
    return document


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        pytest.param(b'{"lines": [', 400, "JSON", id="malformed JSON"),
        pytest.param(b"", 400, "body", id="missing body"),
        pytest.param(b'{"lines": [{"sku": "\xff", "quantity": 1}]}', 400, "UTF-8", id="bad UTF-8"),
        pytest.param(b'{"lines": ' + b"[" * 5000 + b"]" * 5000 + b"}", 400, "deep", id="too deep"),
        pytest.param(b'{"lines": "all"}', 422, "lines", id="wrong type"),
        pytest.param(
            b'{"lines": [{"sku": "A", "quantity": 1}], "cuopon": 1}', 422, "cuopon", id="unknown field"
        ),
        pytest.param(
            b'{"lines": [{"sku": "A", "quantity": -5}]}', 422, "lines[0].quantity", id="negative quantity"
        ),
        pytest.param(b'{"lines": []}', 422, "lines", id="no lines"),
        pytest.param(b'{"lines": [' + b" " * 1_100_000 + b"]}", 413, "bytes", id="too large"),
    ],
)
def test_a_bad_body_is_explained(customer: httpx2.Client, body: bytes, status: int, said: str) -> None:
    check(customer.post("/orders", content=body, headers=json_headers()), status, said)


def test_another_content_type_is_refused(customer: httpx2.Client) -> None:
    headers = json_headers() | {"content-type": "text/xml"}
    check(customer.post("/orders", content=b"<order/>", headers=headers), 415, "text/xml")


def test_another_method_is_refused_with_those_that_are_allowed(customer: httpx2.Client) -> None:
    response = customer.delete("/products")
    check(response, 405, "DELETE")
    assert {"GET", "POST", "PUT"} <= set(response.headers["allow"].replace(" ", "").split(","))


def test_an_unknown_path_is_named(customer: httpx2.Client) -> None:
    check(customer.get("/prodcuts"), 404, "/prodcuts")


def test_a_page_beyond_the_end_is_refused_with_the_last_one(anyone: httpx2.Client) -> None:
    found = check(anyone.get("/products", params={"category": "Kitchen", "page": 900}), 404, "page 900")
    assert check(anyone.get("/orders", params={"page": 2}), 401)
    assert found["last_page"] >= 1


def test_the_first_page_of_nothing_is_empty(anyone: httpx2.Client) -> None:
    assert anyone.get("/products", params={"q": "no such thing"}).json()["items"] == []


@pytest.mark.parametrize("page", ["0", "-1", "1.5", "one", ""])
def test_a_page_that_is_no_number_is_refused(anyone: httpx2.Client, page: str) -> None:
    found = check(anyone.get("/products", params={"page": page}), 422)
    assert [(e["in"], e["path"]) for e in found["errors"]] == [("query", "page")]


def test_a_forged_token_is_refused(anyone: httpx2.Client, customer: httpx2.Client) -> None:
    head, body, signature = customer.headers["authorization"].removeprefix("Bearer ").split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    claims["sub"] = "somebody-else"
    forged = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    unsigned = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').rstrip(b"=").decode()
    for token in (f"{head}.{forged}.{signature}", f"{unsigned}.{forged}.", "rubbish", f"{head}.{body}.AAAA"):
        response = anyone.get("/orders", headers={"authorization": f"Bearer {token}"})
        check(response, 401, "invalid-token")
        assert response.headers["www-authenticate"].startswith("Bearer")


def test_no_token_is_refused(anyone: httpx2.Client) -> None:
    check(anyone.get("/orders"), 401)


def test_a_wrong_password_tells_nothing_about_the_account(anyone: httpx2.Client) -> None:
    known = {"email": "ada@shop.example", "password": "wrong"}
    unknown = {"email": "nobody@shop.example", "password": "wrong"}
    answers = [check(anyone.post("/accounts/login", json=form), 401)["detail"] for form in (known, unknown)]
    assert answers[0] == answers[1]


def test_an_address_can_be_registered_once(anyone: httpx2.Client) -> None:
    form = {"email": "Ada@SHOP.example", "password": "a perfectly long one", "name": "Ada"}
    check(anyone.post("/accounts/register", json=form), 409)


def test_a_weak_password_is_refused(anyone: httpx2.Client) -> None:
    form = {"email": "weak@shop.example", "password": "short", "name": "Weak"}
    found = check(anyone.post("/accounts/register", json=form), 422)
    assert found["errors"][0]["path"] == "password"


def test_a_customer_is_no_admin(customer: httpx2.Client) -> None:
    product = {"sku": "X", "name": "X", "category": "X", "price": 1}
    check(customer.put("/products", json=[product]), 403, "admin")
    check(customer.post("/products", json=product), 403)
    check(customer.post("/deliveries", json={"note": "x", "items": [{"sku": "X", "quantity": 1}]}), 403)


def test_a_header_that_is_too_large_is_refused(anyone: httpx2.Client) -> None:
    response = anyone.get("/products", headers={"x-large": "x" * 20_000})
    assert response.status_code in (400, 431)
