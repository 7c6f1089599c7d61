"""What a scaler decides, sample by sample, and how it says so."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from tenfold._core.sections import ScaleSettings
from tenfold.runtime.scale import Decision, Sample, Scaler


@dataclass
class Hours:
    """Hands a scaler a sample every two seconds, of a load that does not depend on it unless the test makes it."""

    scaler: Scaler = field(default_factory=lambda: Scaler(ScaleSettings()))
    low: int = 1
    high: int = 8
    now: float = 1000.0
    instances: int = 1
    last: Decision = field(default_factory=lambda: Decision(0, ""))

    def go(self, seconds: float, sample: Callable[[float, int], Sample]) -> list[Decision]:
        made = []
        for _ in range(round(seconds / 2)):
            self.now += 2.0
            self.last = self.scaler.decide([sample(self.now, self.instances)], self.low, self.high, self.now)
            self.instances = self.last.wanted
            made.append(self.last)
        return made


def load(in_flight: float, **more: float) -> Callable[[float, int], Sample]:
    return lambda at, instances: Sample(at, instances, in_flight, 20.0, **more)


# ── growing ──


def test_a_load_that_needs_more_gets_it_at_the_second_look_and_the_figures_are_in_the_sentence() -> None:
    hours = Hours()
    hours.go(60, load(10))
    grew = hours.go(6, load(90))
    assert [decision.wanted for decision in grew] == [2, 5, 5]
    assert re.fullmatch(
        r"From 2 to 5: 90 requests are in progress, and an instance is to have 18\.2 \(91% of its limit of 20\)\.",
        grew[1].why,
    )


def test_a_ramp_is_met_before_it_arrives() -> None:
    """Per second one request more; an instance is to have 16. Without looking ahead each would come a start too late."""
    ahead = Hours(Scaler(ScaleSettings(start_s=30.0)), high=20)
    blind = Hours(Scaler(ScaleSettings(start_s=0.01)), high=20)
    for hours in (ahead, blind):
        began = hours.now
        hours.go(120, lambda at, _n, began=began: Sample(at, 1, 20 + (at - began), 20.0))
    assert ahead.instances > blind.instances
    assert "expected in" in ahead.last.why


def test_how_long_a_start_takes_is_learned() -> None:
    hours = Hours(Scaler(ScaleSettings(start_s=10.0)))
    hours.go(60, load(10))
    hours.go(4, load(60))
    hours.go(40, lambda at, _n: Sample(at, 1, 60, 20.0))
    hours.go(4, lambda at, _n: Sample(at, 8, 60, 20.0))
    assert hours.scaler.start_s > 20


def test_nothing_grows_beyond_the_range_and_the_sentence_says_what_would_be_needed() -> None:
    hours = Hours(high=2)
    hours.go(30, load(100))
    assert hours.last.wanted == 2
    assert "6 would be needed, but 2 is the most that is allowed" in hours.last.why


def test_cpu_asks_for_more_where_no_limit_is_known() -> None:
    hours = Hours()
    hours.go(60, lambda at, n: Sample(at, n, 0, 0, cpu=min(1.0, 2.4 / n)))
    assert hours.instances == 3
    assert "cores are in use, and an instance is to use 0.85" in hours.last.why


def test_latency_asks_for_more_where_instances_are_busy_and_stops_when_it_helps() -> None:
    hours = Hours()
    hours.go(300, lambda at, n: Sample(at, n, 30, 20.0, p99_s=3.0 / n))
    assert hours.instances in (3, 4)


def test_a_slow_dependency_is_not_made_faster_by_more_instances() -> None:
    hours = Hours()
    hours.go(300, load(3, p99_s=8.0, cpu=0.1))
    assert hours.instances == 1


def test_latency_that_more_instances_do_not_help_ends_with_twice_as_many_as_are_half_busy() -> None:
    hours = Hours(high=32)
    made = hours.go(1800, load(40, p99_s=9.0))
    assert max(decision.wanted for decision in made) <= 2 * (40 / 16) / 0.5


# ── workers ──


@dataclass
class Shift:
    """Workers that do ten jobs a second each, and the jobs that wait for them."""

    jobs: float
    waiting: float = 0.0

    def sample(self, at: float, workers: int) -> Sample:
        came, can = self.jobs * 2.0, workers * 10.0 * 2.0
        done = min(self.waiting + came, can)
        self.waiting += came - done
        age = self.waiting / max(self.jobs, 1.0)
        return Sample(at, workers, 0, 0, queue_age_s=age, jobs=done / 2.0)


def test_workers_that_are_late_become_as_many_as_keep_up_and_make_good_what_is_late() -> None:
    hours, shift = Hours(), Shift(jobs=45.0)
    hours.go(900, shift.sample)
    assert shift.waiting < 45.0
    assert hours.instances in (5, 6, 7)


def test_workers_know_afterwards_how_many_are_needed_and_do_not_swing() -> None:
    hours, shift = Hours(), Shift(jobs=45.0)
    hours.go(1800, shift.sample)
    later = hours.go(3600, shift.sample)
    assert len({decision.wanted for decision in later}) <= 2
    assert shift.waiting < 45.0 * 30
    shift.jobs = 4.0
    hours.go(900, shift.sample)
    assert hours.instances == 1


def test_those_that_do_no_jobs_do_not_grow_by_the_age_of_the_queue() -> None:
    hours = Hours()
    hours.go(300, load(3, queue_age_s=500.0))
    assert hours.instances == 1


# ── holding and shrinking ──


def test_what_nobody_needed_for_the_window_is_given_up_by_half_at_a_time() -> None:
    hours = Hours(instances=8)
    hours.go(200, load(140))
    made = hours.go(200, load(8))
    sizes = [decision.wanted for decision in made]
    assert list(dict.fromkeys(sizes)) == [
        8,
        7,
        4,
        2,
        1,
    ]  # the first look after the load fell was still in doubt
    assert sizes.index(7) * 2 >= 80
    assert "1 instance would do, but 8 were needed within 90 s" in made[30].why


def test_a_lull_that_is_shorter_than_the_window_changes_nothing() -> None:
    hours = Hours(instances=8)
    hours.go(300, load(140))
    for _ in range(10):
        hours.go(60, load(5))
        hours.go(30, load(140))
    assert hours.instances == 8


def test_without_numbers_everything_stays() -> None:
    hours = Hours(instances=5)
    hours.go(100, load(75))
    for _ in range(300):
        hours.now += 2.0
        decision = hours.scaler.decide([], 1, 8, hours.now)
        assert decision.wanted == 5
    assert re.fullmatch(r"Stays at 5: no instance has told its numbers for 600 s\.", decision.why)


def test_before_any_number_it_is_the_least_of_the_range() -> None:
    decision = Scaler(ScaleSettings()).decide([], 2, 8, 5.0)
    assert decision == Decision(2, "Stays at 2: no instance has told its numbers so far.", 2)


def test_a_fleet_that_was_taken_over_keeps_its_size_until_the_window_has_passed() -> None:
    hours = Hours(Scaler(ScaleSettings(), wanted=6), instances=6)
    made = hours.go(88, load(4))
    assert {decision.wanted for decision in made} == {6}


def test_a_range_that_was_changed_holds_at_once() -> None:
    hours = Hours(instances=4)
    hours.go(20, load(50))
    hours.low = hours.high = 6
    assert hours.go(2, load(50))[0].wanted == 6


def test_samples_that_come_again_count_once() -> None:
    one, two = Scaler(ScaleSettings()), Scaler(ScaleSettings())
    dice, kept = random.Random(2), []
    for number in range(200):
        now = number * 2.0
        kept = [*kept, Sample(now, 2, dice.uniform(10, 60), 20.0)][-20:]
        assert one.decide(kept, 1, 8, now) == two.decide(kept[-1:], 1, 8, now)


def test_a_limit_that_is_forgotten_when_idle_does_not_make_busy_instances_too_few() -> None:
    """Learned under load: 5 at a time. With more instances nobody is bound by it, and 32 is shown again."""
    hours = Hours(high=12)
    busy = lambda n: 0.6 * 5 * n <= 24  # noqa: E731 - reads best here
    made = hours.go(1800, lambda at, n: Sample(at, n, 24, 5.0 if busy(n) else 32.0))
    assert {decision.wanted for decision in made[30:]} <= {5, 6, 7}


# ── dry run ──


def test_a_dry_run_says_what_it_would_do_and_does_nothing() -> None:
    hours = Hours(Scaler(ScaleSettings(dry_run=True)), instances=2)
    made = hours.go(60, load(100))
    assert {decision.wanted for decision in made} == {2}
    assert hours.last.advised == 6
    assert any(re.match(r"Dry run, 2 run\. From 2 to \d: ", decision.why) for decision in made)


def test_every_decision_is_one_sentence() -> None:
    dice = random.Random(4)
    hours = Hours()
    for _ in range(300):
        level, age, slow = dice.uniform(0, 120), dice.choice((0, 20, 90)), dice.choice((0.1, 3.0))
        for decision in hours.go(
            dice.choice((4, 40, 200)), load(level, queue_age_s=age, p99_s=slow, jobs=3.0)
        ):
            assert re.fullmatch(r"(From \d+ to \d+|Stays at \d+): [a-z0-9].*[^.]\.", decision.why), (
                decision.why
            )
            assert 1 <= decision.wanted <= 8
