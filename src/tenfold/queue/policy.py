"""What to claim, when to look again, and when a message is held to kill its workers. Pure decisions.

A *lane* is a line of its own inside a queue. Messages of ordinary handlers stand in the lane ``""``; those of
a handler with a concurrency limit in a lane named after it, so that thousands of them, held back by the
limit, are never between a claim and the messages of others. A message whose worker died twice is a *suspect*
and stands in a lane of its own: each worker runs one suspect at a time, so that the one that kills workers is
found without convicting those that merely ran beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import NamedTuple

from tenfold.queue.message import Claim, Message

SUSPECT = "!"
"""Stands before the lane of a message whose worker died twice."""
SERVICE = "@"
"""Stands before the service whose messages have a lane of their own (:mod:`tenfold.queue.lanes`)."""
CRASHES_UNTIL_SUSPECT = 2
CRASHES_MAX = 3
"""A message whose worker died so often is dead (quarantined)."""

FAST_S = 0.05
"""Messages that take less on average are claimed ahead of the free slots, others are not."""
AHEAD_S, AHEAD_IN_TURN_S = 0.05, 0.01
"""No more is claimed ahead than is worked off in this time. Where tenants take turns it is less, for who comes anew
waits so long for its first turn."""

POLL_MIN_S = 0.02


class Lane(NamedTuple):
    """A lane that has ready messages."""

    queue: str
    name: str
    shared: bool = False
    """Somebody has a share of its messages: they are claimed in turn."""

    @property
    def suspect(self) -> bool:
        return self.name.startswith(SUSPECT)

    @property
    def handler(self) -> str:
        """The handler whose limit the lane obeys, or an empty string."""
        return self.name.lstrip(SUSPECT)

    @property
    def service(self) -> str:
        """The service whose messages stand in it; no service's name where they may be anybody's."""
        bare, at, service = self.handler.partition(SERVICE)
        return service if at else bare.partition(".")[0]


class Slots(NamedTuple):
    """What one worker holds now."""

    concurrency: int
    batch: int
    running: int
    waiting: int
    """Claimed, not started."""
    average_s: float
    """Moving average of the time a message takes."""
    ahead_s: float = AHEAD_S


def room(slots: Slots) -> int:
    """How many messages a worker may claim now.

    Never more than it has free slots, unless its messages are so short that fetching would take longer than
    running: then up to a batch ahead. A message claimed ahead of need is kept from idle workers and shares in
    a crash it has nothing to do with.
    """
    free = slots.concurrency - slots.running - slots.waiting
    ahead = 0
    if slots.average_s < FAST_S:
        worked_off = slots.concurrency * slots.ahead_s / max(slots.average_s, 1e-6)
        most = int(min(slots.batch, worked_off))
        if slots.waiting <= most // 2:  # in large bites, not one by one
            ahead = most - slots.waiting
    return max(0, min(max(free, ahead), slots.batch))


def yielding(concurrency: int, pressure: float) -> int:
    """How many of its slots a worker uses beside requests that need the same processor: all without pressure (0), one
    at full pressure (1), so that jobs become slow and never stand still."""
    return max(1, round(concurrency * (1.0 - pressure)))


def shares(
    lanes: Iterable[Lane],
    capacity: int,
    limits: Mapping[str, int],
    running: Mapping[str, int],
    *,
    open_to: Mapping[str, int] | None = None,
    turn: int = 0,
    suspects_held: int = 0,
) -> list[Claim]:
    """Divide ``capacity`` among lanes with work, so that no busy lane starves another.

    ``limits`` maps handlers to their concurrency limit, ``running`` to what all workers run of them now;
    ``open_to`` maps limited queues to how many messages they may start.
    ``turn`` rotates who is first when there is less capacity than lanes. What a limited lane cannot use goes
    to the others.
    """
    taken, room_of = dict(running), dict(open_to or {})

    def allowed(lane: Lane) -> int:
        most = limits.get(lane.handler, taken.get(lane.handler, 0) + capacity) - taken.get(lane.handler, 0)
        most = min(most, room_of.get(lane.queue, most))
        return min(most, 1 - suspects_held) if lane.suspect else most

    ordered = sorted(
        _rotated(list(lanes), turn), key=allowed
    )  # narrow lanes first: they leave the rest to the wide
    claims: list[Claim] = []
    left = capacity
    for position, lane in enumerate(ordered):
        count = min(allowed(lane), -(-left // (len(ordered) - position)))
        if count > 0:
            claims.append(Claim(lane.queue, lane.name, count))
            left -= count
            taken[lane.handler] = taken.get(lane.handler, 0) + count
            if lane.queue in room_of:
                room_of[lane.queue] -= count
            suspects_held += lane.suspect
    return claims


def in_turn(messages: Sequence[Message], after: str) -> list[Message]:
    """The order in which messages of several shares start: one of each share, those that follow ``after`` first, then
    again one of each. Of one share they stay in their order."""
    lines: dict[str, list[Message]] = {}
    for message in messages:
        lines.setdefault(message.share, []).append(message)
    ring = sorted(lines, key=lambda share: (share <= after, share))
    return [m for row in zip_longest(*(lines[share] for share in ring)) for m in row if m is not None]


def last_in_turn(messages: Iterable[Message], after: str) -> str:
    """The share that was the last to have its turn."""
    return max((m.share for m in messages), key=lambda share: (share <= after, share), default=after)


def _rotated(lanes: list[Lane], turn: int) -> Sequence[Lane]:
    start = turn % len(lanes) if lanes else 0
    return lanes[start:] + lanes[:start]


def next_poll_s(idle_polls: int, poll_s: float) -> float:
    """Seconds until the next look after ``idle_polls`` looks that found nothing: doubling, at most ``poll_s``.

    Local enqueues wake the worker at once; this bounds the delay of those from other processes.
    """
    return min(poll_s, POLL_MIN_S * 2.0 ** min(idle_polls, 16))


def heartbeat_s(lease_s: float) -> float:
    """Seconds between heartbeats: two may fail before the lease is lost."""
    return lease_s / 3


QUARANTINED = (
    f"its worker died {CRASHES_MAX} times while running it, so it is not run again; "
    "find out what ends the process (memory, os._exit, a crash in native code), then retry it"
)
