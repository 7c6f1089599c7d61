"""A trend follows what rises, sees a step at once, and takes noise for noise."""

from __future__ import annotations

import random

import pytest

from tenfold.runtime.scale.forecast import Trend


def fed(trend: Trend, *values: float, every: float = 2.0) -> Trend:
    for number, value in enumerate(values):
        trend.add(number * every, value)
    return trend


def test_a_ramp_is_seen_as_far_ahead_as_asked() -> None:
    trend = fed(Trend(counts=True), *(100 + 2.0 * number for number in range(90)))
    assert trend.slope == pytest.approx(1.0, rel=0.05)
    assert trend.ahead(30.0) == pytest.approx(100 + 2.0 * 89 + 30.0, rel=0.05)


def test_two_values_beyond_the_noise_are_a_new_level_and_one_is_not() -> None:
    steady = [20.0] * 30
    once = fed(Trend(counts=True), *steady, 160.0)
    assert once.level < 45
    assert fed(Trend(counts=True), *steady, 160.0, 160.0).level > 140
    assert fed(Trend(counts=True), *steady, 160.0, 20.0, 160.0, 20.0).level < 60


def test_of_counts_around_one_level_nothing_is_expected_but_that_level() -> None:
    for seed in range(20):
        dice, trend = random.Random(seed), Trend(counts=True)
        fed(trend, *(max(0.0, dice.gauss(25, 5)) for _ in range(300)))
        assert trend.ahead(10.0) == pytest.approx(25, abs=5)


def test_what_is_not_later_is_left_out() -> None:
    trend = fed(Trend(), 1.0, 1.0, 1.0)
    trend.add(4.0, 50.0)
    trend.add(1.0, 50.0)
    assert trend.level == 1.0


def test_gaps_between_values_do_not_bend_the_line() -> None:
    trend, dice = Trend(counts=True), random.Random(3)
    at = 0.0
    for _ in range(200):
        at += dice.choice((1.0, 2.0, 7.0))
        trend.add(at, 50 + 0.5 * at)
    assert trend.ahead(20.0) == pytest.approx(50 + 0.5 * (at + 20.0), rel=0.05)
