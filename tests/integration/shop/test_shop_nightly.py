"""Every night, all orders: summed up by month, drawn, listed, and mailed to the admin."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from shop import catalog, inventory
from shop.app import app
from shop.catalog import Product
from shop.demo import ADMIN
from shop.orders.declared import Item
from shop.reports.nightly import Month, months_between
from tenfold import Principal

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

ADMINISTRATOR = Principal(id="a", email=ADMIN, roles=frozenset({"admin"}))


async def test_all_orders_are_reported_once_listed_and_mailed() -> None:
    async with app.test() as t:
        async with catalog.db.tx() as tx:
            await catalog.store(tx, [Product("TEA", "Tea", "Drinks", 250)])
        async with inventory.db.tx() as tx:
            await inventory.store(
                tx, inventory.Delivery("one", [Item("TEA", 100)]), datetime(2025, 1, 1, tzinfo=UTC)
            )
        t.login(ADMINISTRATOR)
        today = datetime.fromtimestamp(t.clock.now(), UTC)
        months = [(today.year - 1, 3), (today.year - 1, 4), (today.year - 1, 11)]
        for n, (year, month) in enumerate(months, start=1):
            order: dict[str, Any] = {
                "lines": [{"sku": "TEA", "quantity": n}],
                "ordered_at": f"{year}-{month:02d}-05T10:00:00Z",
                "country": "France" if n == 2 else "Japan",
            }
            (await t.client.post("/orders", json=order, headers={"idempotency-key": f"k{n}"})).expect(201)
        at_three = today.replace(hour=3, minute=0, second=0) + timedelta(days=today.hour >= 3)
        t.clock.jump((at_three - today).total_seconds() - 5)
        await t.advance(30)
        listed = (await t.client.get("/reports")).expect(200).json()
        [report] = listed["items"]
        assert (report["kind"], report["state"]) == ("nightly", "done")
        assert (report["orders"], report["lines"], report["revenue"]) == (3, 3, 6 * 250)
        assert report["since"] == date(today.year - 1, 3, 5).isoformat()
        table = (await t.client.get(f"/reports/{report['id']}/revenue.csv")).expect(200).text.splitlines()
        assert table[2] == f"{today.year - 1}-04-05,France,1,1,5.00"
        chart = (await t.client.get(f"/reports/{report['id']}/revenue.png")).expect(200)
        assert chart.content.startswith(b"\x89PNG")
        [mail] = [mail for mail in t.mails if mail.to == (ADMIN,) and "All orders" in mail.subject]
        assert "£15.00" in mail.text
        assert "£15.00" in (mail.html or "")
        names = [part.get_filename() for part in mail.message.iter_attachments()]
        assert names == ["revenue.csv", "revenue.png"]


def test_months_are_cut_to_the_days_in_question() -> None:
    assert list(months_between(date(2025, 12, 30), date(2026, 2, 1))) == [
        Month(date(2025, 12, 30), date(2025, 12, 31)),
        Month(date(2026, 1, 1), date(2026, 1, 31)),
        Month(date(2026, 2, 1), date(2026, 2, 1)),
    ]
    assert list(months_between(date(2026, 1, 5), date(2026, 1, 5))) == [
        Month(date(2026, 1, 5), date(2026, 1, 5))
    ]
