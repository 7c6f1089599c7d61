"""A fleet in simulated time: traffic comes, instances take seconds to start, and what they cannot serve waits or is refused.

A simple model, so that what it shows is the scaler's doing. An instance has ``LIMIT`` places and a request holds one for
``SERVICE_S``. What finds no place waits in one line for all, for half a second at most, and is refused else, as at the door of
an instance. A step of half a second is *within target* if 99 % of what came in it was served in time. The *ideal* fleet knows
the future, starts in no time and runs every instance at its very limit: nobody can do with less.
"""

from __future__ import annotations

import csv
import math
import os
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from tenfold.runtime.scale.policy import Decision, Sample
from tenfold.runtime.scale.signals import REFUSED_MAX

LEDGER = Path(
    os.environ.get("SHOP_LEDGER", Path(__file__).parents[3] / "shared/data/online_retail_sample.csv")
)
STEP_S = 0.5
LOOK_S = 2.0
LIMIT = 20
SERVICE_S = 0.1
TARGET_S = 0.4
FULL = 0.99
"""Use of an instance beyond which no fleet is within target: with more, queues only grow. (For one instance alone it is less.)"""
LINE_S = 0.5
RATE = LIMIT / SERVICE_S
"""Requests a second that one instance can serve."""

Traffic = Callable[[float], float]
"""Requests a second at a time, in what one instance can serve."""


class Decides(Protocol):
    def decide(self, samples: list[Sample], low: int, high: int, now: float) -> Decision: ...


@dataclass
class Ran:
    """What became of it."""

    steps: int = 0
    good: int = 0
    came: float = 0.0
    served: float = 0.0
    used_s: float = 0.0
    ideal_s: float = 0.0
    moves: list[tuple[float, int, str]] = field(default_factory=list)
    line: list[tuple[float, float, int]] = field(default_factory=list)
    """(time, load in instances, instances ready), every look."""

    @property
    def in_target(self) -> float:
        """Share of the time."""
        return self.good / self.steps

    @property
    def cost(self) -> float:
        """Instance-hours over the ideal ones."""
        return self.used_s / self.ideal_s

    def turns_per_hour(self) -> int:
        """Changes of direction in the worst hour."""
        turns = [
            b_at
            for (_, a), (b_at, b) in zip(self._steps(), self._steps()[1:], strict=False)
            if (a > 0) != (b > 0)
        ]
        return max((sum(1 for at in turns if first <= at < first + 3600) for first in turns), default=0)

    def _steps(self) -> list[tuple[float, int]]:
        pairs = zip(self.moves, self.moves[1:], strict=False)
        return [(b[0], b[1] - a[1]) for a, b in pairs if b[1] != a[1]]


@dataclass
class Door:
    """Where requests wait for the instances, and what was counted since the last look."""

    waiting: float = 0.0
    late: bool = False
    refused: float = 0.0
    refused_seen: float = 0.0
    served_seen: float = 0.0
    served: float = 0.0

    def step(self, came: float, speed: float) -> None:
        """``speed``: of how many instances at full speed."""
        rate = speed * RATE
        self.served = min(self.waiting + came, rate * STEP_S)
        left = self.waiting + came - self.served
        self.waiting = min(left, rate * LINE_S)
        self.refused = left - self.waiting
        self.late = self.refused > 0.01 * came or SERVICE_S + self.waiting / max(rate, 1e-9) > TARGET_S
        self.refused_seen += self.refused
        self.served_seen += self.served

    def looked(self) -> None:
        self.refused_seen = self.served_seen = 0.0


@dataclass
class Fleet:
    """``start_s``: from being wanted to being ready. ``cold_s``: it is at half speed for so long after that. ``forgets``: an
    instance that is less than half busy shows the limit that learning begins with. ``dead``: between these times nobody
    tells any numbers."""

    scaler: Decides
    low: int = 1
    high: int = 24
    start_s: float = 6.0
    cold_s: float = 0.0
    forgets: bool = False
    dead: tuple[float, float] = (0.0, 0.0)
    seed: int = 1

    def run(self, traffic: Traffic, seconds: float, start: int | None = None) -> Ran:
        """``start`` instances are ready when it begins; else the least there may be."""
        self._dice, self._door = random.Random(self.seed), Door()
        self._ready_at = [-math.inf] * (start or self.low)
        ran = Ran(moves=[(0.0, len(self._ready_at), "")])
        look = round(LOOK_S / STEP_S)
        for number in range(round(seconds / STEP_S)):
            now = number * STEP_S
            self._step(ran, now, traffic(now))
            if number and number % look == 0:
                self._look(ran, now, traffic(now))
        return ran

    def _step(self, ran: Ran, now: float, load: float) -> None:
        came = _poisson(self._dice, load * RATE * STEP_S)
        speed = sum(0.5 if now < at + self.cold_s else 1.0 for at in self._ready_at if at <= now)
        self._door.step(came, speed)
        ran.steps += 1
        ran.good += not self._door.late
        ran.came += came
        ran.served += came - self._door.refused
        ran.used_s += len(self._ready_at) * STEP_S
        ran.ideal_s += max(self.low, math.ceil(load / FULL)) * STEP_S

    def _look(self, ran: Ran, now: float, load: float) -> None:
        ready = sum(1 for at in self._ready_at if at <= now)
        ran.line.append((now, load, ready))
        tells = ready and not self.dead[0] <= now < self.dead[1]
        decision = self.scaler.decide([self._sample(now, ready)] if tells else [], self.low, self.high, now)
        self._door.looked()
        before = len(self._ready_at)
        if decision.wanted != before:
            ran.moves.append((now, decision.wanted, decision.why))
            more = [now + self.start_s] * (decision.wanted - before)
            self._ready_at = sorted([*self._ready_at, *more])[: decision.wanted]

    def _sample(self, now: float, ready: int) -> Sample:
        """What the pages would say: in progress is what a look at one moment finds, so it has the noise of a count."""
        door = self._door
        used = min(_poisson(self._dice, door.served_seen / LOOK_S * SERVICE_S), ready * LIMIT)
        busy = used / (ready * LIMIT)
        return Sample(
            at=now,
            instances=ready,
            in_flight=used * (1.0 + min(door.refused_seen / max(door.served_seen, 1.0), REFUSED_MAX)),
            limit=32.0 if self.forgets and busy < 0.5 else float(LIMIT),
            p99_s=SERVICE_S + door.waiting / (ready * RATE),
            cpu=busy * 0.5,
        )


class Threshold:
    """What is often built first: one more above, one less below, by the last number alone."""

    def __init__(self, wanted: int = 1, *, above: float = 0.8, below: float = 0.5) -> None:
        self.wanted, self.above, self.below = wanted, above, below

    def decide(self, samples: list[Sample], low: int, high: int, now: float) -> Decision:
        for sample in samples:
            used = sample.in_flight / (sample.limit * sample.instances)
            change = (used > self.above) - (used < self.below)
            self.wanted = min(max(self.wanted + change, low), high)
        return Decision(self.wanted, "")


# ── traffic, in what one instance can serve ──


def spike(low: float = 0.8, factor: float = 8.0, at: float = 1200.0, lasts: float = 1200.0) -> Traffic:
    return lambda now: low * factor if at <= now < at + lasts else low


def wave(low: float = 0.6, high: float = 7.5, period: float = 86400.0) -> Traffic:
    return lambda now: low + (high - low) * (1 - math.cos(2 * math.pi * now / period)) / 2


def ramp(low: float = 0.6, high: float = 9.0, lasts: float = 1800.0, at: float = 300.0) -> Traffic:
    return lambda now: low + (high - low) * min(max((now - at) / lasts, 0.0), 1.0)


def square(low: float = 0.8, high: float = 4.0, half: float = 150.0) -> Traffic:
    return lambda now: high if int(now // half) % 2 else low


def steady(level: float) -> Traffic:
    return lambda _now: level


def recorded(path: Path = LEDGER, *, peak: float = 7.5, minutes: int = 60) -> tuple[Traffic, float]:
    """The lines sold in each so many minutes of the ledger's hours of business, day after day, the most of them being
    ``peak``; straight between the middles. And how many seconds that is."""
    bins: Counter[tuple[str, int]] = Counter()
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            when = datetime.strptime(row["InvoiceDate"], "%m/%d/%Y %H:%M")
            bins[when.date().isoformat(), (when.hour * 60 + when.minute) // minutes] += 1
    points: list[float] = []
    for day in sorted({day for day, _ in bins}):
        hours = [at for d, at in bins if d == day]
        points += [float(bins[day, at]) for at in range(min(hours), max(hours) + 1)]
    return _through([point / max(points) * peak for point in points], minutes * 60.0), len(
        points
    ) * minutes * 60.0


def _through(points: list[float], width: float) -> Traffic:
    def at(now: float) -> float:
        x = min(max(now / width - 0.5, 0.0), len(points) - 1.0)
        left = min(int(x), len(points) - 2)
        return points[left] + (points[left + 1] - points[left]) * (x - left)

    return at


def _poisson(dice: random.Random, mean: float) -> float:
    """Close enough: Gaussian, whole, not below 0; exact for small means."""
    if mean > 20:
        return max(0.0, round(dice.gauss(mean, math.sqrt(mean))))
    left, count = math.exp(-mean), 0
    product = dice.random()
    while product > left:
        product *= dice.random()
        count += 1
    return float(count)


def told(ran: Ran) -> str:
    """What it did, for a failing test's message."""
    return "\n".join(f"{at:8.0f} s: {count:2d}  {why}" for at, count, why in ran.moves)
