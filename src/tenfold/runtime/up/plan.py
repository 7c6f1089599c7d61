"""From what is wanted and what is there to the next steps, each with a sentence. Pure, asked again every moment.

For each group, in this order:

1. what starts and answers is admitted; what does not in time is ended, and what has fallen silent is replaced;
2. what drains is told (SIGTERM) once the balancer has forgotten it and its connections had time to end, and killed when it
   takes too long;
3. of those ready, as many leave as are more than wanted: those to be replaced first;
4. what is missing is started, unless a wait or a hold is in the way. While one is to be replaced, one more than wanted
   may run (a *surge*), and none leaves before that one is ready: a rolling restart. Where ports are fixed, one leaves
   first.

An instance gets one step at a time. A group that is held keeps what runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Literal

from msgspec import Struct

from tenfold._core.text import plural
from tenfold.runtime.up.fleet import Fleet, Group, Rules
from tenfold.runtime.up.instance import Instance

Kind = Literal["start", "admit", "withdraw", "tell", "kill"]


class Step(Struct, frozen=True):
    """One thing to do: ``start`` a process, ``admit`` it to the balancer, ``withdraw`` it from there, ``tell`` it to end, or
    ``kill`` it."""

    kind: Kind
    group: str
    name: str
    sentence: str
    worn: str = ""
    """With ``withdraw``: what was wrong with it."""


def plan(fleet: Fleet, rules: Rules, now: float) -> list[Step]:
    """What to do now, in order. Carry the steps out, note each with :func:`note`, and ask again."""
    if fleet.stopping:
        return [step for instance in fleet.instances.values() for step in _stop(instance, rules, now)]
    starting = sum(instance.state == "starting" for instance in fleet.instances.values())
    steps: list[Step] = []
    for group in fleet.groups.values():
        found = list(_Group(fleet, group, rules, now, rules.starting_max - starting).steps())
        starting += sum(step.kind == "start" for step in found)
        steps += found
    return steps


def note(fleet: Fleet, step: Step, now: float) -> None:
    """Change the state of the instance that a step was done to; ``start`` is noted by who knows the process."""
    instance = fleet.instances[step.name]
    if step.kind == "admit":
        group = fleet.groups[step.group]
        instance.state, instance.since, instance.served, instance.heard_at = "ready", now, True, now
        group.held, group.start_at = "", 0.0
    elif step.kind == "withdraw":
        instance.state, instance.since, instance.worn = "draining", now, step.worn or instance.worn
    elif step.kind == "tell":
        instance.told_at = now
    elif step.kind == "kill":
        instance.killed = True


class _Group:
    """One group at one moment."""

    def __init__(self, fleet: Fleet, group: Group, rules: Rules, now: float, room: int) -> None:
        self.fleet, self.group, self.rules, self.now, self.room = fleet, group, rules, now, room
        members = sorted(fleet.of(group.name), key=lambda i: i.number)
        self.starting = [i for i in members if i.state == "starting"]
        self.ready = [i for i in members if i.state == "ready"]
        self.draining = [i for i in members if i.state == "draining"]
        self.admitted = 0
        """Just now: they count, and have had their step."""

    def steps(self) -> Iterator[Step]:
        for instance in self.draining:
            yield from _end(instance, self.rules, self.now)
        yield from self._look()
        yield from self._shrink()
        yield from self._grow()

    def _look(self) -> Iterator[Step]:
        """At each that starts, or is ready and does not answer."""
        for instance in list(self.starting):
            age = self.now - instance.started_at
            if instance.generation < self.group.generation:
                self.starting.remove(instance)
                yield self._withdraw(instance, "it was starting, and a newer one is wanted")
            elif instance.answers:
                self.starting.remove(instance)
                self.admitted += 1
                yield Step(
                    "admit", self.group.name, instance.name, f"{instance.name} is ready after {age:.1f} s."
                )
            elif age >= self.rules.ready_timeout_s:
                self.starting.remove(instance)
                why = f"it was not ready within {self.rules.ready_timeout_s:g} s (up.ready_timeout_s)"
                yield self._withdraw(instance, why, worn=why)
        for instance in list(self.ready):
            if self.now - instance.heard_at >= self.rules.silent_timeout_s:
                self.ready.remove(instance)
                yield self._withdraw(instance, f"it has not answered for {self.rules.silent_timeout_s:g} s")

    def _shrink(self) -> Iterator[Step]:
        """Those ready that are more than wanted leave, and those that start without being needed."""
        count = self.group.count
        for victim in sorted(self.ready, key=self._dispensable)[: max(0, self._able() - count)]:
            why = self._worn(victim) or f"{plural(self._able(), 'instance')} are ready, and {count} wanted"
            self.ready.remove(victim)
            yield self._withdraw(victim, why)
        needed = max(0, count + self._surge() - self._able())
        for victim in sorted(self.starting, key=lambda i: i.number)[needed:]:
            self.starting.remove(victim)
            yield self._withdraw(victim, f"it was starting, and {count} are wanted")

    def _grow(self) -> Iterator[Step]:
        group = self.group
        if self.now < group.start_at:
            return
        worn = [instance for instance in self.ready if self._worn(instance)]
        if worn and not group.surges and not group.held and not self.draining and self._able() >= group.count:
            yield self._withdraw(worn[0], self._worn(worn[0]))
            return  # its name, and with it its port, is free once it has ended
        live = self._able() + len(self.starting)
        # One that never got ready takes a place until it has ended: they would pile up while each takes its time to end.
        stuck = sum(not instance.served and bool(instance.worn) for instance in self.draining)
        missing = group.count + self._surge() - live - stuck
        if group.held:
            missing = min(missing, 1 - len(self.starting))
        for more, name in enumerate(self._names(min(missing, self.room))):
            yield Step("start", group.name, name, self._why_start(name, live + more, worn))

    def _able(self) -> int:
        return len(self.ready) + self.admitted

    def _surge(self) -> int:
        """One more than wanted, while one that is ready is to be replaced and none is just leaving."""
        worn = any(self._worn(instance) for instance in self.ready)
        return int(worn and self.group.surges and not self.draining and self._able() >= self.group.count)

    def _why_start(self, name: str, live: int, worn: Sequence[Instance]) -> str:
        if live >= self.group.count and worn:
            return f"{name} starts, to replace {worn[0].name}: {self._worn(worn[0])}."
        again = " (one try while it is held)" if self.group.held else ""
        return f"{name} starts: {live} of {self.group.count} are there{again}."

    def _worn(self, instance: Instance) -> str:
        """Why it is to be replaced, or nothing."""
        return instance.worn or ("a restart is wanted" if instance.generation < self.group.generation else "")

    def _dispensable(self, instance: Instance) -> tuple[bool, int]:
        worn = bool(self._worn(instance))
        return not worn, instance.number if worn else -instance.number

    def _names(self, count: int) -> Iterator[str]:
        """The lowest free ones; where a number stands for a port, none above those wanted."""
        taken = {instance.number for instance in self.fleet.of(self.group.name)}
        most = len(taken) + count if self.group.surges else self.group.count
        free = (number for number in range(1, most + 1) if number not in taken)
        for number in islice(free, max(0, count)):
            yield f"{self.group.name}.{number}"

    def _withdraw(self, instance: Instance, why: str, *, worn: str = "") -> Step:
        self.draining.append(instance)
        return Step("withdraw", self.group.name, instance.name, f"{instance.name} leaves: {why}.", worn)


def _end(instance: Instance, rules: Rules, now: float, *, stopping: bool = False) -> Iterator[Step]:
    """The steps of one that drains: since it left, or since the balancer has forgotten it."""
    name, since_s = instance.name, now - instance.since
    if not instance.told_at:
        left = since_s >= rules.drain_s if instance.served and instance.port else True
        if stopping or (left and not instance.known) or since_s >= rules.stop_s:
            yield Step("tell", instance.group, name, f"{name} is told to end (SIGTERM).")
    elif not instance.killed and now - instance.told_at >= rules.stop_s:
        yield Step(
            "kill", instance.group, name, f"{name} did not end within {rules.stop_s:g} s, and is killed."
        )


def _stop(instance: Instance, rules: Rules, now: float) -> Iterator[Step]:
    if instance.state == "draining":
        yield from _end(instance, rules, now, stopping=True)
    else:
        yield Step("withdraw", instance.group, instance.name, f"{instance.name} leaves: the fleet ends.")
