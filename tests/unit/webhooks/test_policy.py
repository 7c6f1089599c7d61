"""Decisions about deliveries, without any."""

from __future__ import annotations

import random

import pytest

from tenfold.webhooks.contract import Answer
from tenfold.webhooks.policy import SCHEDULE_S, Patience, judge, line_of, wait_s

NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (200, "delivered"),
        (204, "delivered"),
        (299, "delivered"),
        (301, "retry"),
        (304, "retry"),
        (400, "retry"),
        (410, "gone"),
        (429, "retry"),
        (503, "retry"),
        (None, "retry"),
        (101, "retry"),
    ],
)
def test_only_2xx_is_success_and_410_is_the_end(status: int | None, verdict: str) -> None:
    assert judge(Answer(status=status), 1, Patience()) == verdict


def test_the_schedule_has_an_end() -> None:
    last = len(SCHEDULE_S)
    assert judge(Answer(status=500), last, Patience()) == "retry"
    assert judge(Answer(status=500), last + 1, Patience()) == "failed"


def test_waits_are_those_of_the_schedule_with_up_to_a_fifth_more() -> None:
    rng = random.Random(1)
    for attempt, planned in enumerate(SCHEDULE_S, start=1):
        for _ in range(100):
            assert planned <= wait_s(Answer(status=500), attempt, Patience(), NOW, rng) <= planned * 1.2


def test_nobody_gets_more_patience_than_a_day() -> None:
    answer = Answer(status=503, retry_after="999999999")
    assert wait_s(answer, 1, Patience(), NOW, random.Random(1)) == 86_400


def test_lines_bound_how_much_is_under_way_and_keep_a_token_together() -> None:
    lines = {line_of("e", 4, f"event-{n}") for n in range(1000)}
    assert len(lines) == 4
    assert line_of("e", 4, "key") == line_of("e", 4, "key")
