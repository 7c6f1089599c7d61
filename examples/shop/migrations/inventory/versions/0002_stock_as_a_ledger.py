"""stock as a ledger

What was in stock before is the first event of each product.

Revision 4c0b9a52d7e1, made on 2026-11-22.
"""

from __future__ import annotations

import json
import time

import sqlalchemy as sa
from alembic import op

revision = "4c0b9a52d7e1"
down_revision = "9a1e383b2d6f"
branch_labels = None
depends_on = None

stock = sa.table("stock", sa.column("sku", sa.String), sa.column("available", sa.Integer))
event = sa.table(
    "tenfold_event",
    *(sa.column(name, sa.String) for name in ("category", "stream", "type", "data")),
    sa.column("version", sa.BigInteger),
    sa.column("at", sa.Double),
)


def upgrade() -> None:
    connection = op.get_bind()
    now = time.time()
    opening = [
        {
            "category": "inventory.stock",
            "stream": sku,
            "version": 1,
            "type": "Received",
            "data": json.dumps({"version": 1, "data": {"quantity": available, "note": "opening stock"}}),
            "at": now,
        }
        for sku, available in connection.execute(sa.select(stock))
    ]
    if opening:
        connection.execute(sa.insert(event), opening)
