"""The books of a real shop, which tests sell through ours: its first invoices, or all of them."""

from __future__ import annotations

import csv
import os
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import pytest

FILE = Path(os.environ.get("SHOP_LEDGER", Path(__file__).parents[3] / "shared/data/online_retail_sample.csv"))
needs_books = pytest.mark.skipif(not FILE.exists(), reason=f"the ledger {FILE} is not here")


class Books(NamedTuple):
    """A ledger for the shop's replay, and what has to come of it."""

    path: Path
    invoices: int
    products: int
    agreed: str
    """The replay's last line when the shop's books and these agree."""


def write_books(folder: Path, invoices: int | None = None) -> Books:
    """The first ``invoices`` of them, in a file in ``folder``; all by default."""
    with FILE.open(newline="") as file:
        lines = list(csv.DictReader(file))
    chosen = list(dict.fromkeys(line["InvoiceNo"] for line in lines))[:invoices]
    lines = [line for line in lines if line["InvoiceNo"] in set(chosen)]
    path = folder / "ledger.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    total = sum(Decimal(line["UnitPrice"]) * int(line["Quantity"]) for line in lines)
    agreed = (
        f"replay: orders={len(chosen)} lines={len(lines)} receipts={len(chosen)} "
        f"revenue={total:.2f} ledger={total:.2f} difference=0.00"
    )
    return Books(path, len(chosen), len({line["StockCode"] for line in lines}), agreed)
