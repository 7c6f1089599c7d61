"""Who stands in which lane, and in which order.

Boxes stand in lanes from left to right. The lanes of those that say none follow from the arrows: whoever is called
stands further right than whoever calls (the longest way from a box that nobody calls; arrows that close a circle do not
count). Arrows that pass through a lane have a place there as a box has (those to one store, and those of clients, share
theirs), so that none runs behind a box. Within a lane, the order is by the mean place of the neighbours, swept to and
fro, as in the method of Sugiyama, Tagawa and Toda (1981).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final, Literal

from tenfold.dashboard.diagram.parts import Arrow, Box

SWEEPS: Final = 6


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


def ordered(lanes: list[list[str]], ways: Sequence[Sequence[str]]) -> list[list[str]]:
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
