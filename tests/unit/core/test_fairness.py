"""Turns between shares: nobody starves, shares are within their bound, and nothing is kept of who is gone."""

from __future__ import annotations

import random
from collections import Counter, deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold._core.fairness import FairLine, Holdings, Weights
from tenfold.errors import ConfigError

SHARES = "abcde"
WEIGHTS = {"a": 1.0, "b": 1.0, "c": 2.0, "d": 5.0, "e": 0.25}


class FirstCome:
    """The broken variant: whoever came first is next."""

    def __init__(self) -> None:
        self.items: deque[tuple[str, int]] = deque()

    def push(self, share: str, item: tuple[str, int]) -> None:
        self.items.append(item)

    def pop(self) -> tuple[str, int]:
        return self.items.popleft()


def turns_of_the_quiet(line: FairLine[tuple[str, int]] | FirstCome, *, flood: int, rounds: int) -> list[int]:
    """How many others had their turn between the coming and the turn of a quiet tenant, again and again."""
    number, waited = 0, list[int]()
    for _ in range(flood):
        number += 1
        line.push("loud", ("loud", number))
    for _ in range(rounds):
        number += 1
        line.push("quiet", ("quiet", number))
        turns = 0
        while line.pop()[0] != "quiet":
            turns += 1
            number += 1
            line.push("loud", ("loud", number))
        waited.append(turns)
    return waited


def test_a_quiet_tenant_waits_one_turn_of_a_flood_of_any_length() -> None:
    assert max(turns_of_the_quiet(FairLine(), flood=1_000, rounds=100)) <= 1


def test_first_come_first_served_has_it_wait_for_the_whole_flood() -> None:
    assert min(turns_of_the_quiet(FirstCome(), flood=1_000, rounds=3)) >= 1_000


@given(
    st.lists(st.tuples(st.sampled_from(["push", "pop", "discard"]), st.sampled_from(SHARES)), max_size=200)
)
def test_of_one_share_the_order_of_arrival_holds_and_nobody_is_lost(steps: list[tuple[str, str]]) -> None:
    line: FairLine[tuple[str, int]] = FairLine(WEIGHTS.__getitem__)
    model: dict[str, deque[tuple[str, int]]] = {share: deque() for share in SHARES}
    for number, (step, share) in enumerate(steps):
        if step == "push":
            line.push(share, (share, number))
            model[share].append((share, number))
        elif step == "discard":
            known = bool(model[share])
            assert line.discard(share, model[share].pop() if known else (share, -1)) is known
        elif any(model.values()):
            served = line.pop()
            assert model[served[0]].popleft() == served
        assert line.size == len(list(line)) == sum(map(len, model.values()))
        assert all(line.waiting(share) == len(model[share]) for share in SHARES)


@settings(max_examples=60)
@given(st.randoms(use_true_random=False), st.integers(1, 400))
def test_shares_that_always_wait_are_served_by_their_weights_within_one_turn(
    rng: random.Random, turns: int
) -> None:
    line: FairLine[str] = FairLine(WEIGHTS.__getitem__)
    for share in rng.sample(SHARES, len(SHARES)):
        for _ in range(rng.randint(1, 3)):
            line.push(share, share)
    served = Counter[str]()
    for _ in range(turns):
        share = line.pop()
        served[share] += 1
        line.push(share, share)
        for a in SHARES:
            for b in SHARES:
                apart = served[a] / WEIGHTS[a] - served[b] / WEIGHTS[b]
                assert abs(apart) <= 1 / WEIGHTS[a] + 1 / WEIGHTS[b] + 1e-9


@pytest.mark.parametrize("seed", range(3))
def test_nobody_starves_while_others_come_all_the_time(seed: int) -> None:
    rng, line = random.Random(seed), FairLine[tuple[str, int]]()
    came: dict[tuple[str, int], int] = {}
    for number in range(20_000):
        share = f"t{min(int(rng.expovariate(0.2)), 40)}" if rng.random() < 0.3 else "loud"
        came[(share, number)] = number
        line.push(share, (share, number))
        if rng.random() < 0.6:
            share, arrived = line.pop()
            if share != "loud" and line.waiting(share) == 0:
                # One turn of each of the others for each of its own that stood before it.
                assert number - came[(share, arrived)] <= 42 * 42
    left = [line.pop() for _ in range(line.size)]
    assert {share for share, _ in left[-100:]} == {"loud"}, "only the flood is still to be served"


def test_a_hundred_thousand_tenants_leave_nothing_behind() -> None:
    line: FairLine[int] = FairLine()
    line.push("stays", -1)
    for number in range(100_000):
        line.push(f"t{number}", number)
        line.push("stays", -1)
        assert {line.pop(), line.pop()} == {-1, number}
        assert len(line._queues) <= 3
        assert len(line._heap) <= 3
    line.pop()
    assert not line._queues
    assert not line._heap


def test_a_heap_of_shares_is_looked_at_in_logarithmic_depth() -> None:
    line: FairLine[int] = FairLine()
    for number in range(50_000):
        line.push(f"t{number % 25_000}", number)
    assert [line.pop() for _ in range(50_000)] == list(range(50_000)), (
        "each share's first, then each's second"
    )


def test_turns_had_elsewhere_count_and_show_as_a_lead() -> None:
    line: FairLine[str] = FairLine()
    line.charge("loud", 5)
    assert line.lead("loud") == 0, "nobody waits, so nobody is behind"
    for share in ("loud", "loud", "quiet", "quiet", "quiet"):
        line.push(share, share)
    line.charge("loud", 2)
    assert line.lead("loud") == 2
    assert [line.pop() for _ in range(5)] == ["quiet", "quiet", "loud", "quiet", "loud"]


def test_the_newest_of_whose_turn_it_is() -> None:
    line: FairLine[int] = FairLine()
    for number in range(3):
        line.push("a", number)
    line.push("b", 9)
    assert [line.pop(newest=True) for _ in range(4)] == [2, 9, 1, 0]
    with pytest.raises(IndexError):
        line.pop()


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(SHARES)), max_size=300))
def test_the_heaviest_is_who_holds_most_for_its_weight(steps: list[tuple[bool, str]]) -> None:
    holdings, held = Holdings(WEIGHTS.__getitem__), Counter[str]()
    for more, share in steps:
        if more:
            holdings.add(share)
            held[share] += 1
        elif held[share]:
            holdings.remove(share)
            held[share] -= 1
        levels = {share: int(n / WEIGHTS[share]) for share, n in held.items() if n}
        heaviest = holdings.heaviest()
        assert len(holdings) == len(levels)
        assert (heaviest is None) == (not levels)
        if heaviest is not None:
            assert levels[heaviest] == max(levels.values())


def test_weights_are_what_was_set_then_what_a_function_says_then_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    asked: list[str] = []

    def ask(tenant: str) -> float:
        asked.append(tenant)
        return {"big": 3.0, "odd": float("nan"), "none": -1.0}[tenant]

    weights = Weights({"gold": 10}, ask)
    assert [weights.of(t) for t in ("gold", "big", "big", "odd", "none", "unknown", "")] == [
        10,
        3,
        3,
        1,
        1,
        1,
        1,
    ]
    assert asked == ["big", "odd", "none", "unknown"], "an answer is remembered, also a failure"
    assert len(caplog.records) == 3
    weights.set("big", 7)
    assert weights.of("big") == 7
    weights.set("big", None)
    assert weights.of("big") == 3


@pytest.mark.parametrize("weight", [0, -1, float("inf"), float("nan"), 1e9, True])
def test_a_weight_that_makes_no_sense_is_refused_with_its_setting(weight: float) -> None:
    with pytest.raises(ConfigError, match=r"tenants\.acme\.weight.*0\.01 to 1000|0\.01 to 1000") as raised:
        Weights({"acme": weight})
    assert raised.value.where == "tenants.acme.weight"
