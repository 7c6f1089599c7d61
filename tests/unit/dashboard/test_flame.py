"""Flame graphs: from stacks to a tree, to frames, to SVG."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree as Xml

import msgspec
import pytest

from tenfold.dashboard.flame import FRAMES_MAX, NARROWEST, costs, flame, layout, tree, whose
from tenfold.telemetry.profiling import Place

MAIN = Place("MainThread", "", 0)
SERVE, LOAD, SQL = (Place(name, f"/srv/shop/{name}.py", 7) for name in ("serve", "load", "sql"))
STACKS = {
    (MAIN, SERVE): 1.0,
    (MAIN, SERVE, LOAD): 2.0,
    (MAIN, SERVE, LOAD, SQL): 5.0,
    (MAIN, SERVE, SQL): 2.0,
}


def test_time_adds_up_towards_the_outside() -> None:
    root = tree(STACKS)
    assert [(node.place.function, node.seconds, node.own_s) for node in root] == [
        ("everything", 10.0, 0.0),
        ("MainThread", 10.0, 0.0),
        ("serve", 10.0, 1.0),
        ("load", 7.0, 2.0),
        ("sql", 5.0, 5.0),
        ("sql", 2.0, 2.0),
    ]
    assert [node.index for node in root] == list(range(6))


def test_the_order_of_the_stacks_does_not_matter() -> None:
    backwards = tree(dict(reversed(STACKS.items())))
    assert [(n.place, n.index) for n in tree(STACKS)] == [(n.place, n.index) for n in backwards]


def test_a_function_costs_what_it_costs_wherever_it_was_called() -> None:
    found = {cost.place.function: (cost.own_s, cost.total_s) for cost in costs(STACKS)}
    assert found == {"sql": (7.0, 7.0), "load": (2.0, 7.0), "serve": (1.0, 10.0)}
    assert costs(STACKS)[0].place is SQL


def test_a_function_that_calls_itself_counts_once() -> None:
    (cost,) = costs({(MAIN, SERVE, SERVE, SERVE): 3.0})
    assert (cost.own_s, cost.total_s) == (3.0, 3.0)


def test_frames_lie_within_the_one_that_called_them_and_do_not_overlap() -> None:
    frames = {frame.node.index: frame for frame in layout(tree(STACKS))}
    for frame in frames.values():
        if frame.node.parent is not None:
            above = frames[frame.node.parent.index]
            assert above.left - 1e-9 <= frame.left
            assert frame.left + frame.width <= above.left + above.width + 1e-9
            assert frame.row == above.row + 1


def test_one_function_can_take_the_whole_width_with_its_callers_above_it() -> None:
    load = next(node for node in tree(STACKS) if node.place is LOAD)
    shown = [(f.node.place.function, f.left, f.width) for f in layout(load)]
    assert shown[:4] == [
        ("everything", 0.0, 1.0), ("MainThread", 0.0, 1.0), ("serve", 0.0, 1.0), ("load", 0.0, 1.0),
    ]  # fmt: skip
    assert shown[4] == ("sql", 0.0, pytest.approx(5 / 7))


def test_the_graph_of_very_many_stacks_stays_small() -> None:
    stacks = {(MAIN, Place(f"f{n}", "f.py", n), Place("g", "g.py", 1)): 1.0 + n % 7 for n in range(5_000)}
    frames = layout(tree(stacks))
    assert len(frames) <= FRAMES_MAX + 1
    assert all(frame.width >= NARROWEST for frame in frames[1:])
    assert len(flame(tree(stacks), label="x", link=lambda n: f"?at={n.index}", said=str)) < 200_000


def test_names_are_text_and_the_graph_is_xml() -> None:
    evil = Place("<script>alert(1)</script>", '"><b>.py', 1)
    shown = flame(tree({(MAIN, evil): 1.0}), label="<i>", link=lambda node: f"?at={node.index}&x=1", said=str)
    assert "<script" not in shown
    assert "<b>" not in shown
    root = Xml.fromstring(shown)
    assert [link.get("href") for link in root.findall("a")] == ["?at=0&x=1", "?at=1&x=1", "?at=2&x=1"]
    assert root.findall(".//title")[2].text == '<script>alert(1)</script> · "><b>.py:1 · 1.0, 100 %'


def test_whose_code_it_is_is_read_off_its_file() -> None:
    ours = str(Path(msgspec.__file__).parent)
    assert whose(MAIN) == "thread"
    assert whose(SERVE) == "own"
    assert whose(Place("f", re.__file__, 1)) == "python"
    assert whose(Place("f", f"{ours}/x.py", 1)) == "library"
    assert whose(Place("f", flame.__code__.co_filename, 1)) == "tenfold"
