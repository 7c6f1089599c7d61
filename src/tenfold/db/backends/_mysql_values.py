"""What the driver may be given, and how much of it at a time."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal

from tenfold.db.contract import Args
from tenfold.errors import StatementError, TransactionMisuse

BULK_ROWS = 1_000
BULK_BYTES = 4 * 1024 * 1024
"""Sent in one round trip, at most; the server's default max_allowed_packet is 16 MiB."""
PARAMETERS_MAX = 60_000
"""Of one statement; the protocol allows 65,535."""

PLAIN = frozenset({type(None), bool, int, float, str, bytes, Decimal})
_STORABLE = (date, time, timedelta, int, float, str, bytes, bytearray, Decimal)
_ENDS_TRANSACTIONS = re.compile(
    r"(?:\s|/\*.*?\*/|--[^\n]*\n|#[^\n]*\n)*(?P<word>create(?!\s+temporary)|alter|drop(?!\s+temporary)|truncate|"
    r"rename|grant|revoke|lock|unlock|begin|start|commit|rollback|xa)\b",
    re.IGNORECASE | re.DOTALL,
)
"""Statements that the server commits before, or that would end what others believe to be open."""


def refuse_ends(sql: str) -> None:
    """Raise TransactionMisuse for a statement that would end the transaction it stands in."""
    if (found := _ENDS_TRANSACTIONS.match(sql)) is not None:
        raise TransactionMisuse(
            f"{found.group('word').upper()} ends the transaction that it stands in, on MySQL and MariaDB. Change "
            "tables by a migration, and begin and end transactions by `async with db.tx()`."
        )


def in_pieces(many: Sequence[Args]) -> Iterator[Sequence[Args]]:
    """``many`` in pieces that fit into one packet."""
    start, size = 0, 0
    for i, args in enumerate(many):
        size += sum(len(value) if isinstance(value, str | bytes) else 9 for value in args)
        if i + 1 - start >= BULK_ROWS or size >= BULK_BYTES:
            yield many[start : i + 1]
            start, size = i + 1, 0
    if start < len(many):
        yield many[start:]


def check(args: Args) -> None:
    """The driver would turn what it does not know into text, and forget time zones."""
    for value in args:
        if type(value) in PLAIN or isinstance(value, _STORABLE):
            if isinstance(value, datetime) and value.tzinfo is not None:
                raise StatementError(
                    f"{value!r} has a time zone, and nothing says what to do with it. Give the parameter its type: "
                    "sa.bindparam(…, type_=sa.DateTime(timezone=True))."
                )
            continue
        raise StatementError(f"a parameter of type {type(value).__name__} cannot be stored: {value!r:.100}.")
