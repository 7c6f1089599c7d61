"""Checksums are equal for equal tables, whatever the order of rows and the form of values."""

from __future__ import annotations

import datetime as dt
import random
import uuid
from decimal import Decimal
from typing import Any

import pytest

from tenfold.grow.checksum import Checksum, hash_of

NOON = dt.datetime(2026, 1, 2, 12, 0, 0, 5, tzinfo=dt.UTC)
BERLIN = dt.timezone(dt.timedelta(hours=1))


def total(rows: list[list[Any]]) -> Checksum:
    made = Checksum()
    for row in rows:
        made.add(hash_of(row))
    return made


def test_the_order_of_rows_does_not_matter_and_their_number_does() -> None:
    rows: list[list[Any]] = [[n, f"row {n}", n / 3] for n in range(100)]
    mixed = random.Random(3).sample(rows, len(rows))
    assert total(rows) == total(mixed)
    assert total(rows) != total([*rows, rows[0]])
    assert total(rows) != total([*rows[:-1], rows[0]])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Decimal("1.50"), Decimal("1.5")),
        (Decimal("100"), Decimal("1E+2")),
        (NOON, NOON.astimezone(BERLIN)),
        ({"a": 1, "b": [2]}, {"b": [2], "a": 1}),
        (0.0, -0.0),
    ],
)
def test_one_value_in_two_forms_has_one_hash(one: Any, other: Any) -> None:
    assert hash_of([one]) == hash_of([other])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1", 1), (None, ""), (b"a", "a"), (True, 1), (1.5, Decimal("1.5")), (NOON, NOON.replace(microsecond=6)),
        (NOON, NOON.replace(tzinfo=None)), (uuid.UUID(int=1), uuid.UUID(int=2)), (["a", "b"], ["ab", ""]),
    ],
)  # fmt: skip
def test_different_values_have_different_hashes(one: Any, other: Any) -> None:
    assert hash_of([one]) != hash_of([other])


def test_columns_do_not_run_into_each_other() -> None:
    assert hash_of(["ab", "c"]) != hash_of(["a", "bc"])
    assert hash_of([None, "a"]) != hash_of(["a", None])
