"""What the supervisor knows, and how that changes with what it does and sees. Pure: time and chance are handed in."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

from msgspec import Struct, field

from tenfold._core.backoff import full_jitter_s
from tenfold._core.text import plural
from tenfold.runtime.up.instance import Instance
from tenfold.runtime.up.roles import PUBLIC, Role, Wanted

STEADY_S: Final = 5.0
"""An instance that was ready for so long has been of use: its end does not count as a crash at start."""

WORDS_MAX: Final = 12
"""Last lines of output that are kept of an instance that ended by itself."""


class Rules(Struct, frozen=True):
    """What holds for all groups: see :class:`~tenfold._core.sections.UpSettings`."""

    ready_timeout_s: float = 30.0
    silent_timeout_s: float = 60.0
    drain_s: float = 1.0
    stop_s: float = 20.0
    """From SIGTERM to SIGKILL."""
    restart_base_s: float = 0.5
    restart_most_s: float = 30.0
    crashes_max: int = 5
    crash_window_s: float = 60.0
    hold_s: float = 60.0
    memory_max: int = 0
    """Bytes; 0 for no limit."""
    starting_max: int = 2
    """Instances of all groups that start at the same time: a cold start is the heaviest work they ever do."""


class Group(Struct, kw_only=True):
    """The instances of one role, or of one service: how many are wanted, and how the last ones fared."""

    role: Role
    service: str = ""
    low: int = 1
    high: int = 1
    count: int = 1
    """Wanted now, within the range."""
    declared: tuple[int, int] = (1, 1)
    """The range that the settings had; another one in them is taken over, else what was asked for since stays."""
    balanced: bool = False
    """A balancer stands in front of it."""
    calls_port: int = 0
    """Where the balancer takes what other services ask of it; 0 for none."""
    generation: int = 0
    failures: int = 0
    """Ends before they were of use, in a row."""
    crashes: list[float] = field(default_factory=list)
    """When they were, within the window."""
    start_at: float = 0.0
    """Nothing starts before."""
    held: str = ""
    """Why nothing is started; empty while it is."""
    words: list[str] = field(default_factory=list)
    """The last lines of output of the last one that crashed."""

    @property
    def name(self) -> str:
        return self.service or self.role

    @property
    def surges(self) -> bool:
        """Whether one more may run while another one is replaced: not where each has the next port after the last."""
        return self.balanced or self.role not in PUBLIC


class Fleet(Struct):
    """Everything there is, by name. What outlives the supervisor is this, as JSON."""

    groups: dict[str, Group] = field(default_factory=dict)
    instances: dict[str, Instance] = field(default_factory=dict)
    stopping: bool = False
    """Everything is to end."""

    def of(self, group: str) -> list[Instance]:
        return [instance for instance in self.instances.values() if instance.group == group]

    def want(self, wanted: Sequence[Wanted], *, balanced: bool) -> None:
        """Take over what the settings say; a group that they no longer name is scaled to nothing."""
        for each in wanted:
            group = self.groups.setdefault(
                each.group, Group(role=each.role, service=each.service, declared=(-1, -1))
            )
            group.balanced = balanced and each.role in PUBLIC
            if group.declared != (each.low, each.high):
                group.declared = (each.low, each.high)
                self.scale(each.group, each.low, each.high)
        for name in self.groups.keys() - {each.group for each in wanted}:
            self.groups[name].declared = (0, 0)
            self.scale(name, 0, 0)

    def scale(self, name: str, low: int, high: int) -> None:
        """So many from now on; what is held gets another chance."""
        group = self.groups[name]
        group.low, group.high = low, high
        group.count = min(max(group.count, low), high)
        release(group)

    def renew(self, names: Sequence[str], *, rolling: bool = True, now: float = 0.0) -> None:
        """Have every instance of these groups replaced by one of the next generation: one after the other, or all at
        once."""
        for name in names:
            self.groups[name].generation += 1
            release(self.groups[name])
            for instance in self.of(name):
                if not rolling and instance.state != "draining":
                    instance.state, instance.since = "draining", now

    def seen(self, name: str, answer: bool | None, memory: int, cpu: float, rules: Rules, now: float) -> None:
        """Note what an instance said to whether it is ready (None: nothing), and what it takes of the machine."""
        instance = self.instances[name]
        instance.answers, instance.memory, instance.cpu = bool(answer), memory, cpu
        if answer is not None:
            instance.heard_at = now
        if 0 < rules.memory_max < memory and not instance.worn:
            instance.worn = (
                f"it has {memory >> 20:,} MiB, and {rules.memory_max >> 20:,} are allowed (up.memory_max)"
            )

    def ended(
        self, name: str, how: str, words: Sequence[str], rules: Rules, now: float, rng: random.Random
    ) -> str:
        """Note that the process of an instance is gone; the sentence about it. ``how`` is such as "exit status 1"."""
        instance = self.instances.pop(name)
        group = self.groups[instance.group]
        asked = self.stopping or instance.state == "draining"
        useless = not instance.served or (instance.state == "ready" and now - instance.since < STEADY_S)
        if asked and (self.stopping or instance.served or not instance.worn):
            return f"{name} has ended ({how})."
        wait_s = self._crashed(group, useless, words, rules, now, rng)
        what = f"{name} never got ready, and was ended" if asked else f"{name} ended by itself ({how})"
        if not group.held:
            return f"{what}; the next one may start {f'in {wait_s:.1f} s' if wait_s >= 0.05 else 'at once'}."
        return f"{what}. {group.held}"

    def _crashed(
        self, group: Group, useless: bool, words: Sequence[str], rules: Rules, now: float, rng: random.Random
    ) -> float:
        group.words = list(words)[-WORDS_MAX:]
        group.failures = group.failures + 1 if useless else 1
        group.crashes = [at for at in group.crashes if now - at < rules.crash_window_s]
        if useless:
            group.crashes.append(now)
        wait_s = full_jitter_s(group.failures, rng, base_s=rules.restart_base_s, most_s=rules.restart_most_s)
        if group.held or len(group.crashes) >= rules.crashes_max:
            wait_s = rules.hold_s
            group.held = held_sentence(group, rules, running=self.of(group.name))
        group.start_at = now + wait_s
        return wait_s


def release(group: Group) -> None:
    """Forget what went wrong: somebody says that it is mended."""
    group.failures, group.start_at, group.held = 0, 0.0, ""
    group.crashes.clear()


def held_sentence(group: Group, rules: Rules, running: Sequence[Instance]) -> str:
    """Why a group is held, and what to do about it."""
    left = sum(instance.state == "ready" for instance in running)
    goes_on = (
        f" {plural(left, 'instance')} that {'is' if left == 1 else 'are'} ready {'goes' if left == 1 else 'go'} on."
        if left
        else ""
    )
    mend = "Mend what the last lines say" if group.words else "Find out with `tenfold run` what it waits for"
    return (
        f"{group.name} is held: {plural(group.failures, 'instance')} in a row ended before being of use.{goes_on} {mend}, then run: tenfold restart {group.name}. "
        f"Every {rules.hold_s:g} s one is tried."
    )
