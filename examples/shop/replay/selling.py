"""The replay itself: load products, deliver goods, place orders, wait, compare."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import Awaitable, Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from shop.money import pence
from shop.replay.client import Client, Refused
from shop.replay.ledger import Invoice, Product, Summary, invoices
from shop.replay.progress import Step, step
from shop.replay.verdict import Verdict

T = TypeVar("T")

BATCH = 500
ALREADY_PLACED = "urn:tenfold:problem:already-placed"


async def replay(
    client: Client, path: Path, ledger: Summary, *, concurrency: int, patience_s: float
) -> Verdict:
    """Sell the whole ledger and return the comparison. Running it again changes nothing and agrees again."""
    await load_products(client, ledger)
    await place_orders(client, path, ledger, concurrency)
    days = _days(ledger)
    receipts = await wait_for_receipts(client, days, ledger.invoices, patience_s)
    orders, lines, revenue = await report(client, days)
    return Verdict(orders, lines, receipts, revenue, ledger.invoices, ledger.lines, ledger.revenue)


async def load_products(client: Client, ledger: Summary) -> None:
    """Put the ledger's products into the catalogue, and exactly the goods that it sells into the stock."""
    with step("products", len(ledger.products)) as shown:
        done = 0
        for number, batch in enumerate(_batches(iter(ledger.products.values()), BATCH)):
            await client.json("PUT", "/products", json=[_product(product) for product in batch])
            items = [{"sku": product.sku, "quantity": product.quantity} for product in batch]
            # The note names the ledger: the shop counts the goods of a delivery note once, however often it comes.
            await client.json(
                "POST", "/deliveries", json={"note": f"ledger-{ledger.digest}-{number}", "items": items}
            )
            done += len(batch)
            shown.to(done)


async def place_orders(client: Client, path: Path, ledger: Summary, concurrency: int) -> None:
    """Place every invoice as an order, ``concurrency`` of them at a time."""
    source = invoices(path, ledger)
    done = 0

    async def place_next(shown: Step) -> None:
        nonlocal done
        for invoice in source:  # shared: whoever is free takes the next one
            await _place(client, invoice)
            done += 1
            shown.to(done)

    with step("orders", ledger.invoices) as shown:
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(place_next(shown))


async def wait_for_receipts(client: Client, days: dict[str, str], expected: int, patience_s: float) -> int:
    """Until as many receipts are sent as there are invoices, or none has been for ``patience_s``."""
    with step("receipts", expected) as shown:

        async def sent() -> tuple[int, bool]:
            found = await client.json("GET", "/receipts", params=days)
            shown.to(found["sent"])
            return found["sent"], found["sent"] >= expected and found["sent"] == found["due"]

        return await _poll(sent, patience_s)


async def report(client: Client, days: dict[str, str]) -> tuple[int, int, int]:
    """Have the report made; orders, lines and revenue (pence) as the sums of its CSV file."""
    started = await client.json("POST", "/reports/revenue", json=days)
    where = f"/reports/{started['id']}"

    async def finished() -> tuple[int, bool]:
        found = await client.json("GET", where)
        return found["days_done"], found["state"] == "done"

    await _poll(finished, 120.0)
    rows = list(csv.DictReader(io.StringIO((await client.call("GET", f"{where}/revenue.csv")).text)))
    orders, lines = (sum(int(row[name]) for row in rows) for name in ("orders", "lines"))
    return orders, lines, sum(pence(row["revenue"]) for row in rows)


async def _place(client: Client, invoice: Invoice) -> None:
    try:
        await client.json(
            "POST", "/orders", json=_order(invoice), headers={"idempotency-key": invoice.number}
        )
    except Refused as error:
        # The shop forgets an Idempotency-Key after a day; it never forgets an order.
        if error.type != ALREADY_PLACED:
            raise Refused(f"Invoice {invoice.number}", error.status, error.problem) from None


def _order(invoice: Invoice) -> dict[str, Any]:
    first = invoice.lines[0]
    buyer = f"customer-{first.customer}" if first.customer else f"guest-{invoice.number}"
    return {
        "reference": invoice.number,
        "ordered_at": first.ordered_at.isoformat(),
        "country": first.country,
        "email": f"{buyer}@ledger.example",
        "lines": [
            {"sku": line.sku, "quantity": line.quantity, "unit_price": line.unit_price}
            for line in invoice.lines
        ],
    }


def _product(product: Product) -> dict[str, Any]:
    return {"sku": product.sku, "name": product.name, "category": "Ledger", "price": product.price}


def _days(ledger: Summary) -> dict[str, str]:
    assert ledger.first is not None
    assert ledger.last is not None
    return {"since": ledger.first.date().isoformat(), "until": ledger.last.date().isoformat()}


async def _poll(ask: Callable[[], Awaitable[tuple[T, bool]]], patience_s: float) -> T:
    """Ask until the answer is final, or has not changed for ``patience_s``; the last answer."""
    loop = asyncio.get_running_loop()
    last, changed_at, pause = None, loop.time(), 0.05
    while True:
        value, final = await ask()
        if final:
            return value
        if value != last:
            last, changed_at = value, loop.time()
        if loop.time() - changed_at > patience_s:
            return value
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, 1.0)


def _batches(items: Iterator[T], size: int) -> Iterator[list[T]]:
    while batch := list(islice(items, size)):
        yield batch
