"""A machine that instances live and die on, under a seed: what the plan's tests run it against."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from tenfold.runtime.up.fleet import Fleet, Rules
from tenfold.runtime.up.instance import Instance
from tenfold.runtime.up.plan import Step, note, plan
from tenfold.runtime.up.roles import Wanted

Fate = Literal[
    "well", "dies at start", "never ready", "hangs on drain", "hangs at start", "falls silent", "grows"
]


@dataclass
class Body:
    """One process: how it will fare, and what it was told."""

    fate: Fate
    ready_at: float
    dies_at: float = float("inf")


@dataclass
class Machine:
    """Carries out what the plan says, and has chance say what becomes of it."""

    wanted: Sequence[Wanted]
    seed: int = 0
    rules: Rules = field(default_factory=Rules)
    balanced: bool = True
    fates: tuple[Fate, ...] = ("well",)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.now, self.fleet = 1_000.0, Fleet()
        self.fleet.want(self.wanted, balanced=self.balanced)
        self.bodies: dict[str, Body] = {}
        self.history: list[tuple[float, Step]] = []
        self.said: list[str] = []

    def run(self, seconds: float, *, tick_s: float = 0.5) -> None:
        end = self.now + seconds
        while self.now < end:
            self.tick()
            self.now += tick_s

    def tick(self) -> list[Step]:
        self._live()
        self._balance()
        steps = plan(self.fleet, self.rules, self.now)
        assert len({step.name for step in steps}) == len(steps), "an instance gets one step at a time"
        for step in steps:
            self.history.append((self.now, step))
            self._do(step)
        return steps

    def ready(self, group: str = "web") -> list[Instance]:
        return [instance for instance in self.fleet.of(group) if instance.state == "ready"]

    def live(self, group: str = "web") -> list[Instance]:
        return [instance for instance in self.fleet.of(group) if instance.state != "draining"]

    def kill(self, name: str) -> None:
        self._gone(name, "signal 9")

    def starts(self) -> int:
        return sum(step.kind == "start" for _, step in self.history)

    def _do(self, step: Step) -> None:
        if step.kind == "start":
            role = self.fleet.groups[step.group].role
            service = self.fleet.groups[step.group].service
            self.fleet.instances[step.name] = Instance(
                name=step.name, role=role, service=service, since=self.now, started_at=self.now, heard_at=self.now,
                generation=self.fleet.groups[step.group].generation, port=8000 if role == "web" else 0,
            )  # fmt: skip
            self.bodies[step.name] = self._born()
            return
        note(self.fleet, step, self.now)
        body = self.bodies[step.name]
        if step.kind == "tell" and not body.fate.startswith("hangs"):
            body.dies_at = min(body.dies_at, self.now + self.rng.uniform(0, 3))
        elif step.kind == "kill":
            body.dies_at = self.now

    def _born(self) -> Body:
        body = Body(self.rng.choice(self.fates), self.now + self.rng.uniform(0.5, 4))
        if body.fate == "dies at start":
            body.dies_at, body.ready_at = self.now + self.rng.uniform(0, 1), float("inf")
        elif body.fate in {"never ready", "hangs at start"}:
            body.ready_at = float("inf")
        return body

    def _live(self) -> None:
        for name, body in list(self.bodies.items()):
            if self.now >= body.dies_at:
                self._gone(name, "exit status 1")
                continue
            old = self.now > body.ready_at + 20
            silent, grown = body.fate == "falls silent" and old, body.fate == "grows" and old
            answer = None if silent else self.now >= body.ready_at
            self.fleet.seen(name, answer, (900 if grown else 100) << 20, 0.1, self.rules, self.now)

    def _balance(self) -> None:
        """The balancer follows a tick later."""
        for instance in self.fleet.instances.values():
            known, instance.known = instance.known, instance.state == "ready" and self.balanced
            if known and not instance.known:
                instance.since = self.now

    def _gone(self, name: str, how: str) -> None:
        del self.bodies[name]
        words = ["Traceback …", "KeyError: 'DATABASE_URL'"]
        self.said.append(self.fleet.ended(name, how, words, self.rules, self.now, self.rng))
