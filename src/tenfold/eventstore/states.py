"""States of aggregates in memory: what was loaded once is only brought up to date.

Events never change, so a state is as good tomorrow, with the events since then. An entry says which event it was made
up to. That event is read again with those that follow it, or compared by the statement that appends after it: when it is
not there any more (a restored backup, tests that undo what they did), the entry is dropped.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from tenfold.eventstore.contract import EventRow

S = TypeVar("S")


class Known(NamedTuple, Generic[S]):
    """The state after the event ``version``, and marks by which that event is known again."""

    version: int
    state: S
    data: str
    at: float

    def fits(self, row: EventRow) -> bool:
        """Whether ``row`` is the event that the state was made up to."""
        return row.version == self.version and row.data == self.data and row.at == self.at


class States(Generic[S]):
    """At most ``most`` states; those that were not asked for longest go first. ``most`` 0: none."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: OrderedDict[str, Known[S]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def get(self, stream: str) -> Known[S] | None:
        """What is known of the stream."""
        known = self._known.get(stream)
        if known is not None:
            self._known.move_to_end(stream)
        return known

    def put(self, stream: str, known: Known[S]) -> None:
        """Keep a state that was made of committed events; not what could be changed behind our back."""
        there = self._known.get(stream)
        if self._most == 0 or (there is not None and there.version > known.version):
            return
        if there is None and not is_immutable(known.state):
            return
        self._known[stream] = known
        self._known.move_to_end(stream)
        if len(self._known) > self._most:
            self._known.popitem(last=False)

    def drop(self, stream: str) -> None:
        """Forget the stream."""
        self._known.pop(stream, None)

    def clear(self) -> None:
        """Forget everything."""
        self._known.clear()


def is_immutable(state: Any) -> bool:
    """Whether a function that is given the state could not change it: it and all its fields are hashable by value."""
    by_identity: Any = object.__hash__
    if type(state).__hash__ is by_identity:
        return False  # which says nothing of what it holds
    try:
        hash(state)
    except TypeError:
        return False
    return True
