"""The picture of an architecture: who stands where, and that nothing runs into anything."""

from __future__ import annotations

import random

import pytest

from tenfold.dashboard.diagram import Arrow, Box, svg
from tenfold.dashboard.diagram.lanes import lanes_of
from tenfold.dashboard.diagram.layout import draw


def app(services: int, calls: list[tuple[int, int]]) -> tuple[list[Box], list[Arrow]]:
    boxes = [Box("clients", "Clients", lane="first"), Box("db", "SQLite", lane="last")]
    boxes += [Box(f"s{n}", f"service {n}") for n in range(services)]
    arrows = [Arrow("clients", f"s{n}", label="12/s · 3.0 ms") for n in range(services)]
    arrows += [Arrow(f"s{a}", f"s{b}", label="5/s") for a, b in calls]
    arrows += [Arrow(f"s{n}", "db", "data", "40/s") for n in range(services)]
    return boxes, arrows


def test_who_is_called_stands_right_of_who_calls() -> None:
    boxes, arrows = app(4, [(0, 1), (1, 2), (0, 2)])
    lanes = lanes_of(boxes, arrows)
    assert lanes[0] == ["clients"]
    assert lanes[-1] == ["db"]
    at = {each: n for n, lane in enumerate(lanes) for each in lane}
    assert (at["s0"], at["s1"], at["s2"], at["s3"]) == (1, 2, 3, 1)


def test_services_that_call_each_other_in_a_circle_are_drawn_all_the_same() -> None:
    boxes, arrows = app(3, [(0, 1), (1, 2), (2, 0)])
    drawing = draw(boxes, arrows)
    assert len(drawing.lines) == len(arrows)


def test_events_move_nobody() -> None:
    boxes, arrows = app(2, [])
    assert lanes_of(boxes, [*arrows, Arrow("s0", "s1", "events")]) == lanes_of(boxes, arrows)


def test_an_app_with_nothing_in_it_has_a_picture_too() -> None:
    assert draw([], []).width > 0
    assert "<svg" in svg([Box("a", "a")], [], "Architecture")


@pytest.mark.parametrize("seed", range(20))
def test_no_box_lies_on_another_no_arrow_behind_a_box_and_no_label_on_a_label(seed: int) -> None:
    rng = random.Random(seed)
    services = rng.randrange(1, 12)
    calls = [(rng.randrange(services), rng.randrange(services)) for _ in range(rng.randrange(services * 2))]
    boxes, arrows = app(services, calls)
    drawing = draw(boxes, arrows)
    places = drawing.places
    for one in places:
        for other in places:
            p = places[one]
            if one < other:
                assert not places[other].covers(p.x, p.y, p.x + p.width, p.y + p.height), (one, other)
    for arrow, line in drawing.lines:
        if len(line.curves) > 1:  # it passes through lanes
            for middle in (curve.at(0.5) for curve in line.curves[1:-1:2]):
                assert not any(place.covers(*middle, *middle) for place in places.values()), arrow
    spots = [(n, point) for n, point in drawing.labels.items()]
    for n, (_, a) in enumerate(spots):
        for _, b in spots[n + 1 :]:
            assert abs(a.y - b.y) >= 18 or abs(a.x - b.x) >= 30
    assert all(
        p.x >= 0 and p.x + p.width <= drawing.width and p.y + p.height <= drawing.height
        for p in places.values()
    )


def test_the_same_parts_give_the_same_picture() -> None:
    boxes, arrows = app(7, [(0, 3), (1, 3), (3, 5), (6, 5)])
    assert svg(boxes, arrows, "A") == svg(boxes, arrows, "A")


def test_names_are_text_in_the_picture() -> None:
    drawn = svg([Box("a", "<script>", href="/services/a", lines=("1 < 2",))], [], "A")
    assert "<script>" not in drawn
    assert 'href="/services/a"' in drawn
