"""The shop on each broker, by configuration alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from support.shop_server import Shop

URLS = {
    "rabbitmq": "rabbitmq_url", "redis": "redis_url", "kafka": "kafka_url", "nats": "nats_url", "sqs": "sqs_url",
}  # fmt: skip
"""The fixture that gives the URL of each broker."""


def eventually(ask: Callable[[], Any], within_s: float = 20.0) -> Any:
    """The first true answer."""
    until = time.monotonic() + within_s
    while not (answer := ask()):
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.05)
    return answer


@pytest.mark.parametrize(
    "broker",
    ["redis", *(pytest.param(name, marks=pytest.mark.soak) for name in ("rabbitmq", "kafka", "nats", "sqs"))],
)
def test_an_order_gets_its_receipt_through_a_broker(
    broker: str, new_shop: Callable[..., Shop], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Nothing but events.url differs; what was published reached its subscribers through the broker."""
    shop = new_shop(tmp_path, events=request.getfixturevalue(URLS[broker]))
    shop.start()
    with shop.admin() as admin, shop.customer() as customer:
        product = {"sku": "BROKER-1", "name": "Carried", "category": "Tests", "price": 1250}
        assert admin.put("/products", json=[product]).status_code == 200
        delivery = {"note": "note-1", "items": [{"sku": "BROKER-1", "quantity": 10}]}
        assert admin.post("/deliveries", json=delivery).status_code == 201
        order = customer.post(
            "/orders",
            json={"lines": [{"sku": "BROKER-1", "quantity": 2}]},
            headers={"idempotency-key": "one"},
        )
        assert order.status_code == 201, order.text
        [mail] = eventually(lambda: shop.mails(order.json()["id"]))
        assert "25.00" in mail
        metrics = httpx2.get(f"{shop.ops_url}/metrics").text
    taken = [line for line in metrics.splitlines() if line.startswith("tenfold_events_intake_taken_total")]
    assert sum(float(line.rpartition(" ")[2]) for line in taken) >= 1
    assert shop.stop() == 0
