"""Where everything in a picture goes: boxes in their lanes, the ways of arrows, and labels.

Labels take the first place along the part of their arrow that it shares with no other, where they cover no box and no
other label.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from tenfold.dashboard.diagram.lanes import bends_of, lanes_of, ordered
from tenfold.dashboard.diagram.parts import Arrow, Box

WIDTHS: Final = {"first": 118.0, "middle": 168.0, "last": 150.0}
"""Of boxes, by their lane; of lanes with a box that needs more for its text, more."""
PADDING: Final = 12.0
"""Between the edge of a box and its text."""
BOX_HEIGHT: Final = 66.0
GAP_X: Final = 122.0
GAP_Y: Final = 22.0
BEND: Final = 8.0
"""How much room an arrow takes in a lane that it passes through."""
MARGIN: Final = 16.0
HEAD: Final = 26.0
"""Above the lanes, for their names."""
PORT: Final = 15.0
"""Between the ends of two arrows on one side of a box."""
LABEL_HEIGHT: Final = 18.0
CHAR: Final = 6.4
"""How wide a character of a label is at most, about; those of lines and of names in boxes are wider."""
LINE_CHAR: Final = 6.7
NAME_CHAR: Final = 8.2
TEXT_MAX: Final = 32
"""Characters of a name or of a line in a box; more are cut, and in the tooltip."""


class Point(NamedTuple):
    x: float
    y: float


class Place(NamedTuple):
    """Where a box is."""

    x: float
    y: float
    width: float
    height: float

    @property
    def middle(self) -> float:
        return self.y + self.height / 2

    def covers(self, left: float, top: float, right: float, bottom: float) -> bool:
        return (
            left < self.x + self.width and right > self.x and top < self.y + self.height and bottom > self.y
        )


class Curve(NamedTuple):
    """A cubic Bézier curve."""

    start: Point
    one: Point
    two: Point
    end: Point

    def at(self, t: float) -> Point:
        """The point a share ``t`` of the way."""
        a, b, c, d = (1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3
        return Point(*(a * p + b * q + c * r + d * s for p, q, r, s in zip(*self, strict=True)))


class Line(NamedTuple):
    """The way of an arrow: curves, one after the other; ``own`` is the number of the one it shares with no other."""

    curves: tuple[Curve, ...]
    own: int

    @property
    def path(self) -> str:
        """The ``d`` of an SVG path."""
        first = self.curves[0].start
        parts = [f"M{first.x:.1f},{first.y:.1f}"]
        parts += ["C" + " ".join(f"{p.x:.1f},{p.y:.1f}" for p in curve[1:]) for curve in self.curves]
        return "".join(parts)


class Drawing(NamedTuple):
    """Where everything is."""

    width: float
    height: float
    places: dict[str, Place]
    lines: list[tuple[Arrow, Line]]
    labels: dict[int, Point]
    """Middles of labels, by the number of their arrow; those for which there was no room are left out."""
    heads: list[float]
    """Where the lanes begin."""


def draw(boxes: Sequence[Box], arrows: Sequence[Arrow]) -> Drawing:
    """Where everything goes. Arrows from or to boxes that are not there are left out."""
    known = {box.id: box for box in boxes}
    arrows = [a for a in arrows if a.source in known and a.target in known and a.source != a.target]
    lanes = lanes_of(boxes, arrows)
    bends = bends_of(lanes, arrows)
    ways = [[a.source, *bend, a.target] for a, bend in zip(arrows, bends, strict=True)]
    lanes = ordered(lanes, ways)
    at = {each: n for n, lane in enumerate(lanes) for each in lane}
    widths = [max((_width(known[e]) for e in lane if e in known), default=0.0) for lane in lanes]
    starts = [MARGIN + sum(widths[:n]) + GAP_X * n for n in range(len(lanes))]
    heights = _heights(known, ways, at)
    tall = max((sum(heights[e] + GAP_Y for e in lane) - GAP_Y for lane in lanes), default=0.0)
    places: dict[str, Place] = {}
    for n, lane in enumerate(lanes):
        gap = (tall - sum(heights[each] for each in lane)) / (len(lane) + 1)
        y = HEAD + MARGIN + gap
        for each in lane:
            places[each] = Place(starts[n], y, widths[n], heights[each])
            y += heights[each] + gap
    lines = _lines(arrows, ways, at, places)
    shown = {each: place for each, place in places.items() if each in known}
    edge = max((c.at(t).x for _, line in lines for c in line.curves for t in (0.25, 0.5, 0.75)), default=0.0)
    width = max(starts[-1] + widths[-1], edge) + MARGIN if lanes else 2 * MARGIN
    return Drawing(width, HEAD + 2 * MARGIN + tall, shown, lines, _labels(lines, shown), starts)


def _width(box: Box) -> float:
    """As wide as its text needs."""
    texts = [len(cut(box.name)) * NAME_CHAR, *(len(cut(line)) * LINE_CHAR for line in box.lines)]
    return max(WIDTHS[box.lane], max(texts) + 2 * PADDING)


def _sides(source: str, target: str, at: Mapping[str, int]) -> tuple[int, int]:
    """On which side an arrow leaves and arrives: 1 right, -1 left."""
    if at[source] == at[target]:
        return 1, 1
    return (1, -1) if at[source] < at[target] else (-1, 1)


def _heights(
    known: Mapping[str, Box], ways: Sequence[Sequence[str]], at: Mapping[str, int]
) -> dict[str, float]:
    """Boxes are as tall as the ends of arrows on their fuller side need."""
    ends: dict[tuple[str, int], set[str]] = defaultdict(set)
    for n, way in enumerate(ways):
        out, into = _sides(way[0], way[-1], at)
        ends[way[0], out].add(_end(way[1], n))
        ends[way[-1], into].add(_end(way[-2], n))
    return {
        each: max(BOX_HEIGHT, PORT * (max(len(ends[each, 1]), len(ends[each, -1])) + 1))
        if each in known
        else BEND
        for each in at
    }


def _end(neighbour: str, n: int) -> str:
    """Arrows that come by one way share an end; others have one each."""
    return neighbour if "»" in neighbour else f"{neighbour}#{n}"


def _lines(
    arrows: Sequence[Arrow], ways: Sequence[Sequence[str]], at: Mapping[str, int], places: Mapping[str, Place]
) -> list[tuple[Arrow, Line]]:
    """Ends on one side of a box stand in the order of what they lead to, so that few arrows cross there."""
    sides: dict[tuple[str, int], dict[str, float]] = defaultdict(dict)
    for n, way in enumerate(ways):
        out, into = _sides(way[0], way[-1], at)
        sides[way[0], out][_end(way[1], n)] = places[way[1]].middle
        sides[way[-1], into][_end(way[-2], n)] = places[way[-2]].middle
    ports: dict[tuple[str, int, str], Point] = {}
    for (each, side), ends in sides.items():
        place = places[each]
        x = place.x + (place.width if side == 1 else 0.0)
        for k, end in enumerate(sorted(ends, key=lambda e: (ends[e], e))):
            ports[each, side, end] = Point(x, place.y + place.height * (k + 1) / (len(ends) + 1))
    found: list[tuple[Arrow, Line]] = []
    for n, (arrow, way) in enumerate(zip(arrows, ways, strict=True)):
        out, into = _sides(way[0], way[-1], at)
        first, last = ports[way[0], out, _end(way[1], n)], ports[way[-1], into, _end(way[-2], n)]
        found.append((arrow, _line(first, [places[each] for each in way[1:-1]], last, out, into, way)))
    return found


def _line(
    start: Point, through: Sequence[Place], end: Point, out: int, into: int, way: Sequence[str]
) -> Line:
    curves: list[Curve] = []
    for place in through:
        left, right = Point(place.x, place.middle), Point(place.x + place.width, place.middle)
        enter, leave = (left, right) if out == 1 else (right, left)
        curves += [_curve(start, enter, out, -out), Curve(enter, enter, leave, leave)]
        start = leave
    curves.append(_curve(start, end, out, into))
    shared_start = bool(through) and way[1].startswith(f"{way[0]}»")
    return Line(tuple(curves), len(curves) - 1 if shared_start else 0)


def _curve(start: Point, end: Point, out: int, into: int) -> Curve:
    if out == into:  # in one lane: around the right side, the further the more there is between
        reach = min(GAP_X * 0.8, 40 + abs(end.y - start.y) * 0.2)
        return Curve(start, Point(start.x + reach, start.y), Point(end.x + reach, end.y), end)
    reach = max(GAP_X * 0.45, abs(end.x - start.x) * 0.45)
    return Curve(start, Point(start.x + out * reach, start.y), Point(end.x + into * reach, end.y), end)


def _labels(lines: Sequence[tuple[Arrow, Line]], places: Mapping[str, Place]) -> dict[int, Point]:
    taken: list[tuple[float, float, float, float]] = []
    found: dict[int, Point] = {}
    for n, (arrow, line) in enumerate(lines):
        if not arrow.label:
            continue
        half = width_of(arrow.label) / 2
        for t in (0.5, 0.42, 0.58, 0.34, 0.66, 0.27, 0.73, 0.2, 0.8):
            x, y = line.curves[line.own].at(t)
            area = (x - half - 2, y - LABEL_HEIGHT / 2 - 1, x + half + 2, y + LABEL_HEIGHT / 2 + 1)
            if not any(p.covers(*area) for p in places.values()) and not any(_meet(area, t_) for t_ in taken):
                taken.append(area)
                found[n] = Point(x, y)
                break
    return found


def _meet(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and a[2] > b[0] and a[1] < b[3] and a[3] > b[1]


def width_of(text: str) -> float:
    """Of a label, with its edges."""
    return len(text) * CHAR + 12


def cut(text: str) -> str:
    """A name or a line of a box, as much of it as there is room for."""
    return text if len(text) <= TEXT_MAX else text[: TEXT_MAX - 1] + "…"
