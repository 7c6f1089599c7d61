"""What needs a clock that can be moved, or a look behind the API: the shop inside the test's own process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import pytest

from shop import catalog, inventory
from shop.app import app
from shop.catalog import Product
from shop.orders.declared import Item
from tenfold import Principal
from tenfold.testing import TestApp

pytestmark = pytest.mark.anyio

CUSTOMER = Principal(id="c-1", email="c@shop.example")
LINES = {"lines": [{"sku": "TEA", "quantity": 4}]}


async def with_tea(test: Callable[[TestApp], Awaitable[None]]) -> None:
    """Run ``test`` in a shop that has ten of one product, for a customer who is logged in."""
    async with app.test() as t:
        async with catalog.db.tx() as tx:
            await catalog.store(tx, [Product("TEA", "Tea", "Drinks", 250)])
        async with inventory.db.tx() as tx:
            delivery = inventory.Delivery("one", [Item("TEA", 10)])
            await inventory.store(tx, delivery, datetime(2026, 1, 1, tzinfo=UTC))
        t.login(CUSTOMER)
        await test(t)


async def left() -> int:
    return (await inventory.get_stock("TEA")).available


async def test_a_hold_without_an_order_is_released_after_a_while() -> None:
    async def test(t: TestApp) -> None:
        await inventory.hold("nobody-came-back", [Item("TEA", 3)])
        assert await left() == 7
        await t.advance(14 * 60)
        assert await left() == 7, "too early: the request may still be under way"
        await t.advance(3 * 60)
        assert await left() == 10

    await with_tea(test)


async def test_a_placed_order_keeps_its_goods_however_long_it_takes() -> None:
    async def test(t: TestApp) -> None:
        (await t.client.post("/orders", json=LINES, headers={"idempotency-key": "k"})).expect(201)
        await t.advance(3600)
        assert await left() == 6

    await with_tea(test)


async def test_holding_again_for_the_same_order_takes_nothing_twice() -> None:
    """A client whose server died between hold and order comes back, perhaps with another quantity."""

    async def test(t: TestApp) -> None:
        for quantity in (3, 3, 5, 2):
            await inventory.hold("same", [Item("TEA", quantity)])
            assert await left() == 10 - quantity

    await with_tea(test)


async def test_an_expired_token_is_refused() -> None:
    async with app.test() as t:
        form = {"email": "eve@shop.example", "password": "correct-horse-battery", "name": "Eve"}
        (await t.client.post("/accounts/register", json=form)).expect(201)
        del form["name"]
        token = (await t.client.post("/accounts/login", json=form)).expect(200).json()["access_token"]
        headers = {"authorization": f"Bearer {token}"}
        (await t.client.get("/accounts/me", headers=headers)).expect(200)
        await t.advance(3600)
        refused = (await t.client.get("/accounts/me", headers=headers)).expect(401).json()
        assert refused["type"].endswith("expired-token")
