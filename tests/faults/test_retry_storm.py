"""G15: retries cannot keep an outage alive. A chain of three services whose last one is off for 30 seconds."""

from __future__ import annotations

import pytest

from support.chain import Course, run_course
from support.trials import Trials, soak
from tenfold.guard.retry_budget import RetryBudget

OFF_S, NORMAL_AFTER_S = 30, 10


def judge(course: Course) -> list[str]:
    """What is wrong: the load on the dependency, and the time until all is well again."""
    wrong: list[str] = []
    end = max(course.offered) + 1
    load = course.load(course.off_from, end)
    if load > 1.1:
        wrong.append(f"{load:.2f} requests at the dependency for each that was offered")
    good = course.good(course.off_until + NORMAL_AFTER_S, end)
    if good < 0.99:
        wrong.append(f"{good:.0%} were answered well from {NORMAL_AFTER_S} s after the outage on")
    return wrong


def test_an_outage_ends_with_its_cause(trials: Trials) -> None:
    course = run_course(per_s=10, off_s=OFF_S, after_s=NORMAL_AFTER_S + 5)
    assert course.good(0, course.off_from) > 0.99
    assert judge(course) == []
    trials("G15", sum(course.offered.values()), "virtual time")


def test_retries_at_every_layer_without_a_budget_keep_it_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    """The broken variant: no budget, no breaker, and nobody says that it tries again."""
    monkeypatch.setattr(RetryBudget, "take", lambda _: True)
    course = run_course(
        per_s=5,
        off_s=10, after_s=NORMAL_AFTER_S + 3, silent=frozenset({"tenfold-retries"}),
        breaker=False, concurrency=100_000,
    )  # fmt: skip
    load, good = judge(course)
    assert "requests at the dependency" in load
    assert "answered well" in good


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_outages_end_under_many_seeds(trials: Trials) -> None:
    for seed in range(soak(20)):
        course = run_course(per_s=50, off_s=OFF_S, after_s=30, seed=seed)
        assert judge(course) == [], seed
        trials("G15", sum(course.offered.values()), "virtual time")
