"""How many instances are wanted, and why. Pure: samples, a range and the time in; a number and a sentence out.

    scaler = Scaler(settings.scale)
    decision = scaler.decide(samples, low=2, high=8, now=clock.monotonic())

Each signal says how many instances it needs, and the one that needs the most has its way, as with Kubernetes'
HorizontalPodAutoscaler and AWS' target tracking:

* *concurrency*: requests in progress, over what one instance can have in progress and still answer in time. By Little's
  law (L = λW) the first is what the load needs, however many instances there are; so the answer does not depend on how
  many are starting just now. Spare is what keeps a line from forming, and a load of n times as much varies by √n times as
  much, so n instances together have √n times the spare of one (S. Halfin and W. Whitt, "Heavy-traffic limits for queues
  with many exponential servers", 1981).
* *CPU*, likewise.
* *latency*: above its target, where instances are busy, teaches that they have too much in progress, and in proportion how
  much they are to have; the rest is as with concurrency. Where they are not busy it teaches nothing: a slow dependency is
  not made faster by more instances.
* *queue age*: with μ of λ jobs done, the oldest one ages by 1 − μ/λ seconds a second; from that slope follows how many
  workers keep up, and how many make good for what is late within a minute. Workers that are late are busy, so then is
  learned how many jobs one can do; from that follows how many are needed while nothing is late.

Growing is quick, and looks ahead by the time that an instance takes to start (:mod:`tenfold.runtime.scale.forecast`).
Shrinking is slow: to the most that was needed within a window (HPA's stabilisation), by half at most, with pauses. Between
the two lies a tolerance, in proportion to the spare, so that noise moves nothing, and in an hour a growing fleet turns to shrinking so often and no
more: whatever the traffic does, there are at most ``2 * turns_max + 1`` changes of direction in any hour.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from msgspec import Struct

from tenfold._core.sections import ScaleSettings
from tenfold.runtime.scale.forecast import Trend

STALE_S = 10.0
"""Older numbers say nothing about now."""
PERIOD_S = 2.0
"""Between two samples: what a decision is late by in any case."""
HOUR_S = 3600.0
CATCH_UP_S = 60.0
"""In so long the workers are to make good for what is late."""
SETTLE_S = 20.0
"""What more instances do to latency and queue age shows so long after they are ready."""
PACE_SHARE = 0.1
"""Of what one worker can do, by each sample in which all were busy."""
FASTER_MAX = 4.0
"""Times as many workers at most in one decision by the age of the queue."""
SLOWER_MAX = 2.0
"""Times as many instances at most in one decision by latency."""
LEVEL_S = 15.0
LASTING_S = 60.0
"""A level that is smoothed for longer has less noise: what rises slowly shows in it earlier."""
LARGEST_OF_SIX = 1.27
"""So many deviations the largest of six Gaussian values lies too high; a window of 90 s has six levels that are independent
of each other."""
BUSY = 0.5
"""Share of what is aimed at from which on latency may be the instances' own doing."""
BOUND = 0.6
"""Share of its limit in use from which on an instance has reason to know that limit."""
FORGET_S = 1800.0
"""What was learned under load is forgotten by two thirds in so long without load."""


class Sample(Struct, frozen=True):
    """All instances of a role at one moment (made by :mod:`tenfold.runtime.scale.signals`)."""

    at: float
    """Seconds, on the clock of ``now``."""
    instances: int
    """That are ready."""
    in_flight: float
    """Requests that the load has in progress, also those that were refused: of all instances."""
    limit: float
    """What one instance can have in progress: the median. 0 where nothing says so."""
    p99_s: float = 0.0
    """Latency of the median instance; 0 where nothing was answered."""
    queue_age_s: float = 0.0
    """How long the oldest job has been due."""
    cpu: float = 0.0
    """Share of one core that an instance uses: the mean."""
    jobs: float = 0.0
    """Jobs done in a second, by all instances."""


class Decision(Struct, frozen=True):
    """What is to be."""

    wanted: int
    """So many instances are to run."""
    why: str
    """One sentence with the figures it was decided by."""
    advised: int = 0
    """The same as ``wanted``, but in a dry run what it would be."""


class Need(NamedTuple):
    """How many instances one signal asks for: as it looks, at least, and lately at most."""

    instances: float
    why: str
    sure: float
    """Less the noise of counting. Growing goes by it."""
    calm: float
    """Less what the largest of a window's noisy levels lies too high. Shrinking goes by it."""


def _exact(instances: float, why: str) -> Need:
    return Need(instances, why, instances, instances)


class Scaler:
    """Decides for one role (of one service). Keeps what it saw and did; reads no clock.

    ``wanted`` are the instances there are to be when it begins; None: as many as the first sample has.
    """

    def __init__(self, settings: ScaleSettings, wanted: int | None = None) -> None:
        self.settings = settings
        self.wanted = wanted
        self.start_s = settings.start_s
        """How long an instance takes from being wanted to being ready, as it was seen lately."""
        self._kept = wanted
        self._last: Sample | None = None
        self._asked: tuple[float, int] | None = None
        self._demand = Trend(level_s=LEVEL_S, counts=True, least=1.0)
        self._lasting = Trend(level_s=LASTING_S, slope_s=2.5 * LASTING_S, counts=True, least=1.0)
        self._cpu = Trend(least=0.03)
        self._age = Trend(least=1.0)
        self._slow = Trend(least=0.01)
        self._jobs = Trend(counts=True, least=1.0)
        self._limit = _Limit()
        self._pace = 0.0
        self._works = False
        self._in_time = math.inf
        self._needed: deque[tuple[float, int]] = deque()
        self._began: float | None = None
        self._moved_at = -math.inf
        self._grew = False
        self._turns: deque[float] = deque()

    def decide(self, samples: Sequence[Sample], low: int, high: int, now: float) -> Decision:
        """Between ``low`` and ``high``. ``samples`` in the order of their times; those that were given before may come
        again. Without one of the last 10 s, everything stays as it is."""
        for sample in samples:
            if self._last is None or sample.at > self._last.at:
                self._observe(sample)
        before = self._clamp(low, high)
        last = self._last
        if last is None or now - last.at > STALE_S:
            return self._say(before, f"no instance has told its numbers {_since(last, now)}")
        nothing = _exact(0.0, "nothing is measured that would ask for more")
        need = max(self._needs(last, before, now), key=lambda need: need.instances, default=nothing)
        why = self._move(need, before, low, high, now)
        return self._say(before, why)

    # ── what is seen ──

    def _observe(self, sample: Sample) -> None:
        if self._last is not None and self._in_time < self._limit.value:
            passed = sample.at - self._last.at
            self._in_time += (self._limit.value - self._in_time) * -math.expm1(-passed / FORGET_S)
        self._last = sample
        if self._began is None:
            self._began = sample.at
        if self.wanted is None:
            self.wanted = self._kept = sample.instances
        if self._asked is not None and sample.instances >= self._asked[1]:
            took = min(max(sample.at - self._asked[0], PERIOD_S), 120.0)
            self.start_s += 0.5 * (took - self.start_s)
            self._asked = None
        self._demand.add(sample.at, sample.in_flight)
        self._lasting.add(sample.at, sample.in_flight)
        self._cpu.add(sample.at, sample.cpu * sample.instances)
        self._age.add(sample.at, sample.queue_age_s)
        self._slow.add(sample.at, sample.p99_s)
        self._jobs.add(sample.at, sample.jobs)
        self._works = self._works or sample.jobs > 0
        self._limit.add(sample)
        if self._age.level > self.settings.queue_age_s / 2 and sample.jobs > 0 and sample.instances:
            pace = sample.jobs / sample.instances
            self._pace += (pace - self._pace) * (PACE_SHARE if self._pace else 1.0)

    # ── what is needed ──

    def _needs(self, last: Sample, wanted: int, now: float) -> Iterator[Need]:
        absolute = [*self._by_concurrency(), *self._by_cpu()]
        yield from absolute
        settled = now - self._moved_at > self.start_s + SETTLE_S or last.instances < wanted
        busy = max((need.instances for need in absolute), default=0.0)
        yield from self._by_latency(last, busy, settled=settled)
        yield from self._by_queue(last, wanted, settled=settled)

    def _by_concurrency(self) -> Iterator[Need]:
        limit = self._limit.value
        if not limit:
            return
        ahead_s = self.start_s + PERIOD_S
        level, ahead = max(self._demand.level, 0.0), self._demand.ahead(ahead_s)
        expected = f", {ahead:.0f} expected in {ahead_s:.0f} s" if ahead > level * 1.05 + 0.5 else ""
        instances = self._with_spare(max(level, ahead) / limit)
        lasting, noise = max(self._lasting.level, 0.0), _noise(level, LEVEL_S) / limit
        sure = self._with_spare(lasting / limit) - _noise(lasting, LASTING_S) / limit
        share = max(level, ahead, 1e-9) / limit / instances
        yield Need(
            instances,
            f"{level:.3g} requests are in progress{expected}, and an instance is to have {share * limit:.3g} "
            f"({share:.0%} of its limit of {limit:.3g})",
            max(sure, instances - noise),
            instances - LARGEST_OF_SIX * noise,
        )

    def _with_spare(self, load: float) -> float:
        """Instances n for a load, in what one can have in progress: load = n − spare · √n, so that one has its whole spare."""
        spare = 1.0 - self.settings.concurrency
        return ((spare + math.sqrt(spare * spare + 4.0 * load)) / 2.0) ** 2

    def _by_cpu(self) -> Iterator[Need]:
        ahead = max(self._cpu.level, self._cpu.ahead(self.start_s + PERIOD_S))
        if ahead > 0:
            aim = self.settings.cpu
            yield _exact(ahead / aim, f"{ahead:.2f} cores are in use, and an instance is to use {aim:.2f}")

    def _by_latency(self, last: Sample, busy: float, *, settled: bool) -> Iterator[Need]:
        target, slow, level = self.settings.latency_s, self._slow.level, max(self._demand.level, 0.0)
        if slow > target and settled and last.instances and level > 0 and busy >= BUSY * last.instances:
            self._in_time = min(self._in_time, level / last.instances / min(slow / target, SLOWER_MAX))
        if self._in_time < self._limit.value * self.settings.concurrency:
            aim = self._in_time
            noise = _noise(level, LEVEL_S) / aim
            yield Need(
                level / aim,
                f"{level:.3g} requests are in progress, and with more than {aim:.3g} in each instance they took longer than {target:.2g} s",
                level / aim - noise,
                level / aim - LARGEST_OF_SIX * noise,
            )

    def _by_queue(self, last: Sample, wanted: int, *, settled: bool) -> Iterator[Need]:
        if not self._works:
            return  # every process sees the queue's age, but more of those that do no jobs make nothing younger
        target, age = self.settings.queue_age_s, self._age.level
        soon = self._age.ahead(self.start_s + PERIOD_S)
        if max(age, soon) <= target / 2:
            if self._pace:
                jobs, aim = self._jobs.level, self._pace * self.settings.concurrency
                yield _exact(
                    jobs / aim, f"{jobs:.3g} jobs a second are done, and a worker is to do {aim:.3g}"
                )
            return
        why = f"the oldest job has been due for {age:.0f} s, and {soon:.0f} s are expected, where {target:.0f} s are aimed at"
        if max(age, soon) <= target or not settled:
            yield _exact(float(wanted), why)
            return
        kept_up = max(1.0 - self._age.slope, 1.0 / FASTER_MAX)
        faster = (1.0 + max(age - target, 0.0) / CATCH_UP_S) / kept_up
        yield _exact(last.instances * min(max(faster, 1.0), FASTER_MAX), why)

    # ── what is done ──

    def _move(self, need: Need, before: int, low: int, high: int, now: float) -> str:
        settings = self.settings
        more = _fewest(need.sure, settings.tolerance)
        calm = max(need.calm, 0.0)
        lately = self._most_lately(_whole(calm + settings.tolerance / 2 * math.sqrt(calm)), now)
        if more > before:
            if before == high:
                return f"{need.why}: {_whole(need.instances)} would be needed, but {high} is the most that is allowed"
            self._set(min(more, high), now, grows=True)
            return need.why
        less = max(low, lately)
        if less >= before:
            would = max(low, self._needed[-1][1])
            but = f"; {_count(would)} would do, but {lately} were needed within {settings.window_s:.0f} s"
            return need.why + (but if would < before else "")
        return self._shrink(need, before, less, now)

    def _most_lately(self, enough: int, now: float) -> int:
        """The largest count of a window. Kept are those that are larger than all after them."""
        while self._needed and self._needed[-1][1] <= enough:
            self._needed.pop()
        self._needed.append((now, enough))
        while self._needed[0][0] < now - self.settings.window_s:
            self._needed.popleft()
        return self._needed[0][1]

    def _shrink(self, need: Need, before: int, less: int, now: float) -> str:
        """To ``less``, or the reason why not yet."""
        settings = self.settings
        began = self._began if self._began is not None else now
        calm = min(now - began, now - self._moved_at if self._grew else math.inf)
        if calm < settings.window_s:
            left = settings.window_s - calm
            return f"{need.why}; {_count(less)} would do, which has to stay so for {left:.0f} s more"
        if now - self._moved_at < settings.pause_s:
            return f"{need.why}; {_count(less)} would do, and the next reduction is in {settings.pause_s - (now - self._moved_at):.0f} s"
        while self._turns and self._turns[0] <= now - HOUR_S:
            self._turns.popleft()
        if self._grew and len(self._turns) >= settings.turns_max:
            wait = (self._turns[0] + HOUR_S - now) / 60
            return f"{need.why}; {_count(less)} would do, but the fleet has shrunk and grown {settings.turns_max} times within an hour and keeps its size for {wait:.0f} min"
        if self._grew:
            self._turns.append(now)
        self._set(max(less, (before + 1) // 2), now, grows=False)
        return f"{need.why}, and for {settings.window_s:.0f} s no more than {_count(less)} would have done"

    def _set(self, wanted: int, now: float, *, grows: bool) -> None:
        self.wanted, self._moved_at, self._grew = wanted, now, grows
        self._asked = (now, wanted) if grows else None

    def _clamp(self, low: int, high: int) -> int:
        """What is wanted so far, within the range, which may have changed."""
        wanted = low if self.wanted is None else min(max(self.wanted, low), high)
        if self.wanted is not None:
            self.wanted = wanted
        self._kept = low if self._kept is None else min(max(self._kept, low), high)
        return wanted

    def _say(self, before: int, why: str) -> Decision:
        now = before if self.wanted is None else self.wanted
        what = f"From {before} to {now}" if now != before else f"Stays at {now}"
        if not self.settings.dry_run:
            return Decision(now, f"{what}: {why}.", now)
        kept = before if self._kept is None else self._kept
        return Decision(kept, f"Dry run, {kept} run. {what}: {why}.", now)


class _Limit:
    """What one instance can have in progress. A learned limit returns to where it began when nobody needs it
    (:mod:`tenfold.guard.shedding.limit`), so what it was under load is remembered for a while."""

    __slots__ = ("_at", "_known", "value")

    def __init__(self) -> None:
        self.value = 0.0
        self._at = 0.0
        self._known = False

    def add(self, sample: Sample) -> None:
        shown, passed, self._at = sample.limit, sample.at - self._at, sample.at
        if shown <= 0:
            return
        bound = sample.in_flight >= BOUND * shown * max(sample.instances, 1)
        if bound or not self._known or shown < self.value:
            share = 1.0 if not self.value else -math.expm1(-passed / 10.0)
        else:
            share = -math.expm1(-passed / FORGET_S)
        self.value += share * (shown - self.value)
        self._known = self._known or bound


def _noise(level: float, over_s: float) -> float:
    """One standard deviation of counts that come every ``PERIOD_S``, smoothed over so long."""
    return math.sqrt(level * PERIOD_S / (2.0 * over_s))


def _fewest(value: float, tolerance: float) -> int:
    """The smallest whole n with n + tolerance · √n ≥ value."""
    if value <= 1.0 + tolerance:
        return 1
    root = (math.sqrt(tolerance * tolerance + 4.0 * value) - tolerance) / 2.0
    return _whole(root * root)


def _whole(instances: float) -> int:
    return max(1, math.ceil(instances - 1e-9))


def _count(instances: int) -> str:
    return f"{instances} instance{'s' * (instances != 1)}"


def _since(last: Sample | None, now: float) -> str:
    return "so far" if last is None else f"for {now - last.at:.0f} s"
