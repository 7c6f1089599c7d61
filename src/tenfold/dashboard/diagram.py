"""Boxes and arrows: a drawing of parts and what flows between them. Pure: the same parts give the same picture.

Boxes stand in lanes from left to right. The lanes of those that say none follow from the arrows: whoever is called
stands further right than whoever calls (the longest way from a box that nobody calls; arrows that close a circle do not
count). Arrows that pass through a lane have a place there as a box has (those to one store, and those of clients, share
theirs), so that none runs behind a box. Within a lane, the order is by the mean place of the neighbours, swept to and
fro, as in the method of Sugiyama, Tagawa and Toda (1981). Labels take the first place along the part of their arrow that
it shares with no other, where they cover no box and no other label.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final, Literal, NamedTuple

from tenfold.dashboard.html import Html, join, tag

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
SWEEPS: Final = 6

Mood = Literal["", "busy", "warn", "bad"]
_ABOVE: Final = ("", "busy", "warn", "bad")
"""Of arrows that share a way, the later ones are drawn over the earlier."""
Kind = Literal["call", "data", "events"]
Lane = Literal["first", "middle", "last"]


class Box(NamedTuple):
    """A part. ``lines`` stand below its name; ``lane`` is where it stands, ``middle`` ones as their arrows say."""

    id: str
    name: str
    kind: str = "service"
    lines: tuple[str, ...] = ()
    lane: Lane = "middle"
    mood: Literal["", "hot", "down"] = ""
    href: str = ""


class Arrow(NamedTuple):
    """What flows from one box to another. ``flows``: there is traffic now; ``title`` says all of it."""

    source: str
    target: str
    kind: Kind = "call"
    label: str = ""
    title: str = ""
    mood: Mood = ""
    flows: bool = False


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


# ── lanes and order ───────────────────────────────────────────────────────────────────────────────


def lanes_of(boxes: Sequence[Box], arrows: Sequence[Arrow]) -> list[list[str]]:
    """Boxes by lane; no lane is empty. Arrows of events move no box: who listens may stand anywhere."""
    middle = [box.id for box in boxes if box.lane == "middle"]
    depth = _depths(middle, [(a.source, a.target) for a in arrows if a.kind == "call"])
    deepest = max(depth.values(), default=0)
    number = {
        box.id: 0 if box.lane == "first" else deepest + 2 if box.lane == "last" else depth[box.id] + 1
        for box in boxes
    }
    lanes = [[box.id for box in boxes if number[box.id] == n] for n in range(deepest + 3)]
    return [lane for lane in lanes if lane]


def bends_of(lanes: list[list[str]], arrows: Sequence[Arrow]) -> list[list[str]]:
    """By arrow: the names of its places in the lanes it passes through, which are added to these."""
    at = {each: n for n, lane in enumerate(lanes) for each in lane}
    known: set[str] = set()
    found: list[list[str]] = []
    for n, arrow in enumerate(arrows):
        source, target = at[arrow.source], at[arrow.target]
        step = 1 if source < target else -1
        names: list[str] = []
        for lane in range(source + step, target, step) if source != target else ():
            shared = (
                f"»{arrow.target}"
                if target == len(lanes) - 1
                else f"{arrow.source}»"
                if source == 0
                else f"»{n}"
            )
            name = f"{shared}@{lane}"
            if name not in known:
                known.add(name)
                lanes[lane].append(name)
            names.append(name)
        found.append(names)
    return found


def _depths(ids: Sequence[str], calls: Sequence[tuple[str, str]]) -> dict[str, int]:
    """How many calls lie at most before each."""
    onward: dict[str, list[str]] = {each: [] for each in ids}
    for source, target in calls:
        if source in onward and target in onward and source != target and target not in onward[source]:
            onward[source].append(target)
    depth = dict.fromkeys(ids, 0)
    seen: dict[str, Literal["open", "done"]] = {}
    order: list[str] = []
    for each in ids:
        _visit(each, onward, seen, order)
    place = {each: n for n, each in enumerate(reversed(order))}
    for each in sorted(ids, key=place.__getitem__):
        for target in onward[each]:
            if place[target] > place[each]:  # else it closes a circle
                depth[target] = max(depth[target], depth[each] + 1)
    return depth


def _visit(
    at: str, onward: Mapping[str, list[str]], seen: dict[str, Literal["open", "done"]], order: list[str]
) -> None:
    """Depth first; ``order`` gets each after all that it leads to. By a stack of our own: chains may be long."""
    stack: list[tuple[str, Iterator[str]]] = []
    if at not in seen:
        seen[at] = "open"
        stack.append((at, iter(onward[at])))
    while stack:
        current, rest = stack[-1]
        following = next((each for each in rest if each not in seen), None)
        if following is None:
            stack.pop()
            seen[current] = "done"
            order.append(current)
        else:
            seen[following] = "open"
            stack.append((following, iter(onward[following])))


def _ordered(lanes: list[list[str]], ways: Sequence[Sequence[str]]) -> list[list[str]]:
    """Each lane by the mean place of its neighbours, to and fro."""
    near: dict[str, list[str]] = defaultdict(list)
    for way in ways:
        for one, other in pairwise(way):
            near[one].append(other)
            near[other].append(one)
    for sweep in range(SWEEPS):
        place = _shares(lanes)
        for lane in lanes if sweep % 2 == 0 else reversed(lanes):
            lane.sort(key=lambda each: _mean([place[n] for n in near[each] if n in place], place[each]))
            place.update(_shares([lane]))
    return lanes


def _shares(lanes: list[list[str]]) -> dict[str, float]:
    """How far down its lane each stands, from 0 to 1."""
    return {each: (n + 0.5) / len(lane) for lane in lanes for n, each in enumerate(lane)}


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


# ── places ────────────────────────────────────────────────────────────────────────────────────────


def draw(boxes: Sequence[Box], arrows: Sequence[Arrow]) -> Drawing:
    """Where everything goes. Arrows from or to boxes that are not there are left out."""
    known = {box.id: box for box in boxes}
    arrows = [a for a in arrows if a.source in known and a.target in known and a.source != a.target]
    lanes = lanes_of(boxes, arrows)
    bends = bends_of(lanes, arrows)
    ways = [[a.source, *bend, a.target] for a, bend in zip(arrows, bends, strict=True)]
    lanes = _ordered(lanes, ways)
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
    texts = [len(_cut(box.name)) * NAME_CHAR, *(len(_cut(line)) * LINE_CHAR for line in box.lines)]
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


# ── SVG ───────────────────────────────────────────────────────────────────────────────────────────


def svg(boxes: Sequence[Box], arrows: Sequence[Arrow], label: str, heads: Sequence[str] = ()) -> Html:
    """The picture. ``label`` says what it is of; ``heads`` stand above the first, the second and the last lane."""
    drawing = draw(boxes, arrows)
    return tag(
        "div",
        tag(
            "svg",
            _defs(),
            _heads(drawing, heads),
            [_arrow(*each) for each in sorted(drawing.lines, key=lambda each: _ABOVE.index(each[0].mood))],
            [_box(box, drawing.places[box.id]) for box in boxes],
            [
                _label(arrow, drawing.labels[n])
                for n, (arrow, _) in enumerate(drawing.lines)
                if n in drawing.labels
            ],
            viewBox=f"0 0 {drawing.width:.0f} {drawing.height:.0f}",
            width=f"{drawing.width:.0f}",
            height=f"{drawing.height:.0f}",
            role="group",
            aria_label=label,
        ),
        class_="diagram",
        tabindex=0,
        role="region",
        aria_label=label,
    )


def _defs() -> Html:
    tip = tag("path", d="M0,0L8,4L0,8Z")
    return tag(
        "defs",
        tag(
            "marker", tip, id="tip", viewBox="0 0 8 8", refX=7, refY=4,
            markerWidth=7, markerHeight=7, orient="auto-start-reverse", markerUnits="userSpaceOnUse",
        ),
    )  # fmt: skip


def _heads(drawing: Drawing, heads: Sequence[str]) -> Html:
    last = len(drawing.heads) - 1
    spots = [drawing.heads[n] for n in (0, 1, last) if n <= last]
    return join(
        *(
            tag("text", text, class_="lane", x=f"{x:.0f}", y=f"{MARGIN:.0f}")
            for x, text in zip(spots, heads, strict=False)
        )
    )


def _arrow(arrow: Arrow, line: Line) -> Html:
    classes = " ".join(filter(None, ("edge", arrow.kind, arrow.mood)))
    return tag(
        "g",
        tag("title", arrow.title) if arrow.title else None,
        tag("path", d=line.path, marker_end="url(#tip)"),
        tag("path", d=line.path, class_="flow") if arrow.flows else None,
        class_=classes,
    )


def _box(box: Box, place: Place) -> Html:
    top = place.y + (place.height - 16 * (1 + len(box.lines))) / 2 + 12
    x = f"{place.x + PADDING:.0f}"
    lines = [
        tag("text", _cut(line), class_="said", x=x, y=f"{top + 16 * (n + 1):.1f}")
        for n, line in enumerate(box.lines)
    ]
    drawn = tag(
        "g",
        tag("title", "; ".join((box.name, *box.lines))),
        tag(
            "rect", x=f"{place.x:.0f}", y=f"{place.y:.1f}", width=f"{place.width:.0f}", height=f"{place.height:.0f}",
            rx=9,
        ),
        tag("text", _cut(box.name), class_="name", x=x, y=f"{top:.1f}"),
        lines,
        class_=f"box {box.kind} {box.mood}".rstrip(),
    )  # fmt: skip
    return tag("a", drawn, href=box.href) if box.href else drawn


def _cut(text: str) -> str:
    return text if len(text) <= TEXT_MAX else text[: TEXT_MAX - 1] + "…"


def _label(arrow: Arrow, at: Point) -> Html:
    width = width_of(arrow.label)
    return tag(
        "g",
        tag(
            "g",
            tag("title", arrow.title) if arrow.title else None,
            tag(
                "rect", x=f"{at.x - width / 2:.1f}", y=f"{at.y - LABEL_HEIGHT / 2:.1f}", width=f"{width:.1f}",
                height=f"{LABEL_HEIGHT:.0f}", rx=9,
            ),
            tag("text", arrow.label, x=f"{at.x:.1f}", y=f"{at.y + 3.6:.1f}", text_anchor="middle"),
            class_="label",
        ),
        class_=f"edge {arrow.mood}".rstrip(),
    )  # fmt: skip
