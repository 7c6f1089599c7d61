"""Waits before another try."""

from __future__ import annotations

import random

import pytest

from tenfold._core.backoff import bound_s, full_jitter_s, retry_after_s

NOW = 1_700_000_000.0


def test_pauses_are_drawn_from_below_a_bound_that_doubles() -> None:
    dice = random.Random(1)
    for failures, bound in ((1, 0.1), (2, 0.2), (5, 1.6), (99, 30.0)):
        drawn = [full_jitter_s(failures, dice, base_s=0.1, most_s=30.0) for _ in range(500)]
        assert 0 <= min(drawn) < 0.1 * bound
        assert 0.9 * bound < max(drawn) <= bound


def test_millions_of_failures_do_not_overflow() -> None:
    assert bound_s(10_000_000, base_s=1.0, most_s=60.0) == 60.0
    assert bound_s(10_000_000, base_s=1.0, most_s=60.0, factor=1e300) == 60.0


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120),
        (" 0 ", 0),
        ("", 0),
        ("soon", 0),
        ("-5", 0),
        ("1e9", 0),
        ("٣", 0),
        ("Tue, 14 Nov 2023 22:15:20 GMT", 120),
        ("Tue, 14 Nov 2022 22:15:20 GMT", 0),
        ("Tue, 99 Nov 2023 22:15:20 GMT", 0),
        ("9" * 100, 999_999_999),
    ],
)
def test_retry_after_is_read_in_both_forms(header: str, seconds: float) -> None:
    assert retry_after_s(header, NOW) == seconds
