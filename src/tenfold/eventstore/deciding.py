"""What commands lead to: decided on states, and not yet appended."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, TypeVar, cast

from tenfold.eventstore.contract import Last
from tenfold.eventstore.journal import Batch
from tenfold.eventstore.loading import Folded

S = TypeVar("S")
C = TypeVar("C")

Decide = Callable[[S, C], Any]
"""Answers the events that a command leads to: a sequence, one event, or None; raises what the caller shall see."""


class Decided(NamedTuple, Generic[S]):
    """What commands lead to, by stream."""

    states: Mapping[str, Folded[S]]
    """Those that it was decided on."""
    events: Mapping[str, Sequence[Any]]
    lasts: Mapping[str, Last]
    """The events that the states from memory were made up to."""

    @classmethod
    def of(
        cls,
        decide: Decide[S, C],
        states: Mapping[str, Folded[S]],
        commands: Mapping[str, C],
        lasts: Mapping[str, Last] = MappingProxyType({}),
    ) -> Decided[S]:
        """Raises what ``decide`` raises."""
        made = {stream: _events(decide(at.state, commands[stream])) for stream, at in states.items()}
        return cls(states, made, lasts)

    def batches(self) -> list[Batch]:
        """What is to be appended."""
        return [
            Batch(stream, self.states[stream].version, events, self.lasts.get(stream))
            for stream, events in self.events.items()
            if events
        ]


def _events(decided: Any) -> Sequence[Any]:
    """What ``decide`` answered, as a sequence."""
    if decided is None:
        return ()
    if isinstance(decided, list | tuple):
        return cast("Sequence[Any]", decided)
    return tuple(decided) if inspect.isgenerator(decided) else (decided,)
