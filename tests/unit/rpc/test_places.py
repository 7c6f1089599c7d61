"""Where a service is, which of its places a call goes to, and what is said when there is none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tenfold._core.sections import PeerSettings
from tenfold.errors import ConfigError, DependencyUnavailable
from tenfold.rpc.choosing import Chooser
from tenfold.rpc.discovery import FRESH_S, SettledPlaces, urls_of
from tenfold.testing.clock import TestClock

pytestmark = pytest.mark.anyio


def settled(
    url: Any, lookup: Callable[[str], Any] | None = None, clock: TestClock | None = None
) -> SettledPlaces:
    lookups = {} if lookup is None else {"dns": lookup}
    return SettledPlaces({"stock": PeerSettings(url=url)}, clock or TestClock(0.0), lookups=lookups)


@pytest.mark.parametrize("url", ["http://a:1, http://b:2/", ["http://a:1", "http://b:2"]])
async def test_several_places_are_a_list_or_separated_by_commas(url: Any) -> None:
    assert await settled(url).places("stock") == ["http://a:1", "http://b:2"]


async def test_a_service_without_a_place_is_said_in_a_sentence() -> None:
    with pytest.raises(DependencyUnavailable, match=r"\[services\.mill\] url does not say where it is"):
        await settled("http://a:1").places("mill")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("a:1", "does not say where"),
        ("ftp://a", "does not say where"),
        ("http://a:x", "does not say where"),
        ("etcd+http://a", "does not say where"),
        ("http://a/path", "more than a host and a port"),
        ("http://me:secret@a", "more than a host and a port"),
        ("dns+https://a", "certificates are for names"),
        ("srv+http://a:1", "SRV records say the port"),
    ],
)
def test_what_is_no_place_is_refused_at_start(url: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        urls_of("stock", PeerSettings(url=url))
    assert caught.value.where == "services.stock.url"
    assert caught.value.remedy


async def test_names_are_looked_up_again_beside_the_calls_and_kept_when_that_fails() -> None:
    clock, asked = TestClock(0.0), list[str]()
    answers: list[Sequence[str] | OSError] = [["http://1:1"], ["http://2:1"], OSError("away"), []]

    async def lookup(url: str) -> Sequence[str]:
        asked.append(url)
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    places = settled("dns+http://stock:1", lookup, clock)

    async def seen() -> Sequence[str]:
        found = await places.places("stock")
        await asyncio.sleep(0)  # the look-up that goes on beside
        await asyncio.sleep(0)
        return found

    assert await seen() == ["http://1:1"]
    assert await seen() == ["http://1:1"]
    assert len(asked) == 1
    for old, new in [("1", "2"), ("2", "2"), ("2", "2")]:  # what is new, a failure, an empty answer
        await clock.advance(FRESH_S)
        assert await seen() == [f"http://{old}:1"]
        assert await seen() == [f"http://{new}:1"]
    await places.stop()


async def test_a_name_that_nobody_knows_is_said_in_a_sentence() -> None:
    async def lookup(_: str) -> Sequence[str]:
        raise OSError("name not known")

    with pytest.raises(DependencyUnavailable, match="cannot be looked up: name not known"):
        await settled("dns+http://stock:1", lookup).places("stock")


# ── choosing ──


def test_calls_go_to_whoever_has_the_fewest_and_take_turns() -> None:
    chooser, busy = Chooser(), {"a": 3, "b": 0, "c": 0}
    chosen = [chooser.choose(["a", "b", "c"], 0.0, lambda place: busy[place]) for _ in range(12)]
    assert set(chosen) == {"b", "c"}


def test_a_place_that_takes_no_connection_is_left_out_for_longer_and_longer_then_tried_by_one_call() -> None:
    chooser, now = Chooser(), 0.0

    def choose() -> str:
        return chooser.choose(["a", "b"], now, lambda place: {"a": 0, "b": 9}[place])

    pauses = []
    for _ in range(3):
        assert choose() == "a"  # it has the fewest calls, and is due
        chooser.failed("a", now)
        begun = now
        while chooser.is_away("a", now):
            assert choose() == "b"
            now += 0.25
        pauses.append(now - begun)
    assert pauses == [0.5, 1.0, 2.0]
    assert [choose(), choose()] == ["a", "b"]  # one call tries it, and the others wait for how that ends
    chooser.answered("a")
    assert [choose(), choose()] == ["a", "a"]


def test_a_second_try_goes_elsewhere_and_when_all_are_away_to_the_one_that_is_due_first() -> None:
    chooser = Chooser()
    assert chooser.choose(["a", "b"], 0.0, lambda _: 0, avoid=("a",)) == "b"
    assert chooser.choose(["a"], 0.0, lambda _: 0, avoid=("a",)) == "a"
    chooser.failed("b", 0.0)
    chooser.failed("a", 0.1)
    assert chooser.choose(["a", "b"], 0.2, lambda _: 0) == "b"
