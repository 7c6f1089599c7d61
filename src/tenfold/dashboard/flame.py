"""Flame graphs (after Brendan Gregg, "The Flame Graph", CACM 2016): where time went, by the stacks it went in.

Width is time, and what stands on a function is what it called; so the widest plateaus are where the time goes. All of
it is pure: stacks with seconds go in, SVG comes out.
"""

from __future__ import annotations

import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import tenfold
from tenfold.dashboard.html import Html, tag
from tenfold.telemetry.profiling import Place

if TYPE_CHECKING:
    from collections.abc import Callable

    from tenfold.telemetry.profiling import Stack

Whose = Literal["thread", "own", "tenfold", "library", "python"]
"""Whose code a function is: the app's own, ours, an installed library's, or Python's."""

ROW: Final = 19
"""Height of a frame, in pixels."""
FRAMES_MAX: Final = 450
"""Frames that are drawn; a page stays small, and narrower ones could not be seen."""
NARROWEST: Final = 0.0015
"""Of the whole width."""
TEXT_FROM: Final = 0.03
"""Frames from this width on have their name written in them."""

_OURS = str(Path(tenfold.__file__).parent)
_PYTHON = tuple({sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")})


class Node:
    """A function with what it was called by; the outermost has no place."""

    __slots__ = ("children", "index", "parent", "place", "seconds")

    def __init__(self, place: Place, parent: Node | None) -> None:
        self.place, self.parent = place, parent
        self.seconds = 0.0
        """In it, and in what it called."""
        self.children: dict[Place, Node] = {}
        self.index = 0
        """Number of the node in its tree, from 0 for the outermost; the same for the same stacks."""

    @property
    def own_s(self) -> float:
        """In it, and not in what it called."""
        return max(0.0, self.seconds - sum(child.seconds for child in self.children.values()))

    def line(self) -> list[Node]:
        """It, and those that it was called by, the outermost first."""
        above = [] if self.parent is None else self.parent.line()
        return [*above, self]

    def __iter__(self) -> Iterator[Node]:
        yield self
        for child in self.children.values():
            yield from child


def tree(stacks: Mapping[Stack, float]) -> Node:
    """The stacks as one tree; what took longest stands first."""
    root = Node(Place("everything", "", 0), None)
    for stack, seconds in stacks.items():
        node = root
        node.seconds += seconds
        for place in stack:
            child = node.children.get(place)
            if child is None:
                child = node.children[place] = Node(place, node)
            child.seconds += seconds
            node = child
    _order(root, 0)
    return root


def _order(node: Node, index: int) -> int:
    """Sort and number what is below; answers the next number."""
    node.index = index
    index += 1
    node.children = dict(sorted(node.children.items(), key=lambda item: (-item[1].seconds, item[0])))
    for child in node.children.values():
        index = _order(child, index)
    return index


class Cost(NamedTuple):
    """What one function cost, wherever it was called."""

    place: Place
    own_s: float
    """In it, and not in what it called."""
    total_s: float
    """With what it called; a function that calls itself counts once."""


def costs(stacks: Mapping[Stack, float]) -> list[Cost]:
    """Every function, the one with the most time of its own first."""
    own: dict[Place, float] = {}
    total: dict[Place, float] = {}
    for stack, seconds in stacks.items():
        for place in set(stack[1:]):
            total[place] = total.get(place, 0.0) + seconds
        if len(stack) > 1:
            own[stack[-1]] = own.get(stack[-1], 0.0) + seconds
    found = [Cost(place, own.get(place, 0.0), seconds) for place, seconds in total.items()]
    return sorted(found, key=lambda cost: (-cost.own_s, -cost.total_s, cost.place))


def whose(place: Place) -> Whose:
    """Whose code it is, by its file."""
    file = place.file
    if not file:
        return "thread"
    if file.startswith(_OURS):
        return "tenfold"
    if "site-packages" in file or "dist-packages" in file:
        return "library"
    if file.startswith(("<frozen", *_PYTHON)):
        return "python"
    return "own"


def where(place: Place) -> str:
    """File and line, without the folders that say nothing."""
    file = place.file
    for before in ("site-packages/", "dist-packages/"):
        file = file.rpartition(before)[2]
    for folder in (str(Path(_OURS).parent), *_PYTHON, str(Path.cwd())):
        file = file.removeprefix(f"{folder}/")
    return f"{file}:{place.line}" if file else ""


class Frame(NamedTuple):
    """A node in its place: ``left`` and ``width`` are shares of the whole width, ``row`` counts from the top."""

    node: Node
    left: float
    width: float
    row: int


def layout(at: Node) -> list[Frame]:
    """Where everything stands when ``at`` takes the whole width: its callers above it, what it called below."""
    frames = [Frame(node, 0.0, 1.0, row) for row, node in enumerate(at.line())]
    below: list[Frame] = []
    waiting = [frames[-1]]
    while waiting:
        frame = waiting.pop()
        left = frame.left
        for child in frame.node.children.values():
            width = child.seconds / at.seconds if at.seconds else 0.0
            if width >= NARROWEST:
                placed = Frame(child, left, width, frame.row + 1)
                below.append(placed)
                waiting.append(placed)
            left += width
    below.sort(key=lambda frame: (-frame.width, frame.row, frame.left))
    return frames + sorted(below[:FRAMES_MAX], key=lambda frame: (frame.row, frame.left))


def flame(at: Node, *, label: str, link: Callable[[Node], str], said: Callable[[float], str]) -> Html:
    """The graph as SVG. ``link`` is where a click on a frame leads, ``said`` writes seconds."""
    frames = layout(at)
    height = (max(frame.row for frame in frames) + 1) * ROW
    whole = at.line()[0].seconds or 1.0
    drawn = [_frame(frame, link(frame.node), said, whole) for frame in frames]
    return tag("svg", *drawn, class_="flame", width="100%", height=height, role="group", aria_label=label)


def _frame(frame: Frame, href: str, said: Callable[[float], str], whole: float) -> Html:
    node = frame.node
    place = node.place
    named = frame.width >= TEXT_FROM
    share = 100 * node.seconds / whole
    title = " · ".join(_words(place.function, where(place), f"{said(node.seconds)}, {share:.3g} %"))
    inner = tag(
        "svg",
        tag("title", title),
        tag("rect", width="100%", height=ROW - 1, rx=2),
        tag("text", place.function, x=5, y=13) if named else None,
        x=f"{frame.left * 100:.3f}%", y=frame.row * ROW, width=f"{frame.width * 100:.3f}%", height=ROW,
    )  # fmt: skip
    # Narrow frames are left out of the way of the keyboard: the widest hundred lead everywhere.
    return tag("a", inner, href=href, class_=whose(place), tabindex=None if named else -1)


def _words(*words: str) -> Iterable[str]:
    return (word for word in words if word)
