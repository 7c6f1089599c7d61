"""Fairness in front of a full server: floods displace themselves, and are found out behind any number of addresses."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.guard.fairness import LEAD_MAX, BoundedLine, Callers, of_address, of_principal
from tenfold.security.principal import Principal

ACME = Principal(id="1", tenant="acme")
BEARER = {b"authorization": b"Bearer abc"}


def test_a_credential_counts_for_the_tenant_it_was_found_good_for_and_any_other_for_its_address() -> None:
    callers = Callers()
    assert callers.share_of(BEARER, "10.0.0.1") == of_address("10.0.0.1")
    callers.learn(BEARER, ACME)
    assert callers.share_of(BEARER, "10.0.0.9") == "acme"
    assert callers.share_of({b"x-api-key": b"Bearer abc"}, "10.0.0.1") == of_address("10.0.0.1")
    assert callers.share_of({}, "10.0.0.1") == of_address("10.0.0.1")


def test_who_has_no_tenant_is_a_share_of_its_own_that_no_tenant_can_be_named_like() -> None:
    nobody = Principal(id="acme")
    assert of_principal(nobody) != of_principal(ACME)
    assert of_principal(nobody).startswith("\0")
    assert of_address("acme").startswith("\0")


def test_the_memory_of_credentials_is_bounded_keeps_who_was_here_last_and_holds_no_credential() -> None:
    callers = Callers(most=100)
    callers.learn(BEARER, ACME)
    for number in range(10_000):
        callers.learn({b"x-api-key": b"%d" % number}, ACME)
        assert callers.share_of(BEARER, "10.0.0.1") == "acme"
        assert len(callers) <= 100
    assert all(len(digest) == 16 for digest in callers._shares)


def test_a_flood_in_a_full_line_displaces_itself_and_a_newcomer_finds_room() -> None:
    line: BoundedLine[str] = BoundedLine(10)
    for number in range(10):
        assert line.offer("loud", f"loud {number}") is None
    assert line.offer("loud", "one more") == "one more"
    assert line.offer("quiet", "quiet") == "loud 9"
    assert line.offer("other", "other", newest_goes=False) == "loud 0"
    assert [line.pop() for _ in range(3)] == ["loud 1", "quiet", "other"]


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 9)), max_size=200))
def test_the_line_is_never_too_long_and_nobody_with_less_goes_for_one_with_more(
    steps: list[tuple[str, int]],
) -> None:
    line: BoundedLine[tuple[str, int]] = BoundedLine(8)
    stands: dict[tuple[str, int], None] = {}
    for number, (share, what) in enumerate(steps):
        item = (share, number)
        if what < 6:
            held = Counter(each[0] for each in stands)
            gone = line.offer(share, item)
            if gone != item:
                stands[item] = None
            if gone is not None:
                assert sum(held.values()) == 8
                stands.pop(gone, None)
                assert held[gone[0]] == max(held.values())
                assert gone == item or held[gone[0]] > held[share] + 1
        elif what < 8 and stands:
            del stands[line.pop(newest=what == 7)]
        elif stands:
            left = next(iter(stands))
            assert line.discard(left[0], left)
            del stands[left]
        assert sorted(line) == sorted(stands)
        assert len(line) == len(stands) <= 8


def served_after_authentication(*, addresses: int, settle: bool, seed: int) -> Counter[str]:
    """A flooding tenant behind many addresses with credentials that nobody knows, and a quiet one; of 2,000 turns."""
    rng, line = random.Random(seed), BoundedLine[str](64)
    served, credential = Counter[str](), 0
    callers = Callers()
    for _ in range(2_000):
        for _ in range(4):
            credential += 1
            line.offer(of_address(f"a{rng.randrange(addresses)}"), "loud")
        if rng.random() < 0.2:
            line.offer(callers.share_of(BEARER, "q"), "quiet")
        tenant = line.pop()
        served["asked " + tenant] += 1
        guessed = tenant if tenant == "quiet" else of_address("?")
        if not settle or line.settle(guessed, tenant):
            served[tenant] += 1
        if tenant == "quiet":
            callers.learn(BEARER, Principal(id="q", tenant="quiet"))
    return served


@pytest.mark.parametrize("seed", range(3))
def test_a_tenant_behind_many_addresses_is_found_out_after_authentication(seed: int) -> None:
    served = served_after_authentication(addresses=50, settle=True, seed=seed)
    assert served["quiet"] == served["asked quiet"], "who is within its share is never refused"
    assert served["loud"] < served["asked loud"] / 2
    blind = served_after_authentication(addresses=50, settle=False, seed=seed)
    assert blind["loud"] == blind["asked loud"], "by its addresses alone it has all of their shares"


def test_who_is_alone_is_never_over_its_share() -> None:
    line: BoundedLine[str] = BoundedLine(8)
    assert all(line.settle(of_address("x"), "acme") for _ in range(100))
    for _ in range(4):
        line.offer("other", "other")
    verdicts = [line.settle(of_address("x"), "acme") for _ in range(20)]
    assert verdicts == [number < LEAD_MAX for number in range(20)]
