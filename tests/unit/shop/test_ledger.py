"""The ledger's reader: exact, streaming, and undisturbed by broken lines."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from shop.replay.ledger import Invoice, LedgerError, Summary, invoices, survey

HEADER = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"
GOOD = "536389,22196,SMALL HEART SPOONS ,24,12/1/2010 10:03,0.85,12431,Australia\n"


def read(tmp_path: Path, *lines: str | bytes) -> tuple[Summary, list[Invoice], list[tuple[int, str]]]:
    path = tmp_path / "ledger.csv"
    path.write_bytes(b"".join(x.encode() if isinstance(x, str) else x for x in (HEADER, *lines)))
    broken: list[tuple[int, str]] = []
    summary = survey(path, lambda number, reason: broken.append((number, reason)))
    return summary, list(invoices(path, summary)), broken


def test_a_line_is_read_exactly(tmp_path: Path) -> None:
    summary, [invoice], broken = read(tmp_path, GOOD)
    [line] = invoice.lines
    assert (line.sku, line.name, line.quantity, line.unit_price) == ("22196", "SMALL HEART SPOONS", 24, 85)
    assert line.ordered_at == datetime(2010, 12, 1, 10, 3, tzinfo=UTC)
    assert (summary.revenue, summary.invoices, summary.lines, broken) == (2040, 1, 1, [])


def test_the_lines_of_an_invoice_may_be_far_apart(tmp_path: Path) -> None:
    """An invoice is handed out once, whole, in the order of its last line."""
    other = GOOD.replace("536389", "536390")
    _, found, _ = read(tmp_path, GOOD, other, GOOD.replace("22196", "22195"))
    assert [(i.number, len(i.lines)) for i in found] == [("536390", 1), ("536389", 2)]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("536389,22196,X,24\n", "it has 4 cells instead of 8."),
        (GOOD.replace(",24,", ",two,"), "Quantity 'two' is not a whole number."),
        (GOOD.replace(",24,", ",-3,"), "Quantity -3 is not above zero"),
        (GOOD.replace(",24,", ",0,"), "Quantity 0 is not above zero"),
        (GOOD.replace("0.85", "1,5"), "it has 9 cells instead of 8."),
        (GOOD.replace("0.85", "NaN"), "UnitPrice NaN is not between"),
        (GOOD.replace("0.85", "0.855"), "UnitPrice 0.855 has fractions of a penny."),
        (GOOD.replace("0.85", "-1"), "UnitPrice -1 is not between"),
        (GOOD.replace("12/1/2010", "31/12/2010"), "is not a date like"),
        (GOOD.replace("22196", "../etc"), "StockCode '../etc' is not a stock code."),
        (GOOD.replace("536389", " "), "InvoiceNo is empty"),
        (GOOD.replace("SMALL", '"SMALL'), "it is not CSV"),
        (GOOD.encode().replace(b"SMALL", b"SM\xffLL"), "it is not UTF-8 at byte 16."),
    ],
)
def test_a_broken_line_is_named_and_the_rest_goes_on(tmp_path: Path, line: str | bytes, reason: str) -> None:
    after = GOOD.replace("536389", "536391")
    summary, found, broken = read(tmp_path, GOOD, line, after)
    [(number, told)] = broken
    assert number == 3
    assert reason in told
    assert [i.number for i in found] == ["536389", "536391"]
    assert (summary.revenue, summary.broken) == (4080, 1)


def test_a_quote_that_is_never_closed_spoils_one_line_only(tmp_path: Path) -> None:
    summary, _, broken = read(tmp_path, GOOD.replace("SMALL", '"SMALL'), GOOD, GOOD)
    assert ([number for number, _ in broken], summary.lines) == ([2], 2)


def test_columns_may_stand_in_another_order_but_not_be_missing(tmp_path: Path) -> None:
    path = tmp_path / "ledger.csv"
    path.write_text("InvoiceNo,StockCode\n1,2\n")
    with pytest.raises(LedgerError, match=r"Description, Quantity, .* is missing"):
        survey(path, lambda number, reason: None)


def test_a_file_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="cannot be read: No such file"):
        survey(tmp_path / "none.csv", lambda number, reason: None)


def test_the_digest_names_the_content(tmp_path: Path) -> None:
    first, again, other = (read(tmp_path, line)[0].digest for line in (GOOD, GOOD, GOOD.replace("24", "25")))
    assert first == again != other
