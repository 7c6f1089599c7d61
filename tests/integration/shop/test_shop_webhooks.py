"""Partners are told of orders; the payment provider tells that one was paid."""

from __future__ import annotations

import http.server
import json
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from standardwebhooks import Webhook

from shop.demo import PAYMENT_SECRET
from support.shop_server import Shop
from tenfold.webhooks import signature


class Partner:
    """Takes webhooks on loopback; the first attempt of each fails."""

    def __init__(self) -> None:
        self.taken: list[tuple[dict[str, str], bytes]] = []
        self.seen: set[str] = set()
        partner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                id_ = self.headers["webhook-id"]
                status = 200 if id_ in partner.seen else 503
                partner.seen.add(id_)
                if status == 200:
                    partner.taken.append(({k.lower(): v for k, v in self.headers.items()}, body))
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None: ...

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/orders"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def partner() -> Iterator[Partner]:
    made = Partner()
    yield made
    made.server.shutdown()
    made.server.server_close()


def an_order(admin: httpx2.Client, customer: httpx2.Client) -> dict[str, Any]:
    sku = f"H-{uuid.uuid4().hex[:12]}"
    admin.put("/products", json=[{"sku": sku, "name": "Hook", "category": "Tests", "price": 700}])
    admin.post("/deliveries", json={"note": sku, "items": [{"sku": sku, "quantity": 5}]})
    lines = {"lines": [{"sku": sku, "quantity": 2}]}
    placed = customer.post("/orders", json=lines, headers={"idempotency-key": sku})
    assert placed.status_code == 201, placed.text
    return dict(placed.json())


def pay(
    client: httpx2.Client,
    order: dict[str, Any],
    *,
    id_: str = "",
    amount: int | None = None,
    kind: str = "succeeded",
) -> httpx2.Response:
    id_ = id_ or f"pay_{uuid.uuid4().hex}"
    data = {"order_id": order["id"], "amount": order["total"] if amount is None else amount}
    body = json.dumps({"type": f"payment.{kind}", "data": data}).encode()
    at = int(time.time())
    headers = {
        "webhook-id": id_,
        "webhook-timestamp": str(at),
        "webhook-signature": signature.sign([PAYMENT_SECRET], id_, at, body),
    }
    return client.post("/hooks/payments", content=body, headers=headers)


def eventually(ask: Any, within_s: float = 20.0) -> Any:
    until = time.monotonic() + within_s
    while not (answer := ask()):
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.05)
    return answer


def test_a_partner_gets_a_signed_webhook_per_order_although_its_first_answer_is_503(
    shop: Shop, admin: httpx2.Client, customer: httpx2.Client, partner: Partner
) -> None:
    added = admin.post("/webhooks", json={"url": partner.url, "topics": ["orders.order-placed"]})
    assert added.status_code == 201, added.text
    secret, endpoint = added.json()["secret"], added.json()["endpoint"]["id"]
    order = an_order(admin, customer)
    headers, body = eventually(lambda: partner.taken)[0]
    Webhook(secret).verify(body, headers)
    assert json.loads(body)["type"] == "orders.order-placed"
    assert json.loads(body)["data"]["order_id"] == order["id"]
    log = f"/webhooks/{endpoint}/deliveries"
    eventually(lambda: admin.get(log).json()[0]["state"] == "delivered")
    [delivery] = admin.get(log).json()
    assert (delivery["attempts"], delivery["status"]) == (2, 200)
    assert admin.delete(f"/webhooks/{endpoint}").status_code == 204


def test_an_order_is_paid_once_by_the_providers_webhook(
    admin: httpx2.Client, customer: httpx2.Client, anyone: httpx2.Client
) -> None:
    order = an_order(admin, customer)
    assert order["paid_at"] is None
    assert pay(anyone, order, kind="failed").status_code == 202
    for _ in range(3):
        assert pay(anyone, order, id_=f"pay_{order['id']}").status_code == 202
    paid_at = eventually(lambda: customer.get(f"/orders/{order['id']}").json()["paid_at"])
    assert pay(anyone, order).status_code == 202
    assert customer.get(f"/orders/{order['id']}").json()["paid_at"] == paid_at


def test_a_forged_payment_is_refused(
    admin: httpx2.Client, customer: httpx2.Client, anyone: httpx2.Client
) -> None:
    order = an_order(admin, customer)
    body = json.dumps({"type": "payment.succeeded", "data": {"order_id": order["id"], "amount": 1400}})
    headers = {"webhook-id": "x", "webhook-timestamp": str(int(time.time())), "webhook-signature": "v1,AAAA"}
    refused = anyone.post("/hooks/payments", content=body, headers=headers)
    assert (refused.status_code, refused.json()["type"]) == (401, "urn:tenfold:problem:wrong-signature")
    assert anyone.post("/hooks/payments", content=body).status_code == 401


def test_a_wrong_amount_pays_nothing(
    admin: httpx2.Client, customer: httpx2.Client, anyone: httpx2.Client
) -> None:
    order = an_order(admin, customer)
    assert pay(anyone, order, amount=1).status_code == 202
    right = an_order(admin, customer)
    assert pay(anyone, right).status_code == 202
    eventually(lambda: customer.get(f"/orders/{right['id']}").json()["paid_at"])
    assert customer.get(f"/orders/{order['id']}").json()["paid_at"] is None
