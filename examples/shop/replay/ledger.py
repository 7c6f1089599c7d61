"""Read a sales ledger: lines in, invoices out. A broken line is reported and left out; the rest goes on.

The ledger is a CSV file with the columns of the "Online Retail" data set. Its lines are read one by one, twice:
the lines of an invoice may be far apart, so the first pass counts them and the second hands out each invoice as
soon as its last line was seen. Only invoices that are still incomplete are held in memory.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path

COLUMNS = (
    "InvoiceNo",
    "StockCode",
    "Description",
    "Quantity",
    "InvoiceDate",
    "UnitPrice",
    "CustomerID",
    "Country",
)
SKU = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _-]{0,31}")
QUANTITY_MAX = 100_000
PENCE_MAX = 10_000_000

Report = Callable[[int, str], None]
"""Told about every broken line: its number and what is wrong with it."""


class LedgerError(Exception):
    """The file as a whole cannot be a ledger."""


class BrokenLine(Exception):
    """One line cannot be read; the message says why."""


@dataclass(frozen=True, slots=True)
class Line:
    invoice: str
    sku: str
    name: str
    quantity: int
    ordered_at: datetime
    unit_price: int
    """In pence."""
    customer: str
    country: str


@dataclass(slots=True)
class Invoice:
    """The lines of one number, in the order of the file. Date, customer and country are the first line's."""

    number: str
    lines: list[Line] = field(default_factory=list)


@dataclass(slots=True)
class Product:
    """What the ledger knows of a product: the first name and price, and how many are sold in all."""

    sku: str
    name: str
    price: int
    quantity: int = 0


@dataclass(slots=True)
class Summary:
    """The ledger in figures: what the shop must agree with."""

    lines_of: Counter[str] = field(default_factory=Counter)
    products: dict[str, Product] = field(default_factory=dict)
    revenue: int = 0
    """In pence."""
    broken: int = 0
    first: datetime | None = None
    last: datetime | None = None
    digest: str = ""
    """Names the content: the same ledger has the same digest."""

    @property
    def invoices(self) -> int:
        return len(self.lines_of)

    @property
    def lines(self) -> int:
        return self.lines_of.total()


def survey(path: Path, report: Report) -> Summary:
    """The first pass. Raises LedgerError when the file cannot be a ledger."""
    summary, digest = Summary(), hashlib.sha256()

    def broken(number: int, reason: str) -> None:
        summary.broken += 1
        report(number, reason)

    for line in _lines(path, broken):
        digest.update(repr(line).encode())
        summary.lines_of[line.invoice] += 1
        summary.revenue += line.quantity * line.unit_price
        product = summary.products.setdefault(line.sku, Product(line.sku, line.name, line.unit_price))
        product.quantity += line.quantity
        summary.first = min(summary.first or line.ordered_at, line.ordered_at)
        summary.last = max(summary.last or line.ordered_at, line.ordered_at)
    summary.digest = digest.hexdigest()[:16]
    return summary


def invoices(path: Path, summary: Summary) -> Iterator[Invoice]:
    """The second pass: every invoice once, complete."""
    left, opened = summary.lines_of.copy(), dict[str, Invoice]()
    for line in _lines(path, lambda number, reason: None):  # the first pass has told already
        invoice = opened.setdefault(line.invoice, Invoice(line.invoice))
        invoice.lines.append(line)
        left[line.invoice] -= 1
        if not left[line.invoice]:
            yield opened.pop(line.invoice)


def _lines(path: Path, broken: Report) -> Iterator[Line]:
    try:
        with path.open("rb") as file:
            places = _places(file.readline())
            for number, raw in enumerate(file, start=2):
                if not raw.strip():
                    continue
                try:
                    yield parse(_cells(raw), places)
                except BrokenLine as error:
                    broken(number, str(error))
    except OSError as error:
        raise LedgerError(f"{path} cannot be read: {error.strerror}.") from None


def _places(header: bytes) -> dict[str, int]:
    try:
        names = _cells(header.removeprefix(b"\xef\xbb\xbf"))
    except BrokenLine as error:
        raise LedgerError(f"The first line must name the columns: {error}") from None
    if missing := [name for name in COLUMNS if name not in names]:
        raise LedgerError(f"The first line must name the columns; {', '.join(missing)} is missing.")
    return {name: names.index(name) for name in COLUMNS}


def _cells(raw: bytes) -> list[str]:
    """The cells of one physical line: a quote that is never closed spoils its own line only."""
    try:
        return next(csv.reader([raw.decode().rstrip("\r\n")], strict=True), [])
    except UnicodeDecodeError as error:
        raise BrokenLine(f"it is not UTF-8 at byte {error.start + 1}.") from None
    except csv.Error as error:
        raise BrokenLine(f"it is not CSV: {error}.") from None


def parse(cells: list[str], places: dict[str, int]) -> Line:
    """One line of the ledger. Raises BrokenLine with the column and the reason."""
    if len(cells) != len(places):
        raise BrokenLine(f"it has {len(cells)} cells instead of {len(places)}.")
    cell = {name: cells[at].strip() for name, at in places.items()}
    if not cell["InvoiceNo"] or len(cell["InvoiceNo"]) > 64:
        raise BrokenLine("InvoiceNo is empty or longer than 64 characters.")
    if not SKU.fullmatch(cell["StockCode"]):
        raise BrokenLine(f"StockCode {cell['StockCode']!r} is not a stock code.")
    return Line(
        invoice=cell["InvoiceNo"],
        sku=cell["StockCode"],
        name=" ".join(cell["Description"].split())[:120] or cell["StockCode"],
        quantity=_quantity(cell["Quantity"]),
        ordered_at=_moment(cell["InvoiceDate"]),
        unit_price=_pence(cell["UnitPrice"]),
        customer=cell["CustomerID"],
        country=cell["Country"][:60] or "Unspecified",
    )


def _quantity(text: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,9}", text):
        raise BrokenLine(f"Quantity {text!r} is not a whole number.")
    if int(text) <= 0:
        raise BrokenLine(
            f"Quantity {text} is not above zero: returns are not sales, the shop does not take them."
        )
    if int(text) > QUANTITY_MAX:
        raise BrokenLine(f"Quantity {text} is above {QUANTITY_MAX:,}.")
    return int(text)


def _pence(text: str) -> int:
    """Exactly: ``8.5`` is 850. More than two decimals would need rounding, so they are refused."""
    try:
        pence = Decimal(text) * 100
    except InvalidOperation:
        raise BrokenLine(f"UnitPrice {text!r} is not a number.") from None
    if not pence.is_finite() or not 0 <= pence <= PENCE_MAX:
        raise BrokenLine(f"UnitPrice {text} is not between 0 and {PENCE_MAX // 100:,}.")
    if pence != pence.to_integral_value():
        raise BrokenLine(f"UnitPrice {text} has fractions of a penny.")
    return int(pence)


def _moment(text: str) -> datetime:
    """``12/1/2010 10:03`` (month first) as UTC: the ledger's shop is in Britain and its winter time is UTC."""
    try:
        return datetime.strptime(text, "%m/%d/%Y %H:%M").replace(tzinfo=UTC)
    except ValueError:
        raise BrokenLine(f"InvoiceDate {text!r} is not a date like 12/31/2010 10:03.") from None
