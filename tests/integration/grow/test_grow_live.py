"""The shop moves from SQLite to a server under traffic: nothing fails, nothing is lost, nothing happens twice."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from support.books import needs_books, write_books
from support.orphans import die_with_parent
from support.shop_server import EXAMPLES, Shop
from support.traffic import SKUS, STOCK, Traffic

Grow = Callable[..., Any]

PAUSE_MAX_S = 2.0


def books(url: str) -> dict[str, Any]:
    """What the new database says about the traffic's orders."""
    engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    # One state: between two others, the last receipt is sent.
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:

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


def settled_books(url: str, seconds: float) -> dict[str, Any]:
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


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("rate", "before_s"),
    [(100.0, 1.0), pytest.param(200.0, 60.0, marks=pytest.mark.soak)],
    ids=["quick", "soak"],
)
def test_a_shop_under_traffic_moves_to_postgresql(
    shop: Shop, grow: Grow, postgres_url: str, rate: float, before_s: float
) -> None:
    with Traffic(shop.url, rate) as traffic:
        time.sleep(before_s)
        done = grow("--to", postgres_url, "--live", shop.ops_url)
        time.sleep(1.0)
    assert done.returncode == 0, done.stdout + done.stderr
    assert pause_s(done.stdout) <= PAUSE_MAX_S
    judge(shop, traffic, postgres_url)


@needs_books
@pytest.mark.soak
@pytest.mark.timeout(180)
def test_a_ledger_is_sold_to_the_penny_while_the_shop_moves(
    shop: Shop, grow: Grow, postgres_url: str, tmp_path: Path
) -> None:
    """Orders are placed and receipts sent from the first to the last moment of the move. (In the ordinary run the guide
    does that, docs/guides/growing.md.)"""
    ledger = write_books(tmp_path)
    command = [sys.executable, "-m", "shop.replay", str(ledger.path), "--url", shop.url]
    with subprocess.Popen(
        command, cwd=EXAMPLES, text=True, stdout=subprocess.PIPE, preexec_fn=die_with_parent
    ) as replay:
        done = grow("--to", postgres_url, "--live", shop.ops_url)
        said, _ = replay.communicate(timeout=150)
    assert done.returncode == 0, done.stdout + done.stderr
    assert said.splitlines()[-1] == ledger.agreed
    found = settled_books(postgres_url, 10)
    assert (len(found["orders"]), found["receipts"], found["dead"]) == (ledger.invoices, ledger.invoices, 0)
