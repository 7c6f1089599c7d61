"""The connections of one listener: how many there may be, and which have been slow for too long.

One task looks at all of them, some hundreds at a time, so that no connection has a timer and no request sets one.
What is too slow is decided by :func:`verdict`, which has neither clock nor connection of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Protocol

from tenfold._core.text import plural

if TYPE_CHECKING:
    from tenfold._core.clock import Clock
    from tenfold._core.sections import HttpSettings

log = logging.getLogger("tenfold.http")

LINGER_S = 2.0
"""How long a refused client may take to read its answer before the connection is cut."""
FRESH_S = 0.5
"""A connection that has said nothing for so long gives up its place before an idle one does."""
ROUND_S = 1.0
"""Longest time between two looks at a connection."""
_SLICE = 250
"""Connections looked at without letting anything else run: about a tenth of a millisecond."""
_LOOKS_MAX = 64
"""How many connections are asked whether they are idle when room has to be made."""
_SAY_EVERY_S = 1.0


class State(Enum):
    """What a connection is doing, as far as time is concerned."""

    HEAD = auto()
    """Its request line or headers are to come; also before it has said anything."""
    BODY = auto()
    """The body of a request to a mounted application is to come. (Operations have the sweeper.)"""
    BUSY = auto()
    """The next move is ours."""
    SENDING = auto()
    """More was written than it has taken, or it is being closed and has not taken all."""
    REST = auto()
    """Its request was answered, and the body goes on."""
    IDLE = auto()
    LEAVING = auto()
    """It was refused, and may read the answer."""


class Verdict(Enum):
    """What is to be done with a connection."""

    NOTHING = auto()
    AGAIN = auto()
    """It moves; its time begins anew."""
    REFUSE = auto()
    """Answer 408 and close."""
    CLOSE = auto()
    CUT = auto()
    """Close without waiting for what it has not taken."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """The limits of ``[http]`` that are about connections; see there."""

    connections_max: int
    header_timeout_s: float
    body_timeout_s: float
    write_timeout_s: float
    keep_alive_s: float
    bytes_per_s_min: int
    buffered_max_bytes: int

    @classmethod
    def of(cls, http: HttpSettings) -> ConnectionLimits:
        """Those of an app's settings."""
        return cls(*(getattr(http, name) for name in cls.__dataclass_fields__))

    @property
    def round_s(self) -> float:
        """How often to look: an eighth of the shortest time-out, once a second at least."""
        times = (self.header_timeout_s, self.body_timeout_s, self.write_timeout_s, self.keep_alive_s)
        return min(ROUND_S, min(times) / 8)


def verdict(limits: ConnectionLimits, state: State, for_s: float, moved: int) -> Verdict:
    """What to do with a connection that has been in ``state`` for ``for_s`` seconds.

    ``moved`` is how many bytes of a body came, or were taken by the client, in that time: a body may take
    ``body_timeout_s`` and a second for each ``bytes_per_s_min`` that came; an answer is taken at that rate, judged
    every ``write_timeout_s``.
    """
    if state is State.BUSY:
        return Verdict.NOTHING
    if state is State.HEAD:
        return Verdict.REFUSE if for_s >= limits.header_timeout_s else Verdict.NOTHING
    if state is State.IDLE:
        return Verdict.CLOSE if for_s >= limits.keep_alive_s else Verdict.NOTHING
    if state is State.BODY:
        late = for_s >= limits.body_timeout_s + moved / limits.bytes_per_s_min
        return Verdict.REFUSE if late else Verdict.NOTHING
    if state is State.SENDING:
        if for_s < limits.write_timeout_s:
            return Verdict.NOTHING
        return Verdict.AGAIN if moved >= limits.bytes_per_s_min * for_s else Verdict.CUT
    return (
        Verdict.CUT
        if for_s >= (LINGER_S if state is State.LEAVING else limits.body_timeout_s)
        else Verdict.NOTHING
    )


class Connection(Protocol):
    """What is asked of a connection. ``since`` and ``mark`` belong to the watch; the connection sets ``since`` to None
    when something new has begun."""

    since: float | None
    seen: State
    mark: int

    @property
    def state(self) -> State: ...

    @property
    def moved(self) -> int:
        """A number that grows with the bytes that came of a body, or falls with those not yet taken."""
        ...

    def refuse_late(self, state: State) -> None: ...

    def close(self) -> None: ...

    def cut(self) -> None: ...


class Connections:
    """All connections of a listener, in the order in which they came."""

    def __init__(self, limits: ConnectionLimits, clock: Clock) -> None:
        self.limits = limits
        self.clock = clock
        self.all: dict[Connection, None] = {}
        self.fresh: dict[Connection, float] = {}
        """Those that never sent a whole head, with the time they came."""
        self.unsent: dict[Connection, int] = {}
        """Those that have not taken what was written, with its bytes; the one that has stalled longest is first."""
        self.unsent_bytes = 0
        self.ended = 0
        """How many were closed because they were slow, or to make room, or to free memory."""
        self._said_at = float("-inf")
        self._unsaid = 0

    # ── coming and going ──

    def add(self, connection: Connection, taken: Collection[object]) -> bool:
        """Whether there is room for it among those that have taken a place (WebSockets, too); somebody may have to go."""
        room = len(taken) <= self.limits.connections_max or self._make_room()
        self.all[connection] = None
        self.fresh[connection] = self.clock.monotonic()
        return room

    def discard(self, connection: Connection) -> None:
        """It is closed, or not ours to watch any more."""
        self.all.pop(connection, None)
        self.fresh.pop(connection, None)
        self.flows(connection)

    def stalls(self, connection: Connection, unsent: int) -> None:
        """It does not take what is written. Cuts the one that has stalled longest where that is too much memory."""
        self.flows(connection)
        self.unsent[connection] = unsent
        self.unsent_bytes += unsent
        while self.unsent_bytes > self.limits.buffered_max_bytes:
            slowest = next(iter(self.unsent))
            self.flows(slowest)
            self._end("clients that do not read their answers, which fill http.buffered_max_bytes")
            slowest.cut()

    def flows(self, connection: Connection) -> None:
        """It has taken what was written."""
        self.unsent_bytes -= self.unsent.pop(connection, 0)

    def _make_room(self) -> bool:
        slowest = next(iter(self.fresh), None)
        long = slowest is not None and self.clock.monotonic() - self.fresh[slowest] >= FRESH_S
        victim = slowest if long else self._newest_idle() or slowest
        self._end(f"all {self.limits.connections_max:,} places are taken (http.connections_max)")
        if victim is None:
            return False
        self.discard(victim)
        victim.cut()
        return True

    def _newest_idle(self) -> Connection | None:
        """Who came last is likeliest to be part of what fills the places."""
        newest = zip(range(_LOOKS_MAX), reversed(self.all), strict=False)
        return next((found for _, found in newest if found.state is State.IDLE), None)

    def _end(self, why: str) -> None:
        self.ended += 1
        self._unsaid += 1
        now = self.clock.monotonic()
        if now - self._said_at >= _SAY_EVERY_S:
            log.warning("closed %s: %s", plural(self._unsaid, "connection"), why)
            self._said_at, self._unsaid = now, 0

    # ── time ──

    async def watch(self) -> None:
        """Look at everybody again and again; runs until it is cancelled."""
        round_s = self.limits.round_s
        while True:
            some = list(self.all)
            slices = [some[at : at + _SLICE] for at in range(0, len(some), _SLICE)] or [[]]
            for found in slices:
                now = self.clock.monotonic()
                for connection in found:
                    self.look(connection, now)
                await self.clock.sleep(round_s / len(slices))

    def look(self, connection: Connection, now: float) -> None:
        """At one connection: what it has been doing since when, and whether that is too long."""
        state = connection.state
        if state is State.BUSY:
            connection.since = None
        elif connection.since is None or connection.seen is not state:
            connection.seen, connection.since, connection.mark = state, now, connection.moved
        else:
            for_s = now - connection.since
            found = verdict(self.limits, state, for_s, abs(connection.moved - connection.mark))
            if found is not Verdict.NOTHING:
                self._carry_out(found, connection, state)

    def _carry_out(self, found: Verdict, connection: Connection, state: State) -> None:
        connection.since = None
        if found is Verdict.REFUSE:
            self._end("clients that were too slow with a request")
            connection.refuse_late(state)
        elif found is Verdict.CLOSE:
            connection.close()
        elif found is Verdict.CUT:
            if state is not State.LEAVING:
                self._end("clients that were too slow with a request or its answer")
            connection.cut()
