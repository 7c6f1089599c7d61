"""Second tries are a share of first ones, whatever happens."""

from __future__ import annotations

import random

import pytest

from tenfold.errors import DeclarationError
from tenfold.guard.retry_budget import SAVED_FIRST, SAVED_MAX, RetryBudget


def test_when_all_calls_fail_second_tries_are_the_share_and_what_was_saved_at_first() -> None:
    budget = RetryBudget(0.1)
    again = 0
    for _ in range(10_000):
        budget.first()
        while budget.take():
            again += 1
    assert again <= 10_000 * 0.1 + SAVED_FIRST
    assert again >= 10_000 * 0.1 - 1
    assert budget.spent == again


def test_what_good_times_have_saved_is_bounded() -> None:
    budget = RetryBudget(0.5)
    for _ in range(1_000_000 // 100):
        budget.first()
    assert sum(budget.take() for _ in range(1000)) == SAVED_MAX


def test_in_any_order_of_calls_the_bound_holds() -> None:
    dice = random.Random(5)
    for _ in range(200):
        share, firsts, again = dice.random(), 0, 0
        budget = RetryBudget(share)
        for _ in range(500):
            if dice.random() < 0.5:
                budget.first()
                firsts += 1
            else:
                again += budget.take()
        assert again <= firsts * share + SAVED_FIRST + 1e-6


def test_without_a_share_there_is_no_second_try() -> None:
    budget = RetryBudget(0.0)
    budget.first()
    assert not budget.has_some
    assert not budget.take()
    assert budget.refused == 1


def test_the_share_may_be_changed() -> None:
    budget = RetryBudget(0.0)
    budget.share = 1.0
    budget.first()
    assert budget.take()
    with pytest.raises(DeclarationError, match="share"):
        budget.share = 1.5
