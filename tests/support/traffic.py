"""Open-loop traffic on the shop: arrivals do not wait for answers, and every request leaves a record."""

from __future__ import annotations

import asyncio
import itertools
import random
import threading
import time
import uuid
from dataclasses import dataclass
from typing import Any, Self

import httpx2

from shop.demo import ADMIN, ADMIN_PASSWORD

SKUS = [f"TRAFFIC-{n:02d}" for n in range(20)]
STOCK = 100_000


@dataclass(slots=True)
class Record:
    """One request: when it was meant to start, how long it took from then, and what came of it."""

    kind: str
    at: float
    took_s: float = 0.0
    status: int = 0
    said: str = ""
    order_id: str = ""
    quantity: int = 0
    sku: str = ""


class Traffic:
    """``rate`` requests a second from ``__enter__`` to ``__exit__``: two of five place an order, the rest read."""

    def __init__(self, url: str, rate: float) -> None:
        self.records: list[Record] = []
        self._url, self._rate = url, rate
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True)

    def __enter__(self) -> Self:
        self._prepare()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)

    # ── what became of it ──

    @property
    def failed(self) -> list[Record]:
        """What was not answered as it should be."""
        return [r for r in self.records if r.status not in (200, 201)]

    @property
    def orders(self) -> list[Record]:
        """Acknowledged orders."""
        return [r for r in self.records if r.kind == "order" and r.status == 201]

    @property
    def slowest_s(self) -> float:
        return max(r.took_s for r in self.records)

    def sold(self) -> int:
        """Goods in the acknowledged orders."""
        return sum(r.quantity for r in self.orders)

    # ── within ──

    def _prepare(self) -> None:
        with httpx2.Client(base_url=self._url, timeout=30) as client:
            form = {"email": ADMIN, "password": ADMIN_PASSWORD}
            token = client.post("/accounts/login", json=form).json()["access_token"]
            self._headers = {"authorization": f"Bearer {token}"}
            products = [{"sku": sku, "name": sku, "category": "Traffic", "price": 100} for sku in SKUS]
            assert client.put("/products", json=products, headers=self._headers).status_code == 200
            items = [{"sku": sku, "quantity": STOCK} for sku in SKUS]
            delivery = {"note": "traffic", "items": items}
            assert client.post("/deliveries", json=delivery, headers=self._headers).status_code == 201

    async def _main(self) -> None:
        chance = random.Random(7)
        limits = httpx2.Limits(max_connections=600, max_keepalive_connections=600)
        async with (
            httpx2.AsyncClient(base_url=self._url, timeout=30, limits=limits) as client,
            asyncio.TaskGroup() as group,
        ):
            begun = time.monotonic()
            for number in itertools.count():
                due = begun + number / self._rate
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                if self._stop.is_set():
                    return
                group.create_task(self._send(client, due, chance.random(), chance.choice(SKUS)))

    async def _send(self, client: httpx2.AsyncClient, due: float, lot: float, sku: str) -> None:
        record = Record("order" if lot < 0.4 else "read", due, sku=sku)
        self.records.append(record)
        try:
            response = await (self._order(client, record) if lot < 0.4 else self._read(client, sku, lot))
        except httpx2.TransportError as error:
            record.said = repr(error)
        else:
            record.status = response.status_code
            record.said = "" if response.is_success else response.text[:300]
            if record.kind == "order" and response.is_success:
                record.order_id = response.json()["id"]
        record.took_s = time.monotonic() - due

    async def _order(self, client: httpx2.AsyncClient, record: Record) -> Any:
        record.quantity = 1 + hash(record.at) % 3
        body = {"lines": [{"sku": record.sku, "quantity": record.quantity}]}
        headers = {**self._headers, "idempotency-key": str(uuid.uuid4())}
        return await client.post("/orders", json=body, headers=headers)

    async def _read(self, client: httpx2.AsyncClient, sku: str, lot: float) -> Any:
        if lot < 0.9:
            return await client.get(f"/stock/{sku}")
        return await client.get("/orders", headers=self._headers)
