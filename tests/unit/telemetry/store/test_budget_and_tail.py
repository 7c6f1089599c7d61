"""What is recorded and what is kept of it: decisions, without clocks, files or threads."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold.telemetry.store.budget import SHUT, Bucket, Budget
from tenfold.telemetry.store.retention import AHEAD_S, BELIEVED_S, Kept, Steady, to_free
from tenfold.telemetry.store.rollup import (
    FINE,
    MINUTE,
    QUARTER,
    Raw,
    due,
    quantile,
    resolution_of,
    rolled_up,
    step_of,
)
from tenfold.telemetry.store.tail import JUDGED_FROM, Tail, TailPolicy, sampled

# ── budgets ───────────────────────────────────────────────────────────────────────────────────────


def second(budget: Budget, requests: int, first: int) -> int:
    """How many of so many requests in one second are taken."""
    taken = sum(n & budget.mask == 0 and budget.take() for n in range(first, first + requests))
    budget.tick()
    return taken


def test_a_little_traffic_is_taken_whole() -> None:
    budget = Budget(20)
    assert [second(budget, 15, n * 15) for n in range(10)] == [15] * 10


def test_no_second_takes_more_than_its_budget_and_most_of_it_is_used() -> None:
    budget = Budget(20)
    taken = [second(budget, 10_000, n * 10_000 + 1) for n in range(40)]
    assert max(taken) <= 20
    assert sum(taken[20:]) / 20 > 8


def test_under_load_the_whole_second_is_sampled_and_not_its_beginning() -> None:
    budget = Budget(20)
    for n in range(20):
        second(budget, 10_000, n * 10_000 + 1)
    assert 0 < budget.mask < SHUT
    assert bin(budget.mask).count("1") == budget.mask.bit_length()  # masks of all processes are nested


def test_when_the_load_is_over_all_is_taken_again() -> None:
    budget = Budget(20)
    for n in range(20):
        second(budget, 10_000, n * 10_000 + 1)
    for _ in range(20):
        second(budget, 5, 1)
    assert second(budget, 5, 1) == 5


def test_a_budget_of_nothing_takes_nothing() -> None:
    budget = Budget(0)
    budget.tick()
    assert second(budget, 100, 1) == 0


@given(st.floats(allow_nan=False, min_value=-1e9, max_value=1e9))
def test_a_process_that_was_stopped_owes_nothing(seconds: float) -> None:
    budget = Budget(20)
    budget.tick(seconds)
    assert 1 <= budget.left <= 40


def test_a_bucket_refills_with_time_and_a_clock_that_goes_back_takes_nothing_away() -> None:
    bucket = Bucket(10, 5)
    assert [bucket.take(0.0) for _ in range(6)] == [True] * 5 + [False]
    assert bucket.take(0.1)
    assert not bucket.take(-100.0)
    assert bucket.take(0.5)


# ── the tail ──────────────────────────────────────────────────────────────────────────────────────


def trace_id(number: int) -> str:
    return f"{random.Random(number).getrandbits(128):032x}"


def test_what_failed_is_kept_and_what_is_slow_for_its_own_operation() -> None:
    tail, random_ = Tail(TailPolicy(rest_per_s=0, share=0)), random.Random(1)
    for _ in range(2000):
        tail.observe("fast", random_.uniform(0.001, 0.002))
        tail.observe("slow", random_.uniform(1, 2))
    why = [
        tail.decide(operation, seconds, failed=failed, trace_id=trace_id(n), now=100.0)
        for n, (operation, seconds, failed) in enumerate(
            [
                ("fast", 0.0015, False),
                ("fast", 0.0015, False),
                ("fast", 0.01, False),
                ("slow", 1.5, False),
                ("slow", 1.5, False),
                ("slow", 3.0, False),
                ("fast", 0.0001, True),
            ]
        )
    ]
    assert why == ["first", None, "slow", "first", None, "slow", "failed"]


def test_about_one_in_a_hundred_is_slow_whatever_the_distribution() -> None:
    random_ = random.Random(2)
    for draw in (lambda: random_.expovariate(20), lambda: random_.lognormvariate(-4, 1), lambda: 0.005):
        tail = Tail()
        slow_s = 0.0
        for _ in range(10_000):
            slow_s = tail.observe("x", draw())
        beyond = sum(draw() > slow_s for _ in range(10_000))
        assert beyond <= 150  # a bucket is a tenth wide


def test_nothing_is_called_slow_before_the_operation_is_known() -> None:
    tail = Tail()
    for _ in range(JUDGED_FROM - 1):
        assert tail.observe("x", 0.001) == float("inf")
    assert tail.observe("x", 0.001) < 0.0015


def test_what_is_slow_follows_an_operation_that_becomes_slower() -> None:
    tail = Tail()
    for _ in range(10_000):
        tail.observe("x", 0.001)
    for _ in range(20_000):
        tail.observe("x", 0.1)
    assert tail.observe("x", 0.1) >= 0.1


def test_a_flood_of_failures_is_bounded_and_counted() -> None:
    tail = Tail(TailPolicy(failed_per_s=10))
    kept = sum(
        tail.decide("x", 0.1, failed=True, trace_id=trace_id(n), now=n / 1000) is not None
        for n in range(10_000)
    )
    assert kept <= 50 + 10 * 10
    assert tail.over == 10_000 - kept


def test_everything_is_kept_while_there_is_little() -> None:
    tail = Tail()
    assert all(tail.decide("x", 0.1, failed=False, trace_id=trace_id(n), now=float(n)) for n in range(50))


def test_the_share_is_the_same_traces_in_every_process_and_about_as_many_as_said() -> None:
    ids = [trace_id(n) for n in range(20_000)] + [f"{7:016x}{n:016x}" for n in range(20_000)]
    for half in (ids[:20_000], ids[20_000:]):
        assert 120 < sum(sampled(one, 0.01) for one in half) < 280
    assert not sampled("no id", 1.0)


def test_operations_beyond_two_thousand_take_no_memory() -> None:
    tail = Tail()
    for n in range(10_000):
        tail.observe(f"op{n}", 0.1)
        tail.decide(f"op{n}", 0.1, failed=False, trace_id=trace_id(1), now=0.0)
    assert len(tail.paces) <= 2001


# ── resolutions ───────────────────────────────────────────────────────────────────────────────────


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 100), st.lists(st.integers(0, 9), max_size=4))),
    st.sampled_from([60, 900]),
)
def test_rolling_up_loses_nothing(points: list[tuple[int, int, list[int]]], step: int) -> None:
    raw = [Raw(at, float(value), 1.0, [float(b) for b in buckets]) for at, value, buckets in points]
    rolled = rolled_up(raw, step)
    assert sum(one.sum for one in rolled) == sum(value for _, value, _ in points)
    assert sum(one.count for one in rolled) == len(points)
    assert sum(sum(one.buckets or []) for one in rolled) == sum(sum(buckets) for *_, buckets in points)
    assert all(one.at % step == 0 for one in rolled)
    assert [one.at for one in rolled] == sorted({at // step * step for at, *_ in points})


def test_rolling_goes_on_where_it_stopped_and_starts_over_after_a_clock_was_put_back() -> None:
    now = 10_000.0
    assert due(None, now, 60) == (9900, 9960)
    assert due(9960, now, 60) is None
    assert due(9960, now + 60, 60) == (9960, 10_020)
    assert due(5000, now, 60) == (5000, 9960)
    assert due(10_000_000, now, 60) == (9900, 9960)
    assert due(0, 1_000_000.0, 60) == (999_960 - 86_400, 999_960)


@pytest.mark.parametrize(
    ("span_s", "step"),
    [(60, 5), (900, 10), (3600, 60), (6 * 3600, 300), (86_400, 1800), (7 * 86_400, 10_800)],
)
def test_a_picture_has_about_ninety_points(span_s: float, step: int) -> None:
    assert step_of(0, span_s) == step


def test_what_is_old_is_read_as_coarsely_as_it_is_kept() -> None:
    assert resolution_of(5, 0, 600) == FINE
    assert resolution_of(5, 0, 3 * 3600) == MINUTE
    assert resolution_of(60, 0, 600) == MINUTE
    assert resolution_of(5, 0, 3 * 86_400) == QUARTER


def test_percentiles_lie_within_their_bucket() -> None:
    assert quantile((1.0, 2.0), (0, 10, 0), 0.5) == 1.5
    assert quantile((1.0, 2.0), (0, 0, 5), 0.5) == 2.0
    assert quantile((), (), 0.5) == 0.0
    assert quantile((1.0,), (0, 0), 0.99) == 0.0


# ── what goes ─────────────────────────────────────────────────────────────────────────────────────


def test_nothing_goes_while_there_is_room() -> None:
    assert to_free({"log": Kept(10, 1000)}, 900, 1000) == {}


def test_a_flood_of_one_kind_washes_away_that_kind_only() -> None:
    kept = {"log": Kept(900_000, 900), "trace": Kept(50, 50), "request": Kept(50, 50), "job": Kept(0, 0)}
    free = to_free(kept, 1050, 1000)
    assert set(free) == {"log"}
    assert 50_000 < free["log"] < 200_000


@settings(max_examples=40)
@given(
    st.dictionaries(
        st.sampled_from(["request", "job", "trace", "log", "point"]),
        st.builds(Kept, rows=st.integers(0, 10**6), bytes=st.integers(0, 10**9)),
    ),
    st.integers(0, 10**9),
)
def test_never_more_goes_than_there_is(kept: dict[str, Kept], size: int) -> None:
    for kind, rows in to_free(kept, size, 10**8).items():
        assert 0 < rows <= kept[kind].rows


def test_a_jump_of_the_clock_makes_nothing_old_until_it_has_lasted() -> None:
    steady = Steady(1000.0, 0.0)
    assert steady.now(1010.0, 10.0) == 1010.0
    assert steady.now(1_000_010.0, 20.0) == 1020.0
    assert steady.jumped_s == 1_000_010.0 - 1020.0
    assert steady.now(1030.0, 30.0) == 1030.0
    assert steady.jumped_s == 0
    year = 365 * 86_400.0
    assert steady.now(1040.0 + year, 40.0) == 1040.0
    assert steady.now(1040.0 + BELIEVED_S + year, 40.0 + BELIEVED_S) == 1040.0 + BELIEVED_S + year
    assert AHEAD_S >= 3600
