"""The scaler on a fleet in simulated time, on traffic that was recorded and traffic that was made up; and scalers that it
is measured against, which miss what it holds."""

from __future__ import annotations

import random
from collections.abc import Callable
from statistics import mean

import pytest

from support.ideal import RESERVE, ideal, needed
from support.scaling import (
    LEDGER,
    TURNS_MAX,
    Decides,
    Fleet,
    Ran,
    Threshold,
    Traffic,
    any_spike,
    ramp,
    recorded,
    spike,
    square,
    steady,
    told,
    wave,
)
from tenfold._core.sections import ScaleSettings
from tenfold.runtime.scale import Decision, Sample, Scaler

HEIGHTS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0, 1.2, 1.5, 1.9)
"""What one instance serves before the spike: where a fleet of whole instances is lucky, and where it is not."""
needs_ledger = pytest.mark.skipif(not LEDGER.exists(), reason=f"the ledger {LEDGER} is not here")


def ours() -> Scaler:
    return Scaler(ScaleSettings())


def spikes(scaler: Callable[[], Decides], *heights: float, cold_s: float = 0.0) -> list[Ran]:
    return [Fleet(scaler(), cold_s=cold_s, seed=round(low * 100)).run(spike(low), 3600.0) for low in heights]


def faster(traffic: Traffic, times: float) -> Traffic:
    return lambda now: traffic(now * times)


# ── the figures ──


@needs_ledger
def test_recorded_trade_at_four_times_its_speed_is_in_target_at_little_more_than_the_ideal_cost() -> None:
    runs = []
    for peak in (2.0, 12.0):
        traffic, seconds = recorded(peak=peak)
        runs.append(Fleet(ours()).run(faster(traffic, 4.0), seconds / 4.0))
    _held(runs)


@needs_ledger
@pytest.mark.soak
def test_recorded_trade_is_in_target_at_little_more_than_the_ideal_cost_without_flapping() -> None:
    _held([Fleet(ours()).run(*recorded(peak=peak)) for peak in (2.0, 2.7, 3.3, 5.0, 7.5, 12.0)])


def _held(runs: list[Ran]) -> None:
    """The figure: 99 % of the time, 1.25 times the ideal, no flapping. In each run."""
    assert min(ran.steps for ran in runs) > 30_000
    assert min(ran.in_target for ran in runs) >= 0.99
    assert max(ran.cost for ran in runs) <= 1.25
    assert max(ran.turns_per_hour() for ran in runs) <= TURNS_MAX


def test_a_spike_of_eight_times_is_in_target_for_99_percent_of_its_hour_at_little_more_than_the_ideal_cost() -> (
    None
):
    runs = spikes(ours, *HEIGHTS)
    assert min(ran.in_target for ran in runs) >= 0.99
    assert max(ran.cost for ran in runs) <= 1.25
    assert max(ran.turns_per_hour() for ran in runs) <= TURNS_MAX


@pytest.mark.parametrize("seeds", [range(12), pytest.param(range(1000), marks=pytest.mark.soak)])
def test_spikes_of_any_kind_are_in_target_at_little_more_than_the_ideal_cost(seeds: range) -> None:
    runs = [any_spike(ours(), seed) for seed in seeds]
    costs = sorted(ran.cost for ran in runs)
    assert mean(ran.in_target for ran in runs) >= 0.99
    assert sum(ran.in_target >= 0.99 for ran in runs) >= 0.9 * len(runs)
    assert min(ran.in_target for ran in runs) >= 0.95
    assert mean(costs) <= 1.25
    assert costs[int(0.8 * len(costs))] <= 1.25
    assert max(ran.turns_per_hour() for ran in runs) <= TURNS_MAX


@needs_ledger
def test_a_scaler_that_knows_thresholds_only_misses_all_of_it() -> None:
    traffic, seconds = recorded(peak=2.7)
    ran = Fleet(Threshold()).run(faster(traffic, 4.0), seconds / 4.0)
    assert ran.in_target < 0.99
    assert ran.cost > 1.25
    assert ran.turns_per_hour() > 10 * TURNS_MAX


def test_a_scaler_that_knows_thresholds_only_flaps_in_spikes_at_a_higher_cost() -> None:
    runs = spikes(Threshold, *HEIGHTS[::3])
    assert mean(ran.cost for ran in runs) > 1.25
    assert min(ran.turns_per_hour() for ran in runs) > 5 * TURNS_MAX


class Fixed:
    """As many as it is told."""

    def __init__(self, count: int) -> None:
        self.count = count

    def decide(self, _samples: list[Sample], _low: int, _high: int, _now: float) -> Decision:
        return Decision(self.count, "")


@pytest.mark.parametrize("count", [1, 4, 9])
def test_nobody_can_do_with_less_than_the_ideal_fleet(count: int) -> None:
    enough, too_much = count - RESERVE, count - RESERVE / 2
    assert (needed(enough), needed(too_much)) == (count, count + 1)
    assert Fleet(Fixed(count), low=count).run(steady(too_much), 3600.0).in_target < 0.99
    assert Fleet(Fixed(count), low=count).run(steady(enough - RESERVE / 4), 3600.0).in_target >= 0.99


def test_the_ideal_fleet_begins_what_it_needs_in_time_and_pays_for_it() -> None:
    loads = [0.5] * 10 + [2.5] * 10 + [0.5] * 10
    assert ideal(loads, 1.0, start_s=0.0, low=1, turns_max=5) == 10 + 30 + 10
    assert ideal(loads, 1.0, start_s=4.0, low=1, turns_max=5) == 10 + 30 + 10 + 4 * 2


def test_the_ideal_fleet_turns_as_often_as_it_may_and_where_that_saves_most() -> None:
    loads = [2.5] + [0.5] * 3 + [2.5] + [0.5] * 9 + [2.5]
    costs = [ideal(loads, 1.0, start_s=0.0, low=1, turns_max=turns) for turns in range(6)]
    flat, dip, longer = 3.0 * len(loads), 2.0 * 3, 2.0 * 9
    assert costs == [flat, *[flat - longer] * 2, *[flat - longer - dip] * 3]
    assert costs[0] == 3.0 * 15


# ── other traffic ──


def test_a_daily_wave_is_followed() -> None:
    ran = Fleet(ours()).run(wave(period=14_400.0), 14_400.0)
    assert ran.in_target >= 0.99
    assert ran.cost <= 1.25
    assert ran.turns_per_hour() <= 2


def test_a_ramp_is_met_ahead_of_it() -> None:
    ran = Fleet(ours()).run(ramp(), 3600.0)
    assert ran.in_target >= 0.99
    assert ran.cost <= 1.25
    assert ran.turns_per_hour() == 0


@pytest.mark.parametrize("half_s", [30.0, 150.0, 400.0])
def test_traffic_that_flaps_makes_no_fleet_that_flaps(half_s: float) -> None:
    ran = Fleet(ours()).run(square(half=half_s), 7200.0)
    assert ran.turns_per_hour() <= TURNS_MAX, told(ran)
    assert ran.in_target >= 0.97
    assert ran.cost <= 1.25
    hasty = Scaler(ScaleSettings(window_s=2.0, pause_s=0.1, turns_max=10_000))
    assert Fleet(hasty).run(square(half=half_s), 3600.0).turns_per_hour() > TURNS_MAX


@pytest.mark.parametrize("seeds", [range(4), pytest.param(range(200), marks=pytest.mark.soak)])
def test_whatever_the_traffic_does_changes_of_direction_in_an_hour_are_bounded(seeds: range) -> None:
    for seed in seeds:
        dice = random.Random(seed)
        levels = [dice.choice((0.2, 1.0, 3.0, 9.0)) for _ in range(400)]
        width = dice.choice((20.0, 100.0, 250.0))
        ran = Fleet(ours(), seed=seed).run(lambda now, w=width, all_=levels: all_[int(now / w) % 400], 5400.0)
        assert ran.turns_per_hour() <= TURNS_MAX, told(ran)


@pytest.mark.parametrize("hours", [1, pytest.param(24, marks=pytest.mark.soak)])
@pytest.mark.parametrize("level", [0.7, 0.8, 0.85, 1.6, 1.7, 2.5, 2.8])
def test_noise_around_one_level_moves_next_to_nothing(level: float, hours: int) -> None:
    ran = Fleet(ours(), seed=round(level * 100)).run(steady(level), 3600.0 * hours)
    assert ran.turns_per_hour() <= 2, told(ran)
    assert ran.in_target >= 0.99


def test_a_fleet_of_one_that_starts_into_full_traffic_grows_in_two_looks() -> None:
    runs = [
        Fleet(ours(), seed=seed).run(steady(level), 3600.0) for level in (4.6, 5.0, 5.4) for seed in (1, 2)
    ]
    assert mean(ran.in_target for ran in runs) >= 0.99
    for ran in runs:
        reached = [count for at, count, _ in ran.moves if at <= 4.0][-1]
        assert 4 <= reached <= 7, told(ran)


def test_instances_that_are_slow_at_first_are_made_up_for() -> None:
    runs = spikes(ours, *HEIGHTS[::3], cold_s=15.0)
    assert mean(ran.in_target for ran in runs) >= 0.99
    assert mean(ran.cost for ran in runs) <= 1.25


def test_while_no_numbers_come_nothing_moves_and_afterwards_it_goes_on() -> None:
    ran = Fleet(ours(), dead=(1800.0, 2400.0)).run(wave(period=7200.0), 7200.0)
    assert not [at for at, *_ in ran.moves if 1800.0 + 10.0 < at < 2400.0]
    assert [at for at, *_ in ran.moves if 2400.0 <= at < 2500.0]


def test_limits_that_idle_instances_forget_do_not_make_it_swing() -> None:
    ran = Fleet(ours(), forgets=True).run(steady(3.4), 7200.0)
    assert ran.turns_per_hour() <= 2
    assert ran.in_target >= 0.99
