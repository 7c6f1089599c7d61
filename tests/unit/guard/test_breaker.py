"""The circuit breaker as a state machine: times and endings go in, decisions come out."""

from __future__ import annotations

import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tenfold.errors import DeclarationError
from tenfold.guard.breaker import Breaker, BreakerRules, Permit

SLOW_S = 5.0


def breaker(**rules: float) -> Breaker:
    return Breaker(BreakerRules(**rules), random.Random(1))


def begun(judge: Breaker, number: int, now: float, **more: float) -> list[Permit]:
    permits = [
        judge.admit(now, slow_s=more.get("slow_s", SLOW_S), usual_s=more.get("usual_s", 0))
        for _ in range(number)
    ]
    assert None not in permits
    return [permit for permit in permits if permit is not None]


def opened(now: float = 0.0) -> Breaker:
    judge = breaker()
    for permit in begun(judge, 10, now):
        judge.end(permit, "failed", now)
    assert judge.state(now) == "open"
    return judge


def test_calls_that_never_end_open_it_without_any_of_them_ending() -> None:
    judge = breaker()
    begun(judge, 10, 0.0)
    assert judge.state(4.9) == "closed"
    assert judge.state(5.0) == "open"
    assert judge.admit(5.1, slow_s=SLOW_S) is None
    assert (judge.opened, judge.refused) == (1, 1)


def test_calls_whose_callers_gave_up_count_unless_they_gave_up_before_an_answer_was_likely() -> None:
    judge = breaker()
    for permit in begun(judge, 50, 0.0, usual_s=0.2):
        judge.end(permit, "abandoned", 0.1)
    assert judge.state(0.1) == "closed"
    for permit in begun(judge, 10, 1.0, usual_s=0.2):
        judge.end(permit, "abandoned", 1.3)
    assert judge.state(1.3) == "open"


def test_a_call_that_is_no_longer_needed_says_nothing() -> None:
    judge = breaker()
    for permit in begun(judge, 100, 0.0):
        judge.end(permit, "dropped", 3.0)
    assert judge.state(20.0) == "closed"


def test_few_calls_and_few_failures_do_not_open_it() -> None:
    judge = breaker()
    for permit in begun(judge, 9, 0.0):
        judge.end(permit, "failed", 0.0)
    assert judge.state(0.0) == "closed"
    for permit in begun(judge, 100, 0.0):
        judge.end(permit, "answered", 0.5)
    for permit in begun(judge, 80, 0.0):
        judge.end(permit, "failed", 0.9)
    assert judge.state(0.9) == "closed"


def test_failures_of_long_ago_are_forgotten() -> None:
    judge = breaker()
    for permit in begun(judge, 9, 0.0):
        judge.end(permit, "failed", 0.0)
    [one] = begun(judge, 1, 30.0)
    judge.end(one, "failed", 30.0)
    assert judge.state(30.0) == "closed"


def test_after_a_pause_one_probe_at_a_time_is_let_through_and_three_answers_close_it() -> None:
    judge = opened()
    for _ in range(3):
        assert judge.state(1.0) == "half-open"
        probe = judge.admit(1.0, slow_s=SLOW_S)
        assert probe is not None
        assert judge.admit(1.0, slow_s=SLOW_S) is None
        judge.end(probe, "answered", 1.0)
    assert judge.state(1.0) == "closed"


def test_each_probe_that_fails_doubles_the_pause_up_to_its_longest() -> None:
    judge, now, pauses = opened(), 0.0, []
    for _ in range(6):
        pause = judge.retry_after_s(now)
        pauses.append(pause)
        now += pause
        probe = judge.admit(now, slow_s=SLOW_S)
        assert probe is not None
        judge.end(probe, "failed", now)
    for pause, longest in zip(pauses, (1, 2, 4, 5, 5, 5), strict=True):
        assert longest / 2 <= pause <= longest


def test_a_probe_that_never_ends_has_failed_when_its_time_is_over() -> None:
    judge = opened()
    assert judge.admit(1.0, slow_s=SLOW_S) is not None
    assert judge.state(5.9) == "half-open"
    assert judge.state(6.0) == "open"


def test_a_late_answer_takes_the_failure_back_and_lets_a_probe_through_at_once() -> None:
    judge = breaker()
    permits = begun(judge, 10, 0.0)
    assert judge.state(5.0) == "open"
    judge.end(permits[0], "answered", 5.05)
    assert judge.state(5.05) == "half-open"


def test_people_can_hold_it_open_or_closed() -> None:
    judge = opened()
    judge.forced = "closed"
    assert judge.admit(0.0, slow_s=SLOW_S) is not None
    judge.forced = "open"
    assert judge.admit(100.0, slow_s=SLOW_S) is None
    judge.forced = None
    assert judge.state(100.0) == "half-open"


@pytest.mark.parametrize(
    "rules", [{"share": 0}, {"calls_min": 0}, {"probes": 0}, {"open_s": 9}, {"window_s": 0.1}]
)
def test_rules_that_could_not_work_are_refused(rules: dict[str, float]) -> None:
    with pytest.raises(DeclarationError, match="breaker"):
        BreakerRules(**rules)


class Machine(RuleBasedStateMachine):
    """Whatever happens in whatever order: never more than one probe, never open for longer than said, never stuck."""

    def __init__(self) -> None:
        super().__init__()
        self.judge = breaker(calls_min=3)
        self.now = 0.0
        self.under_way: list[Permit] = []

    @rule()
    def begin(self) -> None:
        state = self.judge.state(self.now)
        permit = self.judge.admit(self.now, slow_s=SLOW_S, usual_s=0.5)
        if state == "closed":
            assert permit is not None
        if state == "open":
            assert permit is None
        if permit is not None:
            self.under_way.append(permit)

    @rule(
        pick=st.randoms(use_true_random=False),
        ending=st.sampled_from(["answered", "failed", "abandoned", "dropped"]),
    )
    def end(self, pick: random.Random, ending: str) -> None:
        if self.under_way:
            permit = self.under_way.pop(pick.randrange(len(self.under_way)))
            self.judge.end(permit, ending, self.now)
            self.judge.end(permit, "failed", self.now)  # again is harmless

    @rule(seconds=st.floats(0.01, 20.0))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def at_most_one_probe(self) -> None:
        self.judge.state(self.now)
        assert 0 <= self.judge._probing <= 1

    @invariant()
    def it_comes_back(self) -> None:
        if self.judge.state(self.now) == "open":
            assert self.judge.retry_after_s(self.now) <= self.judge.rules.open_max_s

    def teardown(self) -> None:
        """Once every call is answered, it is closed again."""
        for permit in self.under_way:
            self.judge.end(permit, "dropped", self.now)
        for _ in range(3 + len(self.under_way)):
            self.now += 5.0
            permit = self.judge.admit(self.now, slow_s=SLOW_S)
            assert permit is not None
            self.judge.end(permit, "answered", self.now)
        assert self.judge.state(self.now) == "closed"


Machine.TestCase.settings = settings(max_examples=15, stateful_step_count=30, deadline=None)
TestMachine = Machine.TestCase
