"""Which lane a message stands in where the services of an app share a database and not a process.

In an app that runs whole there is nothing to say: ordinary messages stand in the lane ``""``. Where some services run
elsewhere, those of each stand in a lane of its own (``@orders``), so that a worker claims what it can run and nothing
else, and however many messages wait for the others, none of them is between it and its own. What was put in by a
process of the other kind, or before a service moved out, is set over into the right lane by who meets it. Pure.
"""

from __future__ import annotations

from collections.abc import Collection

from tenfold.queue.options import LIMITED
from tenfold.queue.policy import SERVICE, Lane


class Lanes:
    """``declared`` are the services of the app, ``elsewhere`` those of them that other processes serve."""

    def __init__(self, declared: Collection[str] = (), elsewhere: Collection[str] = ()) -> None:
        self._declared, self._elsewhere = frozenset(declared), frozenset(elsewhere)

    def of(self, handler: str, lane: str = "") -> str:
        """Where a message of ``handler`` stands; ``lane`` is what its handler or its queue says. A lane of the handler's
        own (a concurrency limit) tells whose it is by its name already."""
        service = handler.partition(".")[0]
        if not self._elsewhere or lane not in ("", LIMITED) or service not in self._declared:
            return lane
        return f"{lane}{SERVICE}{service}"

    def here(self, lane: Lane) -> bool:
        """Whether a worker of this process may find something there that it can run."""
        return lane.service not in self._elsewhere

    def astray(self, handler: str, lane: str) -> str:
        """The lane that a message of ``handler``, which nobody here can run, belongs to instead of ``lane``; empty where
        it has none."""
        if handler.partition(".")[0] not in self._elsewhere:
            return ""
        right = self.of(handler, bare(lane))
        return "" if right == lane else right


def bare(lane: str) -> str:
    """What a lane would be in an app that runs whole."""
    return lane.partition(SERVICE)[0]


WHOLE = Lanes()
"""All services are served by every process."""
