"""Leases of units: never more than the limit over a fleet, seldom a question to the store."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support.envelopes import allowed, over
from support.leasing import LEASE_US, ByWallClock, Fleet, UsedAfterItsEnd
from support.trials import Trials
from tenfold.guard.gcra import Cell, Taken
from tenfold.guard.leasing import CHECKS_MIN, FREE, KEPT, SHARE, Leasing

ROOM, COST = 1_000_000, 1_000  # 1,000 a second, as many at once
CELL: Cell = ("k", COST, ROOM)


def steady(rate: float) -> Callable[[float], float]:
    return lambda _: rate


def waves(passed: float) -> float:
    """A little traffic, none, and a flood."""
    return 500 if passed % 1 < 0.4 else 0 if passed % 1 < 0.75 else 5_000


def busy(leasing: Leasing, *, gap_us: int = 10_000, now_us: int = 0) -> int:
    """Ask often enough that leases are worth it; the time after that."""
    for _ in range(9):
        leasing.wanted([CELL], now_us)
        leasing.told([CELL], Taken(True, 0, (COST,)), now_us)
        now_us += gap_us
    return now_us


def lease(leasing: Leasing, now_us: int, *, ahead_us: int = 0) -> int:
    """Take a lease on the cell, whose store's clock is an hour ahead; how much it is."""
    extras = leasing.wanted([CELL], now_us)
    assert extras is not None
    taken = Taken(True, now_us + 3_600_000_000, (ahead_us + COST + extras[0],))
    leasing.granted([CELL], extras, taken, now_us)
    return extras[0]


# ── one instance ──


def test_who_asks_seldom_takes_nothing_ahead() -> None:
    leasing = Leasing(LEASE_US)
    for second in range(20):
        assert leasing.wanted([CELL], second * 400_000) is None


def test_who_asks_often_does_and_then_decides_by_itself() -> None:
    leasing = Leasing(LEASE_US)
    now = busy(leasing)
    size = lease(leasing, now)
    assert CHECKS_MIN * COST <= size <= ROOM // SHARE
    got = 0
    while leasing.take([CELL], now) is not None:
        got += 1
    assert size // COST - 1 <= got <= size // COST  # the last may begin too near


def test_a_slot_is_not_used_after_its_beginning() -> None:
    leasing = Leasing(LEASE_US)
    now = busy(leasing)
    size = lease(leasing, now)
    assert leasing.take([CELL], now + size // 2) is not None
    assert leasing.take([CELL], now + size) is None


def test_a_lease_ends_with_its_time_however_much_is_left() -> None:
    leasing = Leasing(LEASE_US)
    now = busy(leasing, gap_us=100)
    lease(leasing, now, ahead_us=20 * LEASE_US)
    assert leasing.take([CELL], now + LEASE_US) is not None
    assert leasing.take([CELL], now + LEASE_US + 1) is None


def test_a_scarce_cell_is_not_lent() -> None:
    leasing = Leasing(LEASE_US)
    now = busy(leasing)
    leasing.told([CELL], Taken(True, 0, (ROOM // FREE,)), now)
    assert leasing.wanted([CELL], now) is None
    leasing.scarce([CELL], now)
    assert leasing.wanted([CELL], now + 1) is None


def test_a_small_limit_is_never_lent() -> None:
    leasing = Leasing(LEASE_US)
    small: Cell = ("k", COST, (SHARE * CHECKS_MIN - 1) * COST)
    assert all(leasing.wanted([small], n) is None for n in range(50))
    assert len(leasing) == 0


def test_work_on_several_cells_needs_a_lease_on_each() -> None:
    leasing = Leasing(LEASE_US)
    cells: list[Cell] = [CELL, ("other", COST, 2 * ROOM)]
    now, extras = 0, None
    for now in range(0, 90_000, 10_000):
        extras = leasing.wanted(cells, now)
        leasing.told(cells, Taken(True, 0, (COST, COST)), now)
    assert extras is not None
    assert all(extras)
    ahead = tuple(COST + extra for extra in extras)
    leasing.granted(cells, extras, Taken(True, now, ahead), now)
    taken = leasing.take(cells, now)
    assert taken is not None
    assert taken.ahead_us == ahead
    assert leasing.take([*cells, ("third", COST, ROOM)], now) is None


def test_what_is_told_of_the_room_counts_the_lease_as_used() -> None:
    leasing = Leasing(LEASE_US)
    now = busy(leasing)
    size = lease(leasing, now, ahead_us=7_000)
    taken = leasing.take([CELL], now + 5_000)
    assert taken is not None
    assert taken.ahead_us == (7_000 + COST + size,)


def test_the_unused_end_is_given_back_once() -> None:
    leasing = Leasing(LEASE_US)
    now = busy(leasing, gap_us=100)
    size = lease(leasing, now, ahead_us=20 * LEASE_US)
    assert leasing.take([CELL], now) is not None
    assert leasing.lapsed(now + LEASE_US) == []
    (unused,) = leasing.lapsed(now + LEASE_US + 1)
    assert unused == ("k", now + 3_600_000_000 + 20 * LEASE_US + COST + size, size - COST)
    assert leasing.take([CELL], now) is None
    assert leasing.lapsed(now + 9 * LEASE_US, everything=True) == []


def test_what_is_known_of_cells_is_bounded_and_forgotten() -> None:
    leasing = Leasing(LEASE_US, cells_max=10)
    for n in range(50):
        leasing.wanted([(f"k{n}", COST, ROOM)], n)
    assert len(leasing) == 10
    leasing.lapsed(KEPT * LEASE_US)
    assert len(leasing) == 10
    leasing.lapsed((KEPT + 1) * LEASE_US)
    assert len(leasing) == 0


# ── a fleet ──


@pytest.mark.parametrize("rate", [300, 800, 1_000, 2_000])
@pytest.mark.parametrize("dear", [1, 20])
def test_eight_instances_admit_no_more_than_the_limit(rate: float, dear: int, trials: Trials) -> None:
    fleet = Fleet(
        rate=steady(rate), per_s=1_000, burst=1_000, seconds=2, seed=dear, cost=lambda d: d.choice((1, dear))
    ).run()
    assert over(fleet.admitted, fleet.room_us) == 0
    trials("G13", len(fleet.wanted), "simulated")


def test_nor_in_waves(trials: Trials) -> None:
    for seed in range(3):
        fleet = Fleet(rate=waves, per_s=1_000, burst=200, seconds=3, seed=seed).run()
        assert fleet.local > 100
        assert over(fleet.admitted, fleet.room_us) == 0
        trials("G13", len(fleet.wanted), "simulated")


@pytest.mark.parametrize(("rate", "most"), [(500, 100), (800, 80), (900, 80)])
def test_below_the_limit_nobody_is_refused_and_the_store_is_seldom_asked(rate: float, most: int) -> None:
    fleet = Fleet(rate=steady(rate), per_s=1_000, burst=1_000, seconds=6).run()
    assert len(fleet.admitted) == len(fleet.wanted)
    assert fleet.per_thousand <= most


@pytest.mark.parametrize("instances", [1, 4])
def test_a_crowd_is_no_reason_to_ask_more_often(instances: int, trials: Trials) -> None:
    """Twenty times the checks of above: as many questions a second, or fewer."""
    fleet = Fleet(rate=steady(10_000), per_s=40_000, burst=40_000, instances=instances, seconds=2).run()
    assert len(fleet.admitted) == len(fleet.wanted)
    assert over(fleet.admitted, fleet.room_us) == 0
    assert fleet.asked <= 40 * instances
    trials("G13", len(fleet.wanted), "simulated")


def test_at_twice_the_limit_it_is_met_to_the_hundredth() -> None:
    fleet = Fleet(rate=steady(2_000), per_s=1_000, burst=1_000, seconds=7).run()
    # What leases cost is room, once, while it fills; steady is what comes after.
    since = 4 * LEASE_US
    late = sum(cost for at, cost in fleet.admitted if at > since)
    assert late >= 0.99 * (max(at for at, _ in fleet.wanted) - since)
    got, best = sum(cost for _, cost in fleet.admitted), allowed(fleet.wanted, fleet.room_us)
    assert best - got <= fleet.room_us // FREE


@pytest.mark.parametrize("broken", [UsedAfterItsEnd, ByWallClock])
def test_broken_leases_are_convicted(broken: type[Leasing]) -> None:
    fleet = Fleet(rate=waves, per_s=1_000, burst=200, seconds=4, leasing=lambda: broken(LEASE_US)).run()
    assert over(fleet.admitted, fleet.room_us) > 0
