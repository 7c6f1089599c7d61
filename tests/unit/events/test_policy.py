"""What the relay decides."""

from __future__ import annotations

import random

import pytest

from tenfold.events.contract import Outgoing
from tenfold.events.outbox import Row
from tenfold.events.policy import (
    LINES_HELD_MAX,
    Holds,
    behind,
    line_of,
    refuse_large,
)


def row(id_: int, key: str | None = None, topic: str = "t") -> Row:
    return Row(id_, topic, key, f"e{id_}", "", None, 0.0)


def test_an_event_without_a_key_is_a_line_of_its_own() -> None:
    assert line_of(row(7)) == "#7"
    assert line_of(row(7, "k")) == "t/k"


def test_what_follows_a_failure_in_its_key_waits_and_nothing_else() -> None:
    rows = [row(1, "a"), row(2, "b"), row(3, "a"), row(4), row(5, "a", topic="other")]
    assert list(behind(rows, [0])) == [2]
    assert behind(rows, [3]) == {}


def test_a_line_is_free_again_once_it_was_published() -> None:
    holds = Holds(30.0, random.Random(1))
    holds.failed([row(1, "a"), row(2, "a")], now=0.0)
    assert len(holds) == 1
    holds.published([row(1, "a")])
    assert holds.around(0.0) == ([], [])
    assert holds.next_at() is None


def test_a_line_that_has_gone_by_another_hand_is_forgotten() -> None:
    """Its time would be over for ever, and the relay would never rest."""
    holds = Holds(30.0, random.Random(1))
    holds.failed([row(1, "a"), row(2, "b")], 0.0)
    holds.gone([row(2, "b")], 31.0)
    assert len(holds) == 1
    assert holds.around(0.0).lines == ["t/b"]


def test_a_suspect_is_published_by_itself_after_the_others_before_it() -> None:
    holds = Holds(30.0, random.Random(1))
    holds.suspect(row(2, "b"), 0.0)
    rows = [row(1, "a"), row(2, "b"), row(3, "c")]
    assert holds.around(29.0).lines == ["t/b"]
    assert [one.id for one in holds.batch(rows)] == [1]
    assert [one.id for one in holds.batch(rows[1:])] == [2]
    holds.back(5.0)
    assert holds.around(5.0).lines == []
    holds.published(rows)
    assert [one.id for one in holds.batch(rows)] == [1, 2, 3]


def test_many_failing_lines_hold_up_their_topic_as_a_whole() -> None:
    holds = Holds(1e9, random.Random(1))
    for _ in range(40):  # their pauses grow until none ends at once
        holds.failed([row(n, f"k{n}") for n in range(LINES_HELD_MAX + 1)], now=0.0)
        holds.failed([row(1, "a", topic="other")], now=0.0)
    assert holds.around(0.0) == (["t"], ["other/a"])


def test_what_is_too_large_is_named_with_its_size() -> None:
    events = [
        Outgoing("t", "k", "e1", b"x" * 11),
        Outgoing("t", "k", "e2", b"x"),
        Outgoing("t", None, "e3", b"x"),
    ]
    failed = refuse_large(events, 10)
    assert list(failed) == [0, 1]
    assert "11 bytes" in failed[0]
    assert failed[0] != failed[1]


@pytest.mark.parametrize("seed", range(20))
def test_interleaved_relays_keep_the_order_of_first_times(seed: int) -> None:
    """Of sequences that are in order, however they are mixed, the first occurrences are in order: why the relay's
    promises do not need its lease."""
    dice = random.Random(seed)
    sequences = [list(range(dice.randrange(5), 20)) if n else list(range(20)) for n in range(3)]
    sequences = [seq if seq[0] == 0 else list(range(20)) for seq in sequences]
    mixed: list[int] = []
    while any(sequences):
        mixed.append(dice.choice([seq for seq in sequences if seq]).pop(0))
    first_times = list(dict.fromkeys(mixed))
    assert first_times == sorted(first_times)
