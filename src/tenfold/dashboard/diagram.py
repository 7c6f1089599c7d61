"""Boxes and arrows: a drawing of parts and what flows between them. Pure: the same parts give the same picture.

Boxes stand in lanes from left to right. The lanes of those that say none follow from the arrows: whoever is called
stands further right than whoever calls (the longest way from a box that nobody calls; arrows that close a circle do not
count). Within a lane, boxes are ordered by the mean place of their neighbours, swept to and fro, as in the method of
Sugiyama, Tagawa and Toda (1981). Arrows are cubic curves between places of their own on the boxes' sides; labels take
the first place along their arrow where they cover no box and no other label.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Literal, NamedTuple

from tenfold.dashboard.html import Html, join, tag

BOX_WIDTH: Final = 178.0
BOX_HEIGHT: Final = 66.0
GAP_X: Final = 172.0
GAP_Y: Final = 24.0
MARGIN: Final = 16.0
HEAD: Final = 26.0
"""Above the lanes, for their names."""
PORT: Final = 15.0
"""Between the ends of two arrows on one side of a box."""
LABEL_HEIGHT: Final = 18.0
CHAR: Final = 5.9
"""How wide a character of a label is at most, about."""
SWEEPS: Final = 6

Mood = Literal["", "busy", "warn", "bad"]
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
    height: float

    def covers(self, left: float, top: float, right: float, bottom: float) -> bool:
        return left < self.x + BOX_WIDTH and right > self.x and top < self.y + self.height and bottom > self.y


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

    @property
    def path(self) -> str:
        """The ``d`` of an SVG path."""
        pairs = [f"{p.x:.1f},{p.y:.1f}" for p in self]
        return f"M{pairs[0]}C{pairs[1]} {pairs[2]} {pairs[3]}"


class Drawing(NamedTuple):
    """Where everything is."""

    width: float
    height: float
    places: dict[str, Place]
    curves: list[tuple[Arrow, Curve]]
    labels: dict[int, Point]
    """Middles of labels, by the number of their arrow; those for which there was no room are left out."""
    lanes: int


# ── lanes and order ───────────────────────────────────────────────────────────────────────────────


def lanes_of(boxes: Sequence[Box], arrows: Sequence[Arrow]) -> list[list[str]]:
    """Boxes by lane, in order; no lane is empty. Arrows of events move no box: who listens may stand anywhere."""
    middle = [box.id for box in boxes if box.lane == "middle"]
    depth = _depths(middle, [(a.source, a.target) for a in arrows if a.kind == "call"])
    deepest = max(depth.values(), default=0)
    number = {
        box.id: 0 if box.lane == "first" else deepest + 2 if box.lane == "last" else depth[box.id] + 1
        for box in boxes
    }
    lanes = [[box.id for box in boxes if number[box.id] == n] for n in range(deepest + 3)]
    return _ordered([lane for lane in lanes if lane], arrows)


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


def _ordered(lanes: list[list[str]], arrows: Sequence[Arrow]) -> list[list[str]]:
    """Each lane by the mean place of its neighbours, to and fro."""
    near: dict[str, list[str]] = defaultdict(list)
    for arrow in arrows:
        near[arrow.source].append(arrow.target)
        near[arrow.target].append(arrow.source)
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
    known = {box.id for box in boxes}
    arrows = [a for a in arrows if a.source in known and a.target in known and a.source != a.target]
    lanes = lanes_of(boxes, arrows)
    at = {each: n for n, lane in enumerate(lanes) for each in lane}
    heights = _heights(known, arrows, at)
    tall = max((sum(heights[e] + GAP_Y for e in lane) - GAP_Y for lane in lanes), default=0.0)
    places: dict[str, Place] = {}
    for n, lane in enumerate(lanes):
        free = tall - sum(heights[each] for each in lane)
        gap = free / (len(lane) + 1)
        y = HEAD + MARGIN + gap
        for each in lane:
            places[each] = Place(MARGIN + n * (BOX_WIDTH + GAP_X), y, heights[each])
            y += heights[each] + gap
    curves = _curves(arrows, at, places)
    width = 2 * MARGIN + len(lanes) * BOX_WIDTH + max(0, len(lanes) - 1) * GAP_X
    beyond = max((p.x for _, c in curves for p in (c.at(0.25), c.at(0.5), c.at(0.75))), default=0.0) + MARGIN
    return Drawing(
        max(width, beyond), HEAD + 2 * MARGIN + tall, places, curves, _labels(curves, places), len(lanes)
    )


def _sides(arrow: Arrow, at: Mapping[str, int]) -> tuple[int, int]:
    """On which side an arrow leaves and arrives: 1 right, -1 left."""
    if at[arrow.source] == at[arrow.target]:
        return 1, 1
    return (1, -1) if at[arrow.source] < at[arrow.target] else (-1, 1)


def _heights(ids: set[str], arrows: Sequence[Arrow], at: Mapping[str, int]) -> dict[str, float]:
    """Boxes are as tall as the arrows on their fuller side need."""
    ends: dict[tuple[str, int], int] = defaultdict(int)
    for arrow in arrows:
        out, into = _sides(arrow, at)
        ends[arrow.source, out] += 1
        ends[arrow.target, into] += 1
    return {each: max(BOX_HEIGHT, PORT * (max(ends[each, 1], ends[each, -1]) + 1)) for each in ids}


def _curves(
    arrows: Sequence[Arrow], at: Mapping[str, int], places: Mapping[str, Place]
) -> list[tuple[Arrow, Curve]]:
    """Ends on one side of a box stand in the order of the boxes they come from, so that few arrows cross there."""
    sides: dict[tuple[str, int], list[tuple[float, int, str]]] = defaultdict(list)
    for n, arrow in enumerate(arrows):
        out, into = _sides(arrow, at)
        sides[arrow.source, out].append((_middle(places[arrow.target]), n, "start"))
        sides[arrow.target, into].append((_middle(places[arrow.source]), n, "end"))
    ports: dict[tuple[int, str], Point] = {}
    for (each, side), ends in sides.items():
        place = places[each]
        for k, (_, n, which) in enumerate(sorted(ends)):
            x = place.x + (BOX_WIDTH if side == 1 else 0.0)
            ports[n, which] = Point(x, place.y + place.height * (k + 1) / (len(ends) + 1))
    return [(a, _curve(ports[n, "start"], ports[n, "end"], *_sides(a, at))) for n, a in enumerate(arrows)]


def _middle(place: Place) -> float:
    return place.y + place.height / 2


def _curve(start: Point, end: Point, out: int, into: int) -> Curve:
    if out == into:  # in one lane: around the right side, the further the more there is between
        reach = min(GAP_X * 0.75, 40 + abs(end.y - start.y) * 0.2)
        return Curve(start, Point(start.x + reach, start.y), Point(end.x + reach, end.y), end)
    reach = max(GAP_X * 0.5, abs(end.x - start.x) * 0.4)
    return Curve(start, Point(start.x + out * reach, start.y), Point(end.x + into * reach, end.y), end)


def _labels(curves: Sequence[tuple[Arrow, Curve]], places: Mapping[str, Place]) -> dict[int, Point]:
    taken: list[tuple[float, float, float, float]] = []
    found: dict[int, Point] = {}
    for n, (arrow, curve) in enumerate(curves):
        if not arrow.label:
            continue
        half = width_of(arrow.label) / 2
        for t in (0.5, 0.42, 0.58, 0.34, 0.66, 0.27, 0.73, 0.2, 0.8):
            x, y = curve.at(t)
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
            [_arrow(arrow, curve) for arrow, curve in drawing.curves],
            [_box(box, drawing.places[box.id]) for box in boxes],
            [
                _label(arrow, drawing.labels[n])
                for n, (arrow, _) in enumerate(drawing.curves)
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
    spots = [0, 1, drawing.lanes - 1][: len(heads)]
    return join(
        *(
            tag("text", text, class_="lane", x=f"{MARGIN + n * (BOX_WIDTH + GAP_X):.0f}", y=f"{MARGIN:.0f}")
            for n, text in zip(spots, heads, strict=False)
        )
    )


def _arrow(arrow: Arrow, curve: Curve) -> Html:
    classes = " ".join(filter(None, ("edge", arrow.kind, arrow.mood)))
    return tag(
        "g",
        tag("title", arrow.title) if arrow.title else None,
        tag("path", d=curve.path, marker_end="url(#tip)"),
        tag("path", d=curve.path, class_="flow") if arrow.flows else None,
        class_=classes,
    )


def _box(box: Box, place: Place) -> Html:
    top = place.y + (place.height - 16 * (1 + len(box.lines))) / 2 + 12
    lines = [
        tag("text", line, class_="said", x=f"{place.x + 12:.0f}", y=f"{top + 16 * (n + 1):.1f}")
        for n, line in enumerate(box.lines)
    ]
    drawn = tag(
        "g",
        tag(
            "rect", x=f"{place.x:.0f}", y=f"{place.y:.1f}", width=f"{BOX_WIDTH:.0f}", height=f"{place.height:.0f}",
            rx=9,
        ),
        tag("text", _cut(box.name), class_="name", x=f"{place.x + 12:.0f}", y=f"{top:.1f}"),
        lines,
        class_=f"box {box.kind} {box.mood}".rstrip(),
    )  # fmt: skip
    said = ", ".join((box.name, *box.lines))
    return tag("a", tag("title", said), drawn, href=box.href, aria_label=said) if box.href else drawn


def _cut(name: str, most: int = 23) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


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
