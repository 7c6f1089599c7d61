"""A shop that kept its stock as numbers only goes on with them as the first event of each product."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from shop import inventory
from support.orders_db import opened
from tenfold._core.clock import SystemClock
from tenfold.db import migrations
from tenfold.db.revisions import version_table

pytestmark = pytest.mark.anyio

BEFORE = "9a1e383b2d6f"
FILLED = {"MUG-001": 7, "LAMP-2": 0, "ÄRMEL'S": 120}


@pytest.fixture(params=["", "postgres_url", "mariadb_url"])
def url(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(request.param) if request.param else "sqlite:///shop.db"
    return found


async def test_what_was_in_stock_becomes_the_first_event_of_each_product(tmp_path: Path, url: str) -> None:
    async with opened(tmp_path, url=url, metadata=sa.MetaData()) as database:
        inventory.db.bind(database.backend)
        try:
            await migrations.upgrade([inventory.db])
            back = sa.text(f"UPDATE {version_table(inventory.db)} SET version_num = '{BEFORE}'")
            async with inventory.db.tx() as tx:
                await tx.execute(back)
                await tx.execute(
                    sa.insert(inventory.stock_table),
                    [{"sku": sku, "available": available} for sku, available in FILLED.items()],
                )
            await migrations.upgrade([inventory.db])
            inventory.ledger.bind(SystemClock(), (), None)
            loaded = await inventory.ledger.load_many(inventory.db.read(), FILLED)
            assert {sku: found.version for sku, found in loaded.items()} == dict.fromkeys(FILLED, 1)
            history = [event async for event in inventory.ledger.history(inventory.db.read(), "MUG-001")]
            assert [(event.data.quantity, event.data.note) for event in history] == [(7, "opening stock")]
        finally:
            inventory.ledger.unbind()
            inventory.db.unbind()
