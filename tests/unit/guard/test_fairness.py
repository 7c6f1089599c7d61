"""Fairness in front of a full server: floods displace themselves, and are found out behind any number of addresses."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold._core.context import Priority
from tenfold.guard.fairness import Callers, of_address, of_principal
from tenfold.guard.shedding.line import LEAD_MAX, Line, Place
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


def stand(line: Line[str], share: str, what: str, priority: int = Priority.DEFAULT) -> str | None:
    """Who has to go for it."""
    gone = line.add(Place(what, priority, share, 0.0), 100)
    return None if gone is None else gone.turn


def test_a_flood_in_a_full_line_displaces_itself_and_a_newcomer_finds_room() -> None:
    line: Line[str] = Line(10, 0.5)
    for number in range(10):
        assert stand(line, "loud", f"loud {number}") is None
    assert not line.takes(Priority.DEFAULT, 100, "loud")
    assert stand(line, "loud", "one more") == "one more"
    assert line.takes(Priority.DEFAULT, 100, "quiet")
    assert stand(line, "quiet", "quiet") == "loud 9"
    line.overloaded, line.waiting_max = True, 10
    assert stand(line, "other", "other") == "loud 0", "under overload the newest have the better prospects"
    line.overloaded = False
    assert [line.pop(Priority.DEFAULT).turn for _ in range(3)] == ["loud 1", "quiet", "other"]


def test_the_less_urgent_go_before_anybody_of_a_crowding_share() -> None:
    line: Line[str] = Line(3, 0.5)
    for name in ("loud 1", "loud 2"):
        stand(line, "loud", name)
    stand(line, "quiet", "later", Priority.SHEDDABLE)
    assert stand(line, "other", "other") == "later"
    assert stand(line, "third", "third") == "loud 2"
    assert stand(line, "loud", "again") == "again"
    assert line.size == 3


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 9)), max_size=200))
def test_the_line_is_never_too_long_and_nobody_with_less_goes_for_one_with_more(
    steps: list[tuple[str, int]],
) -> None:
    line: Line[int] = Line(8, 0.5)
    stands: dict[int, Place[int]] = {}
    for number, (share, what) in enumerate(steps):
        place = Place(number, Priority.DEFAULT, share, 0.0)
        if what < 6:
            held = Counter(each.share for each in stands.values())
            takes = line.takes(Priority.DEFAULT, 100, share)
            gone = line.add(place, 100)
            assert takes == (gone is not place)
            stands[number] = place
            if gone is not None:
                del stands[gone.turn]
                assert held[gone.share] == max(held.values()) or gone is place
                assert (max(held.values()) > held[share] + 1) == (gone is not place)
        elif what < 8 and stands:
            del stands[line.pop(Priority.DEFAULT).turn]
        elif stands:
            _, left = stands.popitem()
            line.discard(left)
        assert line.size == len(stands) <= 8
        assert all(line._held[1].of(s) == sum(p.share == s for p in stands.values()) for s in "abcd")


def served_after_authentication(*, addresses: int, settle: bool, seed: int) -> Counter[str]:
    """A flooding tenant behind many addresses with credentials that nobody knows, and a quiet one; of 2,000 turns."""
    rng, line, callers = random.Random(seed), Line[str](64, 0.5), Callers()
    served = Counter[str]()
    for _ in range(2_000):
        for _ in range(4):
            stand(line, of_address(f"a{rng.randrange(addresses)}"), "loud")
        if rng.random() < 0.2:
            stand(line, callers.share_of(BEARER, "q"), "quiet")
        place = line.pop(Priority.DEFAULT)
        served["asked " + place.turn] += 1
        if not settle or line.settle(Priority.DEFAULT, place.share, place.turn):
            served[place.turn] += 1
        if place.turn == "quiet":
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
    line: Line[str] = Line(8, 0.5)
    assert all(line.settle(Priority.DEFAULT, of_address("x"), "acme") for _ in range(100))
    for number in range(4):
        stand(line, "other", f"other {number}")
    verdicts = [line.settle(Priority.DEFAULT, of_address("x"), "acme") for _ in range(20)]
    assert verdicts == [number < LEAD_MAX for number in range(20)]
    assert line.settle(Priority.DEFAULT, "acme", "acme"), "whom the line knew, it was fair to"


def test_who_has_the_most_places_is_told_to_people_who_look() -> None:
    line: Line[str] = Line(20, 0.5)
    for share, places in (("a", 5), ("b", 2), ("c", 1)):
        for number in range(places):
            stand(line, share, f"{share} {number}", number % 2)
    assert line.crowds(2) == [("a", 5), ("b", 2)]


def test_under_overload_the_only_place_of_a_share_keeps_its_patience() -> None:
    line: Line[str] = Line(10, 0.5)
    for number in range(5):
        stand(line, "loud", f"loud {number}")
    stand(line, "quiet", "quiet")
    line.overloaded, line.service_s = True, 0.02
    line.refused(0.0)
    assert len(line.late(0.1)) == 5
    assert [place.turn for place in line.late(0.51)] == ["quiet"]
