"""Five times what the shop can serve: checkout goes on, browsing gets what is left, reports wait for another day."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shop.app import app as shop
from support.openloop import Ended, Load, Requests
from support.shop_server import Shop
from tenfold.http.overview import overview

PRODUCTS, ON_SALE = 4_000, 100
WARM_S, LOAD_S = 1.0, 3.0
TIMES = 5
SHARES = {"checkout": 0.012, "listing": 0.788, "report": 0.2}
"""Checkout alone is well below what the shop can serve at five times its capacity; the rest is not."""


class Visitors:
    """The bytes of their requests, in the proportions of :data:`SHARES`."""

    def __init__(self, customer: str, admin: str) -> None:
        self._customer, self._admin = customer, admin
        self._chance = random.Random(5)
        self._numbers = itertools.count()

    def requests(self) -> Requests:
        kinds, weights = list(SHARES), list(SHARES.values())
        while True:
            (kind,) = self._chance.choices(kinds, weights)
            yield kind, getattr(self, f"_{kind}")(next(self._numbers))

    def _checkout(self, number: int) -> bytes:
        body = json.dumps({"lines": [{"sku": f"LOAD-{number % ON_SALE}", "quantity": 1}]}).encode()
        key = f"idempotency-key: {uuid.uuid4()}\r\n"
        return _request("POST", "/orders", self._customer, key, body)

    def _listing(self, number: int) -> bytes:
        """A search that no one made before, so that no cache has it."""
        return _request("GET", f"/products?q=thing+{number}&per_page=24", "")

    def _report(self, number: int) -> bytes:
        return _request("GET", "/reports?per_page=24", self._admin)


def _request(method: str, path: str, token: str, extra: str = "", body: bytes = b"") -> bytes:
    who = f"authorization: Bearer {token}\r\n" if token else ""
    what = f"content-type: application/json\r\ncontent-length: {len(body)}\r\n" if body else ""
    return f"{method} {path} HTTP/1.1\r\nhost: shop\r\n{who}{extra}{what}\r\n".encode() + body


@pytest.fixture
def busy_shop(new_shop: Callable[..., Shop], tmp_path: Path) -> Iterator[Shop]:
    """A shop of its own with a catalogue that takes a while to search; jobs run elsewhere."""
    running = new_shop(tmp_path, worker_enabled="false", log_access="false", database_slow_s="10")
    running.start()
    with running.admin() as admin:
        for first in range(0, PRODUCTS, 500):
            products = [
                {"sku": f"LOAD-{n}", "name": f"thing {n}", "category": "Load", "price": 100}
                for n in range(first, first + 500)
            ]
            assert admin.put("/products", json=products).status_code == 200
        items = [{"sku": f"LOAD-{n}", "quantity": 1000} for n in range(ON_SALE)]
        assert admin.post("/deliveries", json={"note": "load", "items": items}).status_code == 201
    yield running
    running.stop()


def share(ended: list[Ended], kind: str) -> float:
    """Which part of the requests of a kind was served."""
    of_kind = [one for one in ended if one.kind == kind]
    assert of_kind
    return sum(one.status in (200, 201) for one in of_kind) / len(of_kind)


def bearer(running: Shop, client: str) -> str:
    with getattr(running, client)() as signed_in:
        return str(signed_in.headers["authorization"]).removeprefix("Bearer ")


async def overload(running: Shop) -> tuple[float, list[Ended]]:
    """What the shop serves a second when it is just full, and what came of five times that."""
    visitors = Visitors(bearer(running, "customer"), bearer(running, "admin"))
    load = Load(int(running.url.rpartition(":")[2]))
    try:
        await load.closed(visitors.requests(), connections=4, seconds=0.3)
        just_full = await load.closed(visitors.requests(), connections=4, seconds=WARM_S)
        capacity = sum(one.status in (200, 201) for one in just_full) / WARM_S
        return capacity, await load.open(visitors.requests(), rate=TIMES * capacity, seconds=LOAD_S)
    finally:
        load.stop()


def test_at_five_times_its_capacity_the_shop_still_sells(
    busy_shop: Shop, trials: Callable[[str, int, str], None]
) -> None:
    capacity, ended = asyncio.run(overload(busy_shop))
    served = {kind: share(ended, kind) for kind in SHARES}
    print(f"capacity {capacity:.0f}/s, {len(ended)} requests, served: {served}")
    trials(
        "G14", sum(one.kind == "checkout" for one in ended), "checkouts of the shop at 5 times its capacity"
    )
    assert served["checkout"] >= 0.99
    assert served["listing"] < 0.6, "it was not overloaded"
    assert served["report"] < served["listing"]
    refused = [one for one in ended if one.status == 503]
    assert len(refused) >= 0.3 * len(ended), "what is not served is refused, and not left waiting"


def test_checkout_is_critical_browsing_default_and_reports_sheddable() -> None:
    shop.configure(environ={})
    rows = overview(shop.operations, shop.inherited, shop.limits, shop.settings.http)
    priorities = {row.operation: p.value for row in rows for p in row.policies if p.name == "priority"}
    assert priorities["orders.place_order"] == "critical"
    assert priorities["catalog.list_products"] == "default"
    assert {priorities[f"reports.{name}"] for name in ("start_report", "download_csv")} == {"sheddable"}
