"""A fleet in simulated time: traffic comes, instances take seconds to start, and what they cannot serve waits or is refused.

A simple model, so that what it shows is the scaler's doing. An instance has ``LIMIT`` places and a request holds one for
``SERVICE_S``. What finds no place waits in one line for all, for half a second at most, and is refused else, as at the door of
an instance. A step of half a second is *within target* if 99 % of what came in it was served in time.
"""

from __future__ import annotations

import csv
import math
import os
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from support.ideal import ideal, needed
from tenfold._core.sections import ScaleSettings
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
TURNS_MAX = 2 * ScaleSettings().turns_max + 1
"""Changes of direction in an hour that are not flapping."""
LINE_S = 0.5
RATE = LIMIT / SERVICE_S
"""Requests a second that one instance can serve."""

Traffic = Callable[[float], float]
"""Requests a second at a time, in what one instance can serve."""


class Decides(Protocol):
    def decide(self, samples: list[Sample], low: int, high: int, now: float, /) -> Decision: ...


@dataclass
class Ran:
    """What became of it."""

    loads: Sequence[float]
    """In each step."""
    start_s: float
    low: int
    good: int = 0
    used_s: float = 0.0
    moves: list[tuple[float, int, str]] = field(default_factory=list)
    line: list[tuple[float, float, int]] = field(default_factory=list)
    """(time, load in instances, instances ready), every look."""

    @property
    def steps(self) -> int:
        return len(self.loads)

    @property
    def in_target(self) -> float:
        """Share of the time."""
        return self.good / self.steps

    @property
    def cost(self) -> float:
        """Instance-hours over those of the ideal fleet (support/ideal.py)."""
        return self.used_s / ideal(
            self.loads, STEP_S, start_s=self.start_s, low=self.low, turns_max=TURNS_MAX
        )

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
        self._dice = random.Random(self.seed)
        self._ready_at = [-math.inf] * (start or self.low)
        self._waiting = 0.0
        loads = [traffic(number * STEP_S) for number in range(round(seconds / STEP_S))]
        ran = Ran(loads, self.start_s, self.low, moves=[(0.0, len(self._ready_at), "")])
        steps = round(LOOK_S / STEP_S)
        for first in range(0, len(loads), steps):
            if first:
                self._look(ran, first * STEP_S, loads[first])
            self._serve(ran, first * STEP_S, loads[first : first + steps])
        return ran

    def _serve(self, ran: Ran, now: float, loads: Sequence[float]) -> None:
        """From one look to the next: what comes waits in one line for all, and is refused where that is too long."""
        waiting = self._waiting
        self._refused = self._served = 0.0
        for load in loads:
            rate = self._speed(now) * RATE
            came = _poisson(self._dice, load * RATE * STEP_S)
            left = waiting + came
            served = min(left, rate * STEP_S)
            waiting = min(left - served, rate * LINE_S)
            refused = left - served - waiting
            ran.good += refused <= 0.01 * came and SERVICE_S + waiting / rate <= TARGET_S
            self._refused += refused
            self._served += served
            now += STEP_S
        ran.used_s += len(self._ready_at) * STEP_S * len(loads)
        self._waiting = waiting

    def _speed(self, now: float) -> float:
        """Of how many instances at full speed."""
        if self._ready_at[-1] + self.cold_s <= now:  # the newest
            return float(len(self._ready_at))
        return sum(0.5 if now < at + self.cold_s else 1.0 for at in self._ready_at if at <= now)

    def _look(self, ran: Ran, now: float, load: float) -> None:
        ready = sum(1 for at in self._ready_at if at <= now)
        ran.line.append((now, load, ready))
        tells = ready and not self.dead[0] <= now < self.dead[1]
        decision = self.scaler.decide([self._sample(now, ready)] if tells else [], self.low, self.high, now)
        before = len(self._ready_at)
        if decision.wanted != before:
            ran.moves.append((now, decision.wanted, decision.why))
            more = [now + self.start_s] * (decision.wanted - before)
            self._ready_at = sorted([*self._ready_at, *more])[: decision.wanted]

    def _sample(self, now: float, ready: int) -> Sample:
        """What the pages would say: in progress is what a look at one moment finds, so it has the noise of a count."""
        used = min(_poisson(self._dice, self._served / LOOK_S * SERVICE_S), ready * LIMIT)
        busy = used / (ready * LIMIT)
        return Sample(
            at=now,
            instances=ready,
            in_flight=used * (1.0 + min(self._refused / max(self._served, 1.0), REFUSED_MAX)),
            limit=32.0 if self.forgets and busy < 0.5 else float(LIMIT),
            p99_s=SERVICE_S + self._waiting / (ready * RATE),
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


def any_spike(scaler: Decides, seed: int) -> Ran:
    """An hour with a spike from any level to any other, for any while; the fleet is as large before as it has to be."""
    dice = random.Random(seed)
    low, factor = dice.uniform(0.2, 2.5), dice.uniform(2.0, 8.0)
    traffic = spike(low, factor, at=dice.uniform(300.0, 1500.0), lasts=dice.uniform(600.0, 1800.0))
    return Fleet(scaler, seed=seed).run(traffic, 3600.0, start=needed(low))


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
