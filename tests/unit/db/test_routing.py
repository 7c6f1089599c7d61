"""Which copy answers a read: decided from positions and times alone."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold._core.causal import ORIGIN, Position
from tenfold.db.routing import NEVER, History, check_consistency, choose, fits, oldest_allowed

NOW = 100.0
HERE = Position(1, 50)


@dataclass(eq=False)
class Copy:
    position: Position = HERE
    as_of: float = NOW - 0.2
    up: bool = True
    shunned_until: float = 0.0
    in_flight: int = 0


def chosen(*copies: Copy, position: Position = ORIGIN, as_of: float = NOW - 10, seed: int = 0) -> Copy | None:
    return choose(copies, position, as_of, NOW, random.Random(seed))


def test_a_copy_that_has_the_write_answers_and_one_that_has_it_not_does_not() -> None:
    behind, there = Copy(Position(1, 49)), Copy(Position(1, 50))
    assert {chosen(behind, there, position=Position(1, 50), seed=n) for n in range(20)} == {there}
    assert chosen(behind, position=Position(1, 50)) is None


def test_a_copy_on_an_old_timeline_does_not_answer_however_far_it_has_come() -> None:
    """It went on after the place where the promoted one began, with changes that nobody has any more."""
    assert chosen(Copy(Position(1, 10_000)), position=Position(2, 10)) is None
    assert chosen(Copy(Position(2, 10)), position=Position(2, 10)) is not None


def test_a_write_whose_timeline_has_ended_is_on_the_next_one() -> None:
    assert chosen(Copy(Position(2, 60)), position=Position(1, 50)) is not None


def test_a_copy_that_follows_the_new_timeline_may_not_have_applied_the_old_one() -> None:
    assert chosen(Copy(Position(2, 40)), position=Position(1, 50)) is None


@pytest.mark.parametrize(
    "copy", [Copy(up=False), Copy(as_of=NOW - 10.1), Copy(shunned_until=NOW + 0.1), Copy(as_of=NEVER)]
)
def test_copies_that_are_down_too_old_or_shunned_are_left_out(copy: Copy) -> None:
    assert chosen(copy) is None


def test_one_that_was_tried_is_not_tried_again() -> None:
    first, second = Copy(), Copy()
    assert choose([first, second], ORIGIN, NEVER, NOW, random.Random(0), [first]) is second
    assert choose([first, second], ORIGIN, NEVER, NOW, random.Random(0), [first, second]) is None


def test_the_less_busy_of_two_is_taken() -> None:
    busy, idle = Copy(in_flight=3), Copy(in_flight=2)
    assert {chosen(busy, idle, seed=n) for n in range(20)} == {idle}


def test_equally_busy_copies_share_the_reads() -> None:
    copies = [Copy() for _ in range(4)]
    shares = Counter(id(chosen(*copies, seed=n)) for n in range(4000))
    assert len(shares) == 4
    assert min(shares.values()) > 850


@given(st.lists(st.builds(Copy, st.builds(Position, st.integers(1, 3), st.integers(0, 9)), st.floats(0, NOW))),
       st.builds(Position, st.integers(1, 3), st.integers(0, 9)), st.floats(0, NOW), st.integers())  # fmt: skip
def test_whatever_is_chosen_fits_and_the_primary_answers_only_when_nothing_does(
    copies: list[Copy], position: Position, as_of: float, seed: int
) -> None:
    found = chosen(*copies, position=position, as_of=as_of, seed=seed)
    good = [copy for copy in copies if fits(copy, position, as_of, NOW)]
    assert found in good if good else found is None


def test_copies_do_not_get_older_while_the_primary_is_down() -> None:
    assert oldest_allowed(NOW, NOW - 0.3, 10.0) == NOW - 10
    assert oldest_allowed(NOW, NOW - 600, 10.0) == NOW - 610


# ── how old a copy is ─────────────────────────────────────────────────────────────────────────────


def test_a_copy_is_as_old_as_the_time_since_the_primary_was_where_it_is() -> None:
    history = History(60)
    for second, offset in enumerate((10, 20, 30)):
        history.note(float(second), Position(1, offset))
    assert [history.as_of(Position(1, o)) for o in (9, 10, 19, 20, 30, 99)] == [NEVER, 0, 0, 1, 2, 2]
    assert history.last == Position(1, 30)


def test_a_database_in_which_nothing_changes_is_not_old() -> None:
    history = History(60)
    for second in range(1000):
        history.note(float(second), Position(1, 10))
    assert history.as_of(Position(1, 10)) == 999


def test_an_old_primary_that_comes_back_changes_nothing() -> None:
    history = History(60)
    history.note(1.0, Position(2, 10))
    history.note(2.0, Position(1, 5_000))
    assert history.as_of(Position(1, 5_000)) == NEVER
    assert history.as_of(Position(2, 10)) == 1


def test_a_copy_that_follows_the_new_timeline_is_as_old_as_what_it_has_applied() -> None:
    history = History(60)
    for second, at in enumerate([(1, 10), (1, 20), (2, 21), (2, 30)]):
        history.note(float(second), Position(*at))
    assert history.as_of(Position(2, 15)) == 0
    assert history.as_of(Position(2, 25)) == 2


def test_the_history_is_bounded() -> None:
    history = History(span_s=10, step_s=1)
    for second in range(1000):
        history.note(float(second), Position(1, second))
    assert history.as_of(Position(1, 900)) == NEVER
    assert history.as_of(Position(1, 995)) == 995


@given(
    st.lists(st.tuples(st.floats(0.001, 0.5), st.integers(0, 5)), min_size=1, max_size=60),
    st.integers(0, 400),
)
def test_a_copy_never_looks_younger_than_it_is(steps: list[tuple[float, int]], offset: int) -> None:
    """Against the whole list of notes, of which the history keeps only some."""
    history, at, position = History(1000, step_s=0.3), 0.0, 0
    noted: list[tuple[float, int]] = []
    for wait, growth in steps:
        at, position = at + wait, position + growth
        history.note(at, Position(1, position))
        noted.append((at, position))
    assert all(a <= b for a, b in pairwise(noted))
    true = max((time for time, place in noted if place <= offset), default=NEVER)
    assert history.as_of(Position(1, offset)) <= true


# ── what a caller may ask for ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("consistency", ["own", "strong", 0, 2.0, 30])
def test_consistency_is_own_strong_or_seconds(consistency: Any) -> None:
    check_consistency(consistency)


@pytest.mark.parametrize("consistency", ["eventual", -1.0, True, None, float("nan")])
def test_any_other_consistency_is_refused_with_what_there_is(consistency: Any) -> None:
    with pytest.raises(ValueError, match=r'"own".*"strong".*seconds'):
        check_consistency(consistency)
