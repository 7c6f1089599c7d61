"""What must be true of the database when the fleet has come to rest. Pure."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

TICK_S = 5.0
"""Between two ticks of the schedule."""


@dataclass
class Evidence:
    """What is in the database, and what the clients know."""

    intents: list[tuple[Any, ...]]
    """uid, kind, key, number within the key: what was committed."""
    effects: list[tuple[Any, ...]]
    """id, handler, uid, key, number, message: what handlers committed, in order."""
    finished: list[tuple[Any, ...]]
    """id, handler, state, error."""
    pending: list[tuple[Any, ...]]
    """id, handler, state."""
    unsent: list[int]
    at_broker: int
    overlong: list[str]
    """Leases that reached further than they may by the time of the database, as sentences."""
    early: list[str]
    """Ticks that ran before their time, likewise."""
    acknowledged: set[str]
    rolled_back: set[str]
    until: float
    rested: bool
    """It came to rest in time."""
    given_up: set[tuple[str, str]]
    """Handler and uid of what is in quarantine."""

    @property
    def nothing_left(self) -> bool:
        return not (self.pending or self.unsent or self.at_broker)


def judge(found: Evidence) -> list[str]:
    """The promises that were broken, as sentences."""
    return [*_stuck(found), *_lost(found), *_once(found), *_ordered(found), *_ticks(found), *_timed(found)]


def _stuck(found: Evidence) -> Iterator[str]:
    if not found.rested:
        yield f"stuck: {found.pending[:3]} are pending and {found.unsent[:3]} unsent long after everything healed"
    for id_, handler, state, error in found.finished:
        # three crashes in a row are a quarantine, which is kept for somebody to look at: nothing is lost
        if state != "done" and "its worker died" not in (error or ""):
            yield f"given up: message {id_} of {handler} is {state}: {error}"


def _lost(found: Evidence) -> Iterator[str]:
    committed = {uid for uid, *_ in found.intents}
    yield from (f"lost: {uid} was acknowledged and is gone" for uid in sorted(found.acknowledged - committed))
    yield from (f"phantom: {uid} was rolled back and exists" for uid in sorted(found.rolled_back & committed))
    expected = {(handler, row[0]) for row in found.intents for handler in _HANDLERS[row[1]]}
    happened = {(row[1], row[2]) for row in found.effects if row[1] != "tick"}
    yield from (f"phantom: {what} happened without a cause" for what in sorted(happened - expected))
    yield from (f"lost: {what} never happened" for what in sorted(expected - happened - found.given_up))


_HANDLERS = {"single": ["single"], "keyed": ["keyed"], "event": ["first", "second"]}


def _once(found: Evidence) -> Iterator[str]:
    for (handler, uid), times in Counter((row[1], row[2]) for row in found.effects).items():
        if times > 1:
            yield f"doubled: {handler} of {uid} happened {times} times"


def _ordered(found: Evidence) -> Iterator[str]:
    seen: defaultdict[tuple[str, str], int] = defaultdict(int)
    for _, handler, uid, key, seq, _ in found.effects:
        if key is None:
            continue
        if seq < seen[handler, key]:
            yield f"order: {handler} of {uid} is number {seq} of key {key}, after number {seen[handler, key]}"
        seen[handler, key] = seq


def _ticks(found: Evidence) -> Iterator[str]:
    if any(state == "dead" for _, _, state, _ in found.finished):
        return  # a tick may be among the quarantined
    ticks = sorted(float(row[2]) for row in found.effects if row[1] == "tick")
    for earlier, later in itertools.pairwise(ticks):
        if abs(later - earlier - TICK_S) > 0.01:
            yield f"ticks: after {earlier:.1f} came {later:.1f}"


def _timed(found: Evidence) -> Iterator[str]:
    """By the database's time, whatever a process's own clock says: with a longer lease, what a dead worker held waits."""
    yield from (f"leased: {what}" for what in found.overlong)
    yield from (f"early: {what}" for what in found.early)
