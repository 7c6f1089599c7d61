"""Callers between a service and its canaries, on 10,000 keys."""

from __future__ import annotations

import pytest

from tenfold.gateway.canary import chosen, weights

KEYS = [f"customer {n}" for n in range(10_000)]


def split(**canary: float) -> dict[str, str]:
    among = weights("orders", canary)
    return {key: chosen(key, among) for key in KEYS}


@pytest.mark.parametrize("percent", [1.0, 5.0, 25.0, 50.0, 95.0])
def test_a_canary_gets_its_share(percent: float) -> None:
    got = sum(name == "next" for name in split(next=percent).values())
    spread = 4 * (len(KEYS) * percent / 100 * (1 - percent / 100)) ** 0.5
    assert abs(got - len(KEYS) * percent / 100) <= spread


def test_a_caller_stays() -> None:
    assert split(next=20.0) == split(next=20.0)


def test_a_larger_weight_moves_callers_to_the_canary_only() -> None:
    before, after = split(next=5.0), split(next=15.0)
    moved = {(before[key], after[key]) for key in KEYS if before[key] != after[key]}
    assert moved == {("orders", "next")}


def test_of_two_canaries_each_gets_its_own() -> None:
    found = list(split(next=10.0, beta=30.0).values())
    assert [abs(found.count(name) - most) < 200 for name, most in (("next", 1000), ("beta", 3000))] == [
        True,
        True,
    ]


def test_nobody_goes_where_the_weight_is_0_and_all_where_it_is_100() -> None:
    assert set(split(next=0.0).values()) == {"orders"}
    assert set(split(next=100.0).values()) == {"next"}
