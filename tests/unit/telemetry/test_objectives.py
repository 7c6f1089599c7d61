"""The written form of objectives: what it means, and what is said about mistakes."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.errors import DeclarationError
from tenfold.telemetry.objectives import BURNS, Objective, as_objective, burns_of, parse

DAY_S = 86_400


@pytest.mark.parametrize(
    ("text", "target", "under_s", "period_s"),
    [
        ("99.9% under 300ms", "0.999", 0.3, 30 * DAY_S),
        ("99.95 %", "0.9995", None, 30 * DAY_S),
        ("99% under 2s over 7 days", "0.99", 2.0, 7 * DAY_S),
        ("90% UNDER 1.5 seconds OVER 1 week", "0.9", 1.5, 7 * DAY_S),
        ("50%over 12h", "0.5", None, 12 * 3600),
    ],
)
def test_what_an_objective_means(text: str, target: str, under_s: float | None, period_s: int) -> None:
    assert parse(text) == (Decimal(target), under_s, period_s)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "begins with a percentage, at character 1: the end"),
        ("under 300ms", "begins with a percentage, at character 1: 'under'"),
        ("99.9 under 300ms", "percent sign must follow the number, at character 6: 'under'"),
        ("100% under 1s", "out of bounds, at character 1: '100'.*below 100"),
        ("0%", "out of bounds, at character 1"),
        ("99.9% under ms", "duration begins with a number, at character 13: 'ms'"),
        ("99.9% under 300", "unit of a duration must stand here, at character 16: the end"),
        ("99.9% under 300 secnds", "character 17: 'secnds'.*Did you mean 'second'"),
        ("99.9% under 0ms", "duration is out of bounds, at character 13.*from 1ms to 3600s"),
        ("99.9% below 300ms", "must stand here, at character 7: 'below'"),
        ("99.9% over 5 years", "unit of a period must stand here, at character 14: 'years'"),
        ("99.9% over 400 days", "period is out of bounds, at character 12.*from 1 hour to 90 days"),
        ("99.9% under 1s, 99% under 2s", "character 15: ','"),
    ],
)
def test_a_mistake_is_shown_with_its_position(text: str, words: str) -> None:
    with pytest.raises(DeclarationError, match=words):
        Objective(text)


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(DeclarationError, match=r"0\.999 is not an objective"):
        as_objective(0.999)  # type: ignore[arg-type]


@given(
    st.decimals("0.01", "99.99", places=2),
    st.integers(1, 3_600_000) | st.none(),
    st.integers(1, 90) | st.none(),
)
def test_what_is_written_in_one_way_means_the_same(
    percent: Decimal, ms: int | None, days: int | None
) -> None:
    text = f"{percent}%{f' under {ms}ms' if ms else ''}{f' over {days} days' if days else ''}"
    assert parse(str(Objective(text))) == parse(text)


def test_burn_rates_are_those_of_the_workbook_for_thirty_days_and_scale_with_the_period() -> None:
    month, week = Objective("99.9%"), Objective("99.9% over 7 days")
    assert [round(burn.rate(month), 2) for burn in burns_of(month)] == [14.4, 6, 3, 1]
    assert [round(burn.rate(week), 2) for burn in burns_of(week)] == [3.36, 1.4, 1, 1]
    assert burns_of(Objective("99% over 1 day")) == BURNS[:2]
    assert burns_of(Objective("99% over 1 hour")) == BURNS[:1]
    assert month.budget == 0.001


def test_slow_answers_and_our_faults_are_bad() -> None:
    objective = Objective("99% under 300ms")
    assert objective.is_good(404, 0.3)
    assert not objective.is_good(200, 0.301)
    assert not objective.is_good(503, 0.001)
