"""The algorithm alone, by the thousand."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tenfold.guard.gcra import decide, wait_us

INTERVAL, BURST = 1_000, 5
ROOM = INTERVAL * BURST
cost = st.integers(1, 7).map(lambda units: units * INTERVAL)


@given(st.lists(st.tuples(st.integers(0, 3_000), cost), max_size=60))
def test_over_any_time_no_more_than_the_burst_and_what_flows_in_is_admitted(
    arrivals: list[tuple[int, int]],
) -> None:
    now = tat = 0
    admitted: list[tuple[int, int]] = []
    for pause, price in arrivals:
        now += pause
        taken = decide([("k", price, ROOM)], [tat], now)
        if taken.admitted:
            tat = now + taken.ahead_us[0]
            admitted.append((now, price))
    for first in range(len(admitted)):
        for last in range(first, len(admitted)):
            spent = sum(price for _, price in admitted[first : last + 1])
            assert spent <= ROOM + admitted[last][0] - admitted[first][0]


@given(st.integers(0, 20_000), cost)
def test_who_waits_as_long_as_told_is_admitted_and_not_a_microsecond_earlier(tat: int, price: int) -> None:
    cells = [("k", price, ROOM)]
    taken = decide(cells, [tat], 1_000)
    wait = wait_us(cells, taken)
    if price > ROOM:
        assert wait is None
        return
    assert wait is not None
    assert (wait == 0) == taken.admitted
    tat = 1_000 + min(max(tat - 1_000, 0), ROOM) if not taken.admitted else tat
    assert decide(cells, [tat], 1_000 + wait).admitted
    assert not wait or not decide(cells, [tat], 1_000 + wait - 1).admitted


def test_a_clock_that_was_set_back_costs_one_period_at_most() -> None:
    cells = [("k", INTERVAL, ROOM)]
    taken = decide(cells, [10**15], 0)
    assert not taken.admitted
    assert wait_us(cells, taken) == INTERVAL
    assert decide(cells, [10**15], ROOM).ahead_us == (ROOM,)


def test_all_cells_count_or_none() -> None:
    taken = decide([("wide", 1, 100), ("full", 1, 5)], [10, 5], 0)
    assert not taken.admitted
    assert taken.ahead_us == (10, 5)
