"""The shop moves from SQLite to a server under traffic: nothing fails, nothing is lost, nothing happens twice."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from support.shop_server import Shop
from support.traffic import SKUS, STOCK, Traffic

Grow = Callable[..., Any]

RATE = 200.0
PAUSE_MAX_S = 2.0


def books(url: str) -> dict[str, object]:
    """What the new database says about the traffic's orders."""
    engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect() as connection:

        def one(sql: str) -> object:
            return connection.execute(sa.text(sql)).scalar_one()

        found = {
            "orders": set(connection.execute(sa.text("SELECT id FROM orders")).scalars()),
            "lines": one("SELECT coalesce(sum(quantity), 0) FROM order_lines"),
            "receipts": one("SELECT count(*) FROM receipts WHERE sent_at IS NOT NULL"),
            "stock": one("SELECT sum(available) FROM stock WHERE sku LIKE 'TRAFFIC-%'"),
            "unsold": one("SELECT count(*) FROM holds WHERE NOT sold"),
            "pending": one("SELECT count(*) FROM tenfold_message WHERE kind <> 'tick'"),
            "dead": one("SELECT count(*) FROM tenfold_message_archive WHERE state = 'dead'"),
        }
    engine.dispose()
    return found


def settled_books(url: str, seconds: float) -> dict[str, object]:
    """The books once no message is pending."""
    until = time.monotonic() + seconds
    while (found := books(url))["pending"] and time.monotonic() < until:
        time.sleep(0.1)
    return found


def judge(shop: Shop, traffic: Traffic, url: str) -> None:
    assert traffic.failed == []
    found = settled_books(url, 30)
    placed = {record.order_id for record in traffic.orders}
    assert found == {
        "orders": placed,
        "lines": traffic.sold(),
        "receipts": len(placed),
        "stock": len(SKUS) * STOCK - traffic.sold(),
        "unsold": 0,
        "pending": 0,
        "dead": 0,
    }
    mailed = [mail.split("Order ")[1].split()[0] for mail in shop.mails("Order ")]
    assert sorted(mailed) == sorted(placed)


def pause_s(said: str) -> float:
    found = re.search(r"held for ([0-9.]+) s", said)
    assert found is not None, said
    return float(found[1])


@pytest.mark.timeout(150)
def test_a_shop_under_traffic_moves_to_postgresql(shop: Shop, grow: Grow, postgres_url: str) -> None:
    with Traffic(shop.url, RATE) as traffic:
        time.sleep(1.0)
        done = grow("--to", postgres_url, "--live", shop.ops_url)
        time.sleep(1.0)
    assert done.returncode == 0, done.stdout + done.stderr
    assert pause_s(done.stdout) <= PAUSE_MAX_S
    judge(shop, traffic, postgres_url)
    assert sqlite3.connect(shop.data / "app.db").execute("SELECT moved_at FROM tenfold_grow").fetchone()[0]
