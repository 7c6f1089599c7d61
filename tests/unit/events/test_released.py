"""Released schemas: what would lose events is a sentence with a way out, what would not passes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shop.app import app as shop
from tenfold.errors import ConfigError, DeclarationError
from tenfold.events import Topic, released
from tenfold.events.released import Judgement, Released, judge


class Placed(msgspec.Struct):
    order_id: int
    total: str


class WithDefault(msgspec.Struct):
    order_id: int
    total: str
    currency: str = "EUR"


class WithMore(msgspec.Struct):
    order_id: int
    total: str
    currency: str


class WithLess(msgspec.Struct):
    order_id: int


def same(data: dict[str, Any]) -> dict[str, Any]:
    return data


def from_less(old: WithLess) -> dict[str, Any]:
    return {"order_id": old.order_id, "total": "0"}


def from_placed(old: Placed) -> dict[str, Any]:
    return {"order_id": old.order_id, "total": old.total, "currency": "EUR"}


def from_with_more(old: WithMore) -> dict[str, Any]:
    return {"order_id": old.order_id, "total": old.total, "currency": "EUR"}


def topic(type_: type[Any], version: int = 1, upcast: Any = None) -> Topic[Any]:
    return Topic("orders", "placed", type_, version=version, upcast=upcast)


def release(home: Path, *topics: Topic[Any]) -> Released:
    """What the file says after these were released one after another."""
    for each in topics:
        released.release(each, home, released.read(each, home))
    return released.read(topics[-1], home)


def judged(home: Path, new: Topic[Any]) -> Judgement:
    return judge(new, released.read(new, home))


def test_what_is_released_is_one_file_per_topic_that_says_every_version(tmp_path: Path) -> None:
    release(tmp_path, topic(Placed), topic(WithMore, 2, {1: same}))
    file = json.loads((tmp_path / "schemas" / "orders.placed.json").read_bytes())
    assert file["topic"] == "orders.placed"
    assert list(file["versions"]) == ["1", "2"]
    assert file["versions"]["1"]["$defs"]["Placed"]["required"] == ["order_id", "total"]
    assert judged(tmp_path, topic(WithMore, 2, {1: same})) == Judgement()


def test_releasing_again_writes_nothing(tmp_path: Path) -> None:
    known = release(tmp_path, topic(Placed))
    path = released.path_of(topic(Placed), tmp_path)
    path.write_bytes(b"untouched")
    assert released.release(topic(Placed), tmp_path, known) is False
    assert path.read_bytes() == b"untouched"


def test_a_new_topic_is_no_problem_and_is_noted(tmp_path: Path) -> None:
    found = judged(tmp_path, topic(Placed))
    assert found.problems == []
    assert "version 1 is not released yet; `tenfold events release`" in found.notes[0]


def test_a_compatible_change_passes_and_is_noted(tmp_path: Path) -> None:
    release(tmp_path, topic(Placed))
    found = judged(tmp_path, topic(WithDefault))
    assert found.problems == []
    assert "changed compatibly" in found.notes[0]


@pytest.mark.parametrize(
    ("new", "says"),
    [
        (
            WithMore,
            "topic orders.placed, version 1: $.currency may be missing in events already published, and subscribers of "
            "this code require it. Raise the version to 2 and add upcast={1: …}, or give it a default.",
        ),
        (
            WithLess,
            "topic orders.placed, version 1: $.total may be missing in events that this code publishes, and "
            "subscribers of the last release require it. Raise the version to 2 and add upcast={1: …}: those then wait "
            "for the deploy.",
        ),
    ],
)
def test_an_incompatible_change_is_named_with_path_and_remedy(
    new: type[Any], says: str, tmp_path: Path
) -> None:
    release(tmp_path, topic(Placed))
    assert judged(tmp_path, topic(new)).problems == [says]


def test_the_same_change_with_a_raised_version_and_an_upcaster_passes(tmp_path: Path) -> None:
    release(tmp_path, topic(Placed))
    for upcast in ({1: same}, {1: from_placed}):
        found = judged(tmp_path, topic(WithMore, 2, upcast))
        assert found.problems == []
        assert "version 2 is not released yet" in found.notes[0]


def test_a_raised_version_without_an_upcaster_would_lose_what_waits(tmp_path: Path) -> None:
    release(tmp_path, topic(Placed))
    (problem,) = judged(tmp_path, topic(WithMore, 2)).problems
    assert "version 1 was released, and no upcaster leads from it to 2" in problem
    assert "Add upcast={1: …}" in problem


def test_an_upcaster_that_takes_something_else_than_was_released_is_named(tmp_path: Path) -> None:
    release(tmp_path, topic(Placed))
    (problem,) = judged(tmp_path, topic(WithMore, 2, {1: from_with_more})).problems
    assert "version 1: $.currency may be missing" in problem
    assert "the upcaster from 1 takes a WithMore" in problem


def test_a_version_that_went_down_is_named(tmp_path: Path) -> None:
    release(tmp_path, topic(Placed), topic(WithMore, 2, {1: same}))
    (problem,) = judged(tmp_path, topic(Placed)).problems
    assert "version 2 was released, and the code says 1; versions only rise" in problem


def test_upcasters_of_versions_long_gone_may_be_removed(tmp_path: Path) -> None:
    release(
        tmp_path, topic(WithLess), topic(Placed, 2, {1: from_less}), topic(WithMore, 3, {1: same, 2: same})
    )
    assert judged(tmp_path, topic(WithMore, 3, {2: same})) == Judgement()


@pytest.mark.parametrize("content", [b"", b"[]", b'{"topic": "x", "version": {}}', b"\xff"])
def test_a_broken_file_is_a_sentence_with_its_path(content: bytes, tmp_path: Path) -> None:
    release(tmp_path, topic(Placed))
    released.path_of(topic(Placed), tmp_path).write_bytes(content)
    with pytest.raises(
        ConfigError, match=r"orders\.placed\.json.*no file of released schemas.*version control"
    ):
        judged(tmp_path, topic(Placed))


def test_files_of_topics_that_are_gone_are_found(tmp_path: Path) -> None:
    release(tmp_path, topic(Placed))
    assert released.left_over([topic(Placed)], [tmp_path]) == []
    assert released.left_over([], [tmp_path]) == [tmp_path / "schemas" / "orders.placed.json"]


@pytest.mark.parametrize("name", ["no spaces", "ünder", "a/b", "x" * 120])
def test_a_name_that_brokers_and_files_cannot_have_is_refused(name: str) -> None:
    with pytest.raises(DeclarationError, match="no name of a topic"):
        Topic("orders", name, Placed)


def test_the_shops_topics_are_released_as_they_are() -> None:
    every = [(each, service.home) for service in shop.services for each in service.topics]
    assert every
    for each, home in every:
        assert judge(each, released.read(each, home)) == Judgement()
    assert released.left_over([each for each, _ in every], [service.home for service in shop.services]) == []
