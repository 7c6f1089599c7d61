"""The causal token: text that travels, merges, and harms nobody when it is wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold._core.causal import (
    BEYOND,
    CLUSTERS_MAX,
    NEWEST,
    ORIGIN,
    Position,
    merged,
    position_of,
    raised,
    received,
)

CLUSTER = "6b02c1d29f8e7d6c"

clusters = st.text("0123456789abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=16)
positions = st.builds(Position, st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1))
tokens = st.dictionaries(clusters, positions, max_size=CLUSTERS_MAX).map(
    lambda known: _token(known) if known else ""
)


def _token(known: dict[str, Position]) -> str:
    token = ""
    for cluster, position in known.items():
        token = raised(token, cluster, position)
    return token


def test_a_token_reads_as_documented() -> None:
    token = raised("", CLUSTER, Position(1, 0x16B3748))
    assert token == "1.6b02c1d29f8e7d6c-1-16b3748"
    assert position_of(token, CLUSTER) == Position(1, 0x16B3748)
    assert position_of(token, "other") == ORIGIN


def test_a_later_write_raises_the_position_and_an_earlier_one_does_not() -> None:
    token = raised("", CLUSTER, Position(1, 20))
    assert position_of(raised(token, CLUSTER, Position(1, 30)), CLUSTER) == Position(1, 30)
    assert raised(token, CLUSTER, Position(1, 10)) == token


def test_a_new_timeline_is_further_than_any_place_on_the_old_one() -> None:
    token = raised(raised("", CLUSTER, Position(1, 10_000)), CLUSTER, Position(2, 10))
    assert position_of(token, CLUSTER) == Position(2, 10)


def test_a_position_that_nobody_knew_is_replaced_by_that_of_the_next_write() -> None:
    token = raised(raised("", CLUSTER, Position(1, 5)), CLUSTER, BEYOND)
    assert position_of(token, CLUSTER) == BEYOND
    assert position_of(raised(token, CLUSTER, Position(1, 9)), CLUSTER) == Position(1, 9)


def test_more_databases_than_a_token_holds_need_the_newest_state_of_all() -> None:
    token = _token({f"c{n}": Position(1, n) for n in range(CLUSTERS_MAX + 1)})
    assert token == NEWEST
    assert position_of(token, "c0") == position_of(token, "unheard-of") == BEYOND


@given(tokens)
def test_what_was_made_here_comes_back_from_outside_unchanged(token: str) -> None:
    assert received(token) == token


@given(tokens, tokens)
def test_merging_keeps_the_further_position_of_every_database(one: str, other: str) -> None:
    both = merged(one, other)
    assert both == NEWEST or received(both) == both
    for token in (one, other):
        for part in token[2:].split(".") if token else ():
            cluster = part.partition("-")[0]
            assert position_of(both, cluster) >= position_of(token, cluster)


@given(tokens)
def test_merging_with_nothing_or_itself_changes_nothing(token: str) -> None:
    assert merged(token, "") == merged("", token) == merged(token, token) == token


@pytest.mark.parametrize(
    "text",
    [
        "1.", "1", "2.a-1-1", "1.a-1", "1.a-1-1-1", "1.A-1-1", "1.a-1-g", "1.a-1-1.", "1.a-123456789-1", "1.a--1",
        "1.a-1-11111111111111111", "1.abcdefghijklmnopq-1-1", "**", "1.a-1-1\n", "1.a-1-1;", "1.é-1-1",
        "1." + ".".join(f"c{n}-1-1" for n in range(9)), "1.a-1-1" * 10_000,
    ],
)  # fmt: skip
def test_what_is_no_token_counts_as_none(text: str) -> None:
    assert received(text) == ""


@given(st.text(max_size=60))
def test_no_text_from_outside_raises(text: str) -> None:
    position_of(received(text), CLUSTER)
