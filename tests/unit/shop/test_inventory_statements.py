"""What an order's hold costs the database."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from shop import inventory
from shop.app import app
from shop.orders.declared import Item
from tenfold.db.plan import PlanCache
from tenfold.testing import TestApp

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("lines", [1, 20])
async def test_a_hold_takes_four_statements_however_many_lines_it_has(
    lines: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Is there an older hold; append, project; note the hold. The stock is in memory since the delivery."""
    items = [Item(f"TEA{n}", 2) for n in range(lines)]
    executed: list[Any] = []
    bind = PlanCache.bind

    def counted(cache: PlanCache, statement: Any, params: Any) -> Any:
        executed.append(statement)
        return bind(cache, statement, params)

    async with TestApp(app) as t:
        async with inventory.db.tx() as tx:
            delivery = inventory.Delivery("one", items)
            await inventory.store(tx, delivery, datetime(2026, 1, 1, tzinfo=UTC))
        async with inventory.db.tx() as tx:
            tx._bind = lambda statement, params: counted(tx.database.backend.plans, statement, params)
            await inventory.hold.fn("order", items, tx, t.clock)
    assert len(executed) == 4
