"""From the lines of a file to products, or to sentences that say what is wrong with them. No database here.

A file is read from any byte on at which a record begins, one record at a time: that is what makes an import go on
where it was, and keeps memory flat however long the file is.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec
from msgspec import Struct

from shop.catalog import Product
from shop.imports.tables import Format

COLUMNS = ("sku", "name", "category", "price")
RECORD_MAX_BYTES = 65_536
MESSAGE_MAX = 300
_WHERE = re.compile(r" - at `\$\.(\w+)`$")
_MARK = b"\xef\xbb\xbf"
"""Spreadsheets put it at the beginning of a file."""


class WrongHeader(ValueError):
    """The first line of a CSV file does not name the columns."""


class Record(Struct, frozen=True):
    """The bytes of one record, and the line on which it begins (from 1)."""

    line: int
    data: bytes
    end: int
    """Where the next one begins."""
    lines: int
    """How many lines it takes up."""


class Chunk(Struct):
    """Several records, read and judged."""

    start: int
    end: int
    lines: int
    products: list[Product]
    errors: list[tuple[int, str]]

    @property
    def empty(self) -> bool:
        return self.start == self.end


class Reader:
    """One file. Raises :class:`WrongHeader` for a CSV file without one."""

    def __init__(self, path: Path, format_: Format) -> None:
        self._path, self._format = path, format_
        with path.open("rb") as file:
            self._columns = header(file.readline(RECORD_MAX_BYTES)) if format_ == "csv" else ()

    def chunk(self, start: int, line: int, records: int) -> Chunk:
        """Up to so many records from byte ``start`` on, which ``line`` lines stand before."""
        chunk = Chunk(start, start, 0, [], [])
        with self._path.open("rb") as file:
            file.seek(start)
            found = split(file, start, line + 1, quoted=self._format == "csv")
            for record, _ in zip(found, range(records), strict=False):
                self._judge(record, chunk)
                chunk.end = record.end
                chunk.lines += record.lines
        return chunk

    def _judge(self, record: Record, chunk: Chunk) -> None:
        if not record.data.strip() or (record.line == 1 and self._format == "csv"):
            return
        try:
            chunk.products.append(self._product(record.data))
        except UnicodeDecodeError as error:
            chunk.errors.append((record.line, f"It is not UTF-8: {error.reason} at byte {error.start + 1}."))
        except (ValueError, msgspec.MsgspecError, csv.Error) as error:
            chunk.errors.append((record.line, _sentence(str(error))))

    def _product(self, data: bytes) -> Product:
        if len(data) > RECORD_MAX_BYTES:
            raise ValueError(f"The record is longer than {RECORD_MAX_BYTES:,} bytes")
        text = data.removeprefix(_MARK).decode()
        product = _from_json(text) if self._format == "jsonl" else self._from_cells(text)
        if "\0" in f"{product.name}{product.category}":
            raise ValueError("It has a NUL in it")
        return product

    def _from_cells(self, text: str) -> Product:
        cells = next(csv.reader([text], strict=True))
        if len(cells) != len(self._columns):
            raise ValueError(f"It has {len(cells)} cells instead of {len(self._columns)}")
        row = dict(zip(self._columns, cells, strict=True))
        return msgspec.convert({**row, "price": _pence(row["price"])}, Product)


def header(line: bytes) -> Sequence[str]:
    """The columns that the first line of a CSV file names. Raises :class:`WrongHeader`."""
    try:
        cells = next(csv.reader([line.removeprefix(_MARK).decode()], strict=True), [])
    except (UnicodeDecodeError, csv.Error):
        cells = []
    columns = [cell.strip().lower() for cell in cells]
    if sorted(columns) != sorted(COLUMNS):
        raise WrongHeader(
            f"The first line has to name the columns {', '.join(COLUMNS)}, each once and no others."
        )
    return columns


def split(file: BinaryIO, at: int, line: int, *, quoted: bool) -> Iterator[Record]:
    """The records of a file from where it stands. With ``quoted``, line breaks inside of quotes belong to a record.

    A quote that is never closed would swallow the rest of the file: then only its own line counts as the record.
    """
    while data := file.readline(RECORD_MAX_BYTES + 1):
        lines, first = 1, at + len(data)
        if len(data) > RECORD_MAX_BYTES and not data.endswith(b"\n"):
            first = _skip_line(file, first)
        elif quoted and data.count(b'"') % 2:
            whole, lines = _rest_of_quoted(file, data)
            data = whole
            if lines == 1:
                file.seek(first)
        at = first if lines == 1 else at + len(data)
        yield Record(line, data, at, lines)
        line += lines


def _rest_of_quoted(file: BinaryIO, data: bytes) -> tuple[bytes, int]:
    """The record with the lines that follow, as long as a quote is open; alone when none closes it."""
    whole, lines = data, 1
    while whole.count(b'"') % 2:
        more = file.readline(RECORD_MAX_BYTES + 1)
        if not more or len(whole) + len(more) > RECORD_MAX_BYTES:
            return data, 1
        whole, lines = whole + more, lines + 1
    return whole, lines


def _skip_line(file: BinaryIO, at: int) -> int:
    while piece := file.readline(RECORD_MAX_BYTES):
        at += len(piece)
        if piece.endswith(b"\n"):
            break
    return at


_product_of_json = msgspec.json.Decoder(Product).decode


def _from_json(text: str) -> Product:
    try:
        return _product_of_json(text)
    except RecursionError:
        raise ValueError("It is nested too deeply") from None


def _pence(text: str) -> int:
    """``12.5`` is 1250. Raises ValueError."""
    whole, _, fraction = text.strip().partition(".")
    digits = fraction.ljust(2, "0")
    if not (whole.isascii() and whole.isdigit() and digits.isascii() and digits.isdigit()) or len(digits) > 2:
        raise ValueError(f"The price {text[:40]!r} is not pounds with at most two decimals")
    return int(whole[:12]) * 100 + int(digits)


def _sentence(text: str) -> str:
    """One line that begins with the column."""
    where = _WHERE.search(text)
    said = " ".join((f"{where[1]}: {text[: where.start()]}" if where else text).split())
    said = said if len(said) < MESSAGE_MAX else f"{said[: MESSAGE_MAX - 2]}…"
    return said if said.endswith((".", "…")) else f"{said}."
