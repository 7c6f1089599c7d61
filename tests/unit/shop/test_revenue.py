"""The revenue file: what is written can be read again, to the penny."""

from __future__ import annotations

from datetime import date

import pytest

from shop.money import pence, pounds
from shop.reports.revenue import Sold, from_csv, to_csv


@pytest.mark.parametrize("revenue", [0, 3, 99, 100, 123_456, 10**12 + 1])
def test_a_file_is_read_as_it_was_written(revenue: int) -> None:
    sold = [Sold(date(2010, 12, 1), 'Côte, "d\'Ivoire"', 2, 3, revenue)]
    assert from_csv(to_csv(sold)) == sold


@pytest.mark.parametrize(("amount", "text"), [(0, "0.00"), (5, "0.05"), (-5, "-0.05"), (123_456, "1234.56")])
def test_pence_and_pounds_are_each_others_inverse(amount: int, text: str) -> None:
    assert pounds(amount) == text
    assert pence(text) == amount
