"""One instance in simulated time, with the admission of the library at its door.

The event loop works in turns, as libuv's does: what is ready runs as one batch, then sockets and timers are looked at.
A request costs parsing before anything is decided; a refusal costs ``REFUSE_S``. Database statements take a connection
of the pool or stand in its line; waits take nothing.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

from tenfold.guard.admission import Admission, Epoch
from tenfold.guard.shedding.limit import Limit
from tenfold.guard.shedding.observation import Seen

PARSE_S, REFUSE_S, BEGIN_S = 20e-6, 20e-6, 80e-6
PROBE_S = 0.005

Step = tuple[Literal["cpu", "db", "wait"], float]
"""Seconds are means of an exponential distribution for ``db`` and ``wait``; CPU time is fixed."""


class Operation(NamedTuple):
    share: float
    steps: Sequence[Step]
    priority: int = 1
    name: str = ""


class Done(NamedTuple):
    """What became of one request."""

    at: float
    """When it was sent."""
    operation: Operation
    seconds: float
    ok: bool


class Time:
    """The simulation's clock."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.random = random.Random(0)

    def monotonic(self) -> float:
        return self.now_s


class Turn:
    """Stands for the future of one who waits at the door."""

    def __init__(self, world: Instance, run: Callable[[Epoch], None], refuse: Callable[[], None]) -> None:
        self._world, self._run, self._refuse = world, run, refuse

    def done(self) -> bool:
        return False

    def set_result(self, epoch: Epoch) -> None:
        self._world.ready.append(lambda: self._run(epoch))

    def set_exception(self, _: BaseException) -> None:
        self._world.ready.append(self._refuse)


class Instance:
    def __init__(
        self,
        limit: Limit,
        operations: Sequence[Operation],
        *,
        seed: int = 1,
        pool: int = 8,
        waiting_max: int = 100,
        most: int = 1000,
    ) -> None:
        self.time = Time()
        self.random = random.Random(seed)
        self.gate = Admission(limit, self.time, most=most, waiting_max=waiting_max)  # type: ignore[arg-type]
        self.operations = operations
        self.ready: deque[Callable[[], None]] = deque()
        self.done: list[Done] = []
        self.limits: list[tuple[float, int]] = []
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0
        self._pool_free = pool
        self._pool_line: deque[Callable[[], None]] = deque()
        self._pool_served = 0
        self.gate.add_station(lambda: Seen(len(self._pool_line), self._pool_served))

    # ── load ──

    def offer(self, rate: Callable[[float], float], until: float) -> None:
        """A Poisson process whose rate may change: requests a second at a time."""
        at, most = self.time.now_s, max(rate(until * n / 200) for n in range(201))
        while (at := at + self.random.expovariate(most)) < until:
            if self.random.random() * most < rate(at):
                self._at(at, self._arrives(at))

    def block(self, at: float, seconds: float) -> None:
        """Something holds the event loop: a collection of garbage, a careless handler."""
        self._at(at, lambda: self._spend(seconds))

    def run(self, until: float) -> None:
        """Let time pass."""
        self._probe()
        while self.time.now_s < until:
            while self._events and self._events[0][0] <= self.time.now_s:
                heapq.heappop(self._events)[2]()
            for _ in range(len(self.ready)):
                self.ready.popleft()()
            if not self.ready and self._events:
                self.time.now_s = max(self.time.now_s, self._events[0][0])

    # ── inside ──

    def _arrives(self, at: float) -> Callable[[], None]:
        def arrive() -> None:
            self._spend(PARSE_S)
            (operation,) = self.random.choices(self.operations, [o.share for o in self.operations])
            gate, priority = self.gate, operation.priority

            def run(epoch: Epoch) -> None:
                self._spend(BEGIN_S)
                self._go_on(self._steps(operation), lambda: self._end(at, operation, epoch))

            def refuse() -> None:
                self._spend(REFUSE_S + BEGIN_S)
                self.done.append(Done(at, operation, self.time.now_s - at, False))

            if gate.full(priority):
                gate.count_refusal(priority)
                self._spend(REFUSE_S)
                self.done.append(Done(at, operation, self.time.now_s - at, False))
            elif (epoch := gate.enter(priority)) is not None:
                entered = epoch
                self.ready.append(lambda: run(entered))
            else:
                gate.queue_up(Turn(self, run, refuse), priority)  # type: ignore[arg-type]

        return arrive

    def _end(self, at: float, operation: Operation, epoch: Epoch) -> None:
        self.gate.leave(epoch)
        self.done.append(Done(at, operation, self.time.now_s - at, True))

    def _steps(self, operation: Operation) -> Iterator[Step]:
        for kind, seconds in operation.steps:
            yield kind, seconds if kind == "cpu" else self.random.expovariate(1 / seconds)

    def _go_on(self, steps: Iterator[Step], end: Callable[[], None]) -> None:
        for kind, seconds in steps:
            if kind == "cpu":
                self._spend(seconds)
                continue
            resume = lambda: self.ready.append(lambda: self._go_on(steps, end))  # noqa: E731
            if kind == "wait":
                self._at(self.time.now_s + seconds, resume)
            else:
                self._query(seconds, resume)
            return
        end()

    def _query(self, seconds: float, resume: Callable[[], None]) -> None:
        def answered() -> None:
            self._pool_free += 1
            self._pool_served += 1
            if self._pool_line:
                self._pool_line.popleft()()
            resume()

        def begin() -> None:
            self._pool_free -= 1
            self._at(self.time.now_s + seconds, answered)

        if self._pool_free:
            begin()
        else:
            self._pool_line.append(begin)

    def _probe(self) -> None:
        due = self.time.now_s + PROBE_S

        def stood() -> None:
            self.gate.observe(self.time.now_s, max(0.0, self.time.now_s - due))
            self.limits.append((self.time.now_s, self.gate.limit))
            self._probe()

        self._at(due, lambda: self.ready.append(stood))

    def _spend(self, seconds: float) -> None:
        self.time.now_s += seconds

    def _at(self, at: float, event: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._events, (at, self._number, event))


class Figures(NamedTuple):
    """Of a stretch of time."""

    sent: int
    served: int
    shed: int
    goodput: float
    """Served within half a second, per second."""
    p50_s: float
    p99_s: float


def figures(done: Sequence[Done], began: float, ended: float, name: str | None = None) -> Figures:
    """Of what was sent between ``began`` and ``ended``, of one operation if it is named. What was not answered counts
    as sent only."""
    rows = [d for d in done if began <= d.at < ended and name in (None, d.operation.name)]
    took = sorted(d.seconds for d in rows if d.ok)
    good = sum(t <= 0.5 for t in took)
    quantile: Any = lambda q: took[min(len(took) - 1, int(len(took) * q))] if took else float("nan")  # noqa: E731
    return Figures(
        len(rows), len(took), len(rows) - len(took), good / (ended - began), quantile(0.5), quantile(0.99)
    )
