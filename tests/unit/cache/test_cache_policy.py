"""The pure decisions: lives, freshness, fences."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.cache.policy import (
    Entry,
    Fences,
    Freshness,
    Lifetime,
    absence_of,
    again,
    entry_of,
    jittered,
    judge,
)
from tenfold.errors import ConfigError, NoRow, NotFound

RANDOM = Random(0)


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (0.0, Freshness.FRESH),
        (9.9, Freshness.FRESH),
        (10.0, Freshness.STALE),
        (14.9, Freshness.STALE),
        (15.0, Freshness.EXPIRED),
    ],
)
def test_an_entry_is_fresh_then_stale_then_expired(now: float, expected: Freshness) -> None:
    entry = entry_of("v", Lifetime(10, 5, jitter=0), (), 0.0, 100.0, RANDOM)
    assert judge(entry, now) is expected


def test_no_entry_is_an_expired_one() -> None:
    assert judge(None, 0.0) is Freshness.EXPIRED


def test_the_ceiling_bounds_the_whole_life() -> None:
    entry = entry_of("v", Lifetime(10, 50, jitter=0), (), 0.0, 30.0, RANDOM)
    assert entry is not None
    assert (entry.fresh_until, entry.stale_until) == (10.0, 30.0)


def test_a_life_counts_from_the_beginning_of_the_load() -> None:
    entry = entry_of("v", Lifetime(10, jitter=0), (), 100.0, 1000.0, RANDOM)
    assert entry is not None
    assert entry.fresh_until == 110.0


@given(
    life=st.floats(0.001, 1e6),
    jitter=st.floats(0, 0.99),
    seed=st.integers(),
)
def test_jitter_only_shortens_and_by_its_share_at_most(life: float, jitter: float, seed: int) -> None:
    got = jittered(life, jitter, Random(seed))
    assert life * (1 - jitter) * 0.999999 <= got <= life


def test_none_is_kept_only_when_a_negative_life_is_declared() -> None:
    assert entry_of(None, Lifetime(10), (), 0, 100, RANDOM) is None
    kept = entry_of(None, Lifetime(10, 99, negative_ttl_s=2, jitter=0), (), 0, 100, RANDOM)
    assert kept is not None
    assert (kept.fresh_until, kept.stale_until) == (2, 2)


@pytest.mark.parametrize("error", [NotFound("no product 5"), NoRow("no row")])
def test_errors_that_mean_absent_are_kept_and_never_look_fresh(error: Exception) -> None:
    kept = absence_of(error, Lifetime(10, negative_ttl_s=2, jitter=0), (), 0, 100, RANDOM)
    assert kept is not None
    assert kept.fresh_until < 0
    assert judge(kept, 1.9) is Freshness.ABSENT
    assert judge(kept, 2.0) is Freshness.EXPIRED


def test_other_errors_are_never_kept() -> None:
    assert absence_of(ValueError(), Lifetime(10, negative_ttl_s=2), (), 0, 100, RANDOM) is None


def test_an_error_raised_again_is_an_equal_one_without_its_past() -> None:
    try:
        raise NotFound("no product 5", headers={"X": "1"}, product=5)
    except NotFound as raised:
        copy = again(raised)
    assert (copy.detail, copy.headers, copy.extra) == ("no product 5", {"X": "1"}, {"product": 5})
    assert str(copy) == "no product 5"
    assert copy.__traceback__ is None


@pytest.mark.parametrize(
    "life",
    [Lifetime(0), Lifetime(1, -1), Lifetime(1, negative_ttl_s=0), Lifetime(1, jitter=1)],
)
def test_impossible_times_are_refused_with_a_sentence(life: Lifetime) -> None:
    with pytest.raises(ConfigError, match=r"cache shop: .* is .*It must be"):
        life.checked("cache shop")


def test_a_fill_is_touched_by_what_was_invalidated_after_it_was_opened() -> None:
    fences = Fences()
    fences.invalidate(["a"])
    fill = fences.open()
    assert not fences.touched(fill, ["a"])
    fences.invalidate(["b"])
    assert fences.touched(fill, ["b", "c"])
    assert not fences.touched(fill, ["a", "c"])


def test_names_are_forgotten_when_no_fill_is_open() -> None:
    fences = Fences(names_max=1)
    fill = fences.open()
    fences.invalidate(["a"])
    fences.close()
    later = fences.open()
    fences.invalidate(["b"])  # one name is within the bound, because "a" is gone
    assert not fences.touched(later, ["c"])
    assert fences.touched(fill, ["b"])


def test_beyond_its_bound_a_fence_touches_every_open_fill_and_none_after() -> None:
    fences = Fences(names_max=2)
    fill = fences.open()
    fences.invalidate(["a", "b", "c"])
    assert fences.touched(fill, ["unrelated"])
    assert not fences.touched(fences.open(), ["a"])


def test_invalidating_all_touches_every_open_fill() -> None:
    fences = Fences()
    fill = fences.open()
    fences.invalidate_all()
    assert fences.touched(fill, ["x"])


def test_an_entry_carries_no_more_than_its_slots() -> None:
    assert not hasattr(Entry(1, fresh_until=0, stale_until=0), "__dict__")
