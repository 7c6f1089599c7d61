"""Checksums of tables that do not depend on the order of rows, nor on how a database stores a value. Pure.

A row is hashed (BLAKE2b, 128 bits) as MessagePack of its Python values after SQLAlchemy's types have read them; the
checksum of a table is the sum of its rows' hashes modulo 2^128. What is equal in Python and differs in form is
brought to one form: 1.50 and 1.5, a mapping's order, two spellings of a moment.
"""

from __future__ import annotations

import datetime as dt
import decimal
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

_MODULUS = 1 << 128


def _unknown(value: Any) -> Any:
    return [type(value).__name__, repr(value)]


_encode = msgspec.msgpack.Encoder(enc_hook=_unknown, order="deterministic", decimal_format="string").encode


@dataclass(slots=True)
class Checksum:
    """Rows and the sum of their hashes."""

    rows: int = 0
    total: int = 0

    def add(self, digest: bytes) -> None:
        """Count one row."""
        self.rows += 1
        self.total = (self.total + int.from_bytes(digest)) % _MODULUS

    def __str__(self) -> str:
        return f"{self.total:032x}"


def hash_of(row: Iterable[Any]) -> bytes:
    """128 bits that are equal for equal rows."""
    return hashlib.blake2b(_encode([_normal(value) for value in row]), digest_size=16).digest()


def _normal(value: Any) -> Any:
    kind = type(value)
    if kind is str or kind is int or value is None:
        return value
    if kind is decimal.Decimal:
        return format(value.normalize(), "f")
    if kind is dt.datetime and value.tzinfo is not None:
        return ["moment", value.astimezone(dt.UTC).replace(tzinfo=None).isoformat()]
    if kind is float and value.is_integer():
        return float(value) + 0.0  # -0.0 is 0.0
    return value
