"""Instances with leases on one cell, in virtual time: seeded traffic, and answers that take their time. And leases that
are broken."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tenfold.guard.gcra import Cell, Taken, decide
from tenfold.guard.leasing import FREE, Leasing

KEY = "cell"
LEASE_US = 1_000_000


@dataclass
class Fleet:
    """Checks at random moments, ``rate`` a second in all (by the time that has passed), on a limit of ``per_s`` units a
    second, ``burst`` at once."""

    rate: Callable[[float], float]
    per_s: int
    burst: int
    instances: int = 8
    seconds: float = 10.0
    seed: int = 0
    cost: Callable[[random.Random], int] = lambda dice: 1
    leasing: Callable[[], Leasing] = lambda: Leasing(LEASE_US)
    admitted: list[tuple[int, int]] = field(default_factory=list)
    wanted: list[tuple[int, int]] = field(default_factory=list)
    asked: int = 0
    local: int = 0
    refused_leases: int = 0

    def run(self) -> Fleet:
        self._dice = random.Random(self.seed)
        self._tat = 0
        self._queue: list[tuple[int, int, Callable[[int], None]]] = []
        self._order = 0
        # Each instance's clock began at another time.
        self._own = [(self.leasing(), self._dice.randrange(10**9)) for _ in range(self.instances)]
        self._waiting: dict[int, list[Cell]] = {}
        passed = 0.0
        while passed < self.seconds:
            rate = self.rate(passed)
            passed += self._dice.expovariate(rate) if rate else 0.01
            if rate:
                self._at(LEASE_US + int(passed * 1e6), self._check)
        for second in range(1, int(self.seconds) + 2):
            self._at(second * LEASE_US, self._lapse)
        while self._queue:
            now, _, act = heapq.heappop(self._queue)
            act(now)
        return self

    @property
    def interval_us(self) -> int:
        return -(-1_000_000 // self.per_s)

    @property
    def room_us(self) -> int:
        return self.burst * self.interval_us

    @property
    def per_thousand(self) -> float:
        return 1_000 * self.asked / len(self.wanted)

    def _at(self, at: int, act: Callable[[int], None]) -> None:
        self._order += 1
        heapq.heappush(self._queue, (at, self._order, act))

    def _check(self, now: int) -> None:
        number = self._dice.randrange(self.instances)
        cost = self.cost(self._dice) * self.interval_us
        self.wanted.append((now, cost))
        self._try(number, (KEY, cost, self.room_us), now)

    def _try(self, number: int, cell: Cell, now: int, *, waited: bool = False) -> None:
        leasing, own = self._own[number]
        if leasing.take([cell], now + own) is not None:
            self.local += 1
            self.admitted.append((now, cell[1]))
            return
        if number in self._waiting and not waited:
            self._waiting[number].append(cell)
            return
        extras = leasing.wanted([cell], now + own)
        if extras is None or number in self._waiting:
            self._ask(number, cell, 0, now)
        else:
            self._waiting[number] = []
            self._ask(number, cell, extras[0], now)

    def _ask(self, number: int, cell: Cell, extra: int, asked: int) -> None:
        leasing, own = self._own[number]
        self.asked += 1
        there, back = self._dice.randint(50, 2_000), self._dice.randint(50, 2_000)

        def decided(now: int) -> None:
            key, cost, room = cell
            offered = (key, cost + extra, room // FREE if extra else room)
            taken = decide([offered], [self._tat], now)
            if taken.admitted:
                self._tat = now + taken.ahead_us[0]
                self.admitted.append((now, cost))

            def answered(later: int) -> None:
                if not extra:
                    leasing.told([cell], taken, asked + own)
                    return
                waiting = self._waiting.pop(number)
                if taken.admitted:
                    leasing.granted([cell], [extra], taken, asked + own)
                else:
                    self.refused_leases += 1
                    leasing.scarce([cell], asked + own)
                    self._ask(number, cell, 0, later)
                for each in waiting:
                    self._try(number, each, later, waited=True)

            self._at(now + back, answered)

        self._at(asked + there, decided)

    def _lapse(self, now: int) -> None:
        for leasing, own in self._own:
            for unused in leasing.lapsed(now + own):
                self._at(now + self._dice.randint(50, 2_000), self._given_back(unused))

    def _given_back(self, unused: Any) -> Callable[[int], None]:
        def arrive(_: int) -> None:
            if self._tat == unused.end_us:
                self._tat -= unused.unused_us

        return arrive


class UsedAfterItsEnd(Leasing):
    """Takes no notice of slots that have begun, nor of the end of the lease."""

    def take(self, cells: Sequence[Cell], now_us: int) -> Taken | None:
        known = self._known.get(cells[0][0])
        return None if known is None else super().take(cells, min(now_us, known.next_us, known.until_us))


class ByWallClock(Leasing):
    """Looks at the store's times with a clock that is set otherwise."""

    behind_us = 60_000_000

    def take(self, cells: Sequence[Cell], now_us: int) -> Taken | None:
        return super().take(cells, now_us - self.behind_us)
