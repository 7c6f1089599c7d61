"""A circuit breaker that counts a call from its start. Pure: readings of a clock go in, decisions come out.

Most breakers count a call when it ends; then calls that never end, the worst there are, count for nothing, and a
dependency that swallows packets is called for ever. Here a call that is in flight for longer than it may reasonably
take has failed *now*, and one whose caller gave up waiting has failed too. A late answer takes the failure back.

    closed ── half of at least 10 calls in 10 s failed ──▶ open ── a pause of 1 s, doubling up to 5 s ──▶ half-open
      ▲                                                      ▲                                               │
      └────────── 3 probes answered, one after another ──────┴──────────────── a probe failed ◀──────────────┘

Nygard, *Release It!*, 2007, has the pattern.
"""

from __future__ import annotations

import heapq
import random as random_module
from collections import deque
from itertools import count
from typing import Literal

from msgspec import Struct

from tenfold._core.backoff import bound_s
from tenfold.errors import DeclarationError

State = Literal["closed", "half-open", "open"]
Ending = Literal["answered", "failed", "abandoned", "dropped"]
"""``abandoned``: its caller gave up. ``dropped``: it was no longer needed, which says nothing about the other side."""

_BUCKET_S = 1.0


class BreakerRules(Struct, frozen=True, kw_only=True):
    """When a breaker opens, and when it closes. Raises :class:`DeclarationError` for what could not work."""

    share: float = 0.5
    """Opens when this share of the calls of the window failed …"""
    calls_min: int = 10
    """… and there were at least so many."""
    window_s: float = 10.0
    open_s: float = 1.0
    """The first pause; each probe that fails doubles it. Half of it at least, the rest drawn by lot, so that the
    instances of a fleet do not probe together."""
    open_max_s: float = 5.0
    probes: int = 3
    """So many calls, one at a time, must be answered before all are let through again."""

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1 or self.calls_min < 1 or self.probes < 1:
            raise DeclarationError(
                f"share={self.share:g}, calls_min={self.calls_min}, probes={self.probes} never open or never close.",
                where="breaker",
                remedy="A share between 0 and 1, and at least one call and one probe.",
            )
        if self.window_s < _BUCKET_S or not 0 < self.open_s <= self.open_max_s:
            raise DeclarationError(
                f"window_s={self.window_s:g}, open_s={self.open_s:g}, open_max_s={self.open_max_s:g} do not work.",
                where="breaker",
                remedy="A window of a second or more, and a pause above 0 that is not above the longest one.",
            )


class Permit:
    """One call that was let through; :meth:`Breaker.end` ends it."""

    __slots__ = ("bucket", "ended", "probe", "started", "usual_s")

    def __init__(self, started: float, usual_s: float, probe: bool) -> None:
        self.started, self.usual_s, self.probe = started, usual_s, probe
        self.ended = False
        self.bucket: _Bucket | None = None
        """Where it is counted as failed although it has not ended."""


class _Bucket:
    """What happened within one second."""

    __slots__ = ("answered", "begun", "failed")

    def __init__(self, begun: float) -> None:
        self.begun = begun
        self.answered = self.failed = 0


class Breaker:
    """For one dependency, or one host of it. ``opened`` and ``refused`` count what it did."""

    def __init__(self, rules: BreakerRules, random: random_module.Random) -> None:
        self.rules = rules
        """May be replaced at any time; what was counted stays."""
        self.forced: Literal["open", "closed"] | None = None
        """What people decided; None leaves it to the rules."""
        self.opened = 0
        self.refused = 0
        self._random = random
        self._buckets: deque[_Bucket] = deque()
        self._pending: list[tuple[float, int, Permit]] = []
        """By the time from which on they have failed. Those that ended are taken out when their time comes."""
        self._order = count()
        self._until: float | None = None
        """Open until then; after it, half-open. None: closed."""
        self._pauses = 0
        """Pauses in a row since it was closed."""
        self._probing = 0
        self._answered = 0
        """Probes in a row that were answered."""

    def state(self, now: float) -> State:
        """What it would do with a call now."""
        self._look(now)
        if self.forced is not None:
            return self.forced
        if self._until is None:
            return "closed"
        return "open" if now < self._until else "half-open"

    def retry_after_s(self, now: float) -> float:
        """Seconds until it makes sense to come back."""
        return self.rules.open_s if self._until is None else max(self._until - now, 0.1)

    def admits(self, now: float) -> bool:
        """Whether :meth:`admit` would let a call through; counts nothing."""
        state = self.state(now)
        return state == "closed" or (state == "half-open" and not self._probing)

    def admit(self, now: float, *, slow_s: float, usual_s: float = 0.0) -> Permit | None:
        """Let a call through, or not (None). Who got a permit ends it.

        It has failed once it is in flight for ``slow_s`` seconds. One that its caller abandons before ``usual_s``, the
        time within which nearly all answers come, says nothing about the other side.
        """
        if not self.admits(now):
            self.refused += 1
            return None
        permit = Permit(now, usual_s, probe=self._until is not None and self.forced is None)
        if permit.probe:
            self._probing += 1
        heapq.heappush(self._pending, (now + slow_s, next(self._order), permit))
        return permit

    def end(self, permit: Permit, ending: Ending, now: float) -> None:
        """The call ended. Again is harmless."""
        if permit.ended:
            return
        self._look(now)
        permit.ended = True
        late, permit.bucket = permit.bucket, None
        if permit.probe and late is None:
            self._probing -= 1
        if ending == "answered":
            self._succeeded(permit, late, now)
        elif late is None and (
            ending == "failed" or (ending == "abandoned" and now - permit.started >= permit.usual_s)
        ):
            self._failed(permit, now)

    def _look(self, now: float) -> None:
        """Count the calls that are overdue, and forget what is too long ago."""
        while self._pending and (self._pending[0][0] <= now or self._pending[0][2].ended):
            _, _, permit = heapq.heappop(self._pending)
            if not permit.ended:
                if permit.probe:
                    self._probing -= 1
                permit.bucket = self._failed(permit, now)
        while self._buckets and self._buckets[0].begun <= now - self.rules.window_s:
            self._buckets.popleft()

    def _bucket(self, now: float) -> _Bucket:
        if not self._buckets or now - self._buckets[-1].begun >= _BUCKET_S:
            self._buckets.append(_Bucket(now))
        return self._buckets[-1]

    def _failed(self, permit: Permit, now: float) -> _Bucket:
        bucket = self._bucket(now)
        bucket.failed += 1
        if self._until is None:
            failed = sum(each.failed for each in self._buckets)
            calls = failed + sum(each.answered for each in self._buckets)
            if calls >= self.rules.calls_min and failed >= self.rules.share * calls:
                self._open(now)
        elif permit.probe:
            self._open(now)
        return bucket

    def _succeeded(self, permit: Permit, late: _Bucket | None, now: float) -> None:
        self._bucket(now).answered += 1
        if late is not None:
            late.failed -= 1
        if self._until is None:
            return
        if late is not None:
            self._until = min(self._until, now)  # it was slow, not gone: probe at once
        elif permit.probe:
            self._answered += 1
            if self._answered >= self.rules.probes:
                self._until, self._pauses = None, 0
                self._buckets.clear()

    def _open(self, now: float) -> None:
        self._pauses += 1
        self._answered = 0
        self.opened += 1
        pause_s = bound_s(self._pauses, base_s=self.rules.open_s, most_s=self.rules.open_max_s)
        self._until = now + pause_s * self._random.uniform(0.5, 1.0)
