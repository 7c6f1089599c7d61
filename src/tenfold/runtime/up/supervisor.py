"""The loop that keeps a fleet as it is wanted: look, plan, do, remember. What to do is decided in
:mod:`tenfold.runtime.up.plan`, and what instances write and answer is read elsewhere.

When it ends by a signal, or by ``tenfold down``, the fleet ends in order. When it dies, everything runs on, and the next
supervisor of the same data folder adopts it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from msgspec import structs

from tenfold._core.tasks import end_tasks
from tenfold.errors import ConfigError
from tenfold.runtime.up.answers import Answers
from tenfold.runtime.up.control import Request, Said, Server
from tenfold.runtime.up.fleet import Fleet, Rules
from tenfold.runtime.up.instance import Instance
from tenfold.runtime.up.launch import Launch
from tenfold.runtime.up.output import Output, Prefixed
from tenfold.runtime.up.plan import Step, note, plan
from tenfold.runtime.up.process import Process
from tenfold.runtime.up.roles import NICER
from tenfold.runtime.up.shows import Front, Shows
from tenfold.runtime.up.state import State

if TYPE_CHECKING:
    from tenfold._core.clock import Clock

TICK_S: Final = 0.2
LOOK_S: Final = 2.0
"""Between two questions to an instance that is ready; those that start are asked each tick."""


class Sizing(Protocol):
    """Who says how many there are to be, for groups with a range."""

    async def decide(self, fleet: Fleet) -> Sequence[tuple[str, int, str]]:
        """Group, count and why, of those that are to change."""
        ...


class Reread(NamedTuple):
    """What settings say that were read again: taken over as far as groups and balancer go."""

    rules: Rules
    launch: Launch
    sentence: str
    replace: bool
    """Instances that run were started with others."""


class Supervisor:
    """Runs one fleet until it is stopped. ``say`` takes its own sentences, ``shown`` the lines of instances.

    ``reread`` reads the settings again; it raises :class:`ConfigError`, and has changed nothing, when they cannot be followed.
    """

    def __init__(
        self,
        fleet: Fleet,
        rules: Rules,
        launch: Launch,
        state: State,
        clock: Clock,
        *,
        say: Callable[[str], object],
        shown: Prefixed,
        front: Front | None = None,
        sizing: Sizing | None = None,
        reread: Callable[[], Reread] | None = None,
        started: Callable[[], object] = lambda: None,
    ) -> None:
        self.fleet, self.rules = fleet, rules
        self._launch, self._state, self._clock = launch, state, clock
        self._say_to, self._shown, self._sizing = say, shown, sizing
        self._reread, self._started = reread, started
        self._processes: dict[str, Process] = {}
        self._outputs: dict[str, Output] = {}
        self._answers = Answers(clock)
        self._shows = Shows(front, fleet, clock, self._say)
        self._sized_at = 0.0
        self._sized: asyncio.Task[Sequence[tuple[str, int, str]]] | None = None
        self._stop = False
        self._listeners: set[asyncio.Queue[str]] = set()

    # ── life ──

    async def run(self) -> None:
        """Adopt what runs, then keep the fleet until it is stopped and everything has ended."""
        self._adopt()
        control = Server(self._state.socket, self._answer)
        await control.start()
        announced = False
        try:
            while not (self.fleet.stopping and not self.fleet.instances):
                await self._tick()
                if not announced and self._as_wanted():
                    announced = True
                    self._started()
                await self._clock.sleep(TICK_S)
            self._state.clear()
        finally:
            await end_tasks(self._sized)
            await self._shows.end()
            await self._answers.stop()
            await control.stop()

    def stop(self) -> None:
        """End the fleet in order, the balancer first; :meth:`run` returns when it has ended."""
        self._stop = True

    def reload(self, *, replace: bool = False) -> None:
        """Read the settings again and follow them. Instances are replaced, one after the other in each group, where they were
        started with others, or with ``replace``. Raises :class:`ConfigError`, and goes on as before, for settings that are wrong
        or cannot change while the fleet runs."""
        if self._reread is not None:
            read = self._reread()
            self.rules, self._launch = read.rules, read.launch
            self._shows.again()
            self._say(read.sentence)
            replace |= read.replace
        if replace:
            self._say("Every instance is replaced, one after the other.")
            self.fleet.renew(list(self.fleet.groups))
        self.remember()

    @property
    def shown(self) -> bool:
        """Whether the balancer, if there is one, leads to what is ready."""
        return self._shows.settled or not any(i.port for i in self.fleet.instances.values())

    @property
    def complaint(self) -> str:
        """Why the balancer does not do what it is to do; empty while it does."""
        return self._shows.complaint

    @property
    def launch(self) -> Launch:
        """How instances are started from now on."""
        return self._launch

    def add_environment(self, env: Mapping[str, str]) -> None:
        """Variables for instances that start from now on."""
        self._launch = structs.replace(self._launch, env={**self._launch.env, **env})

    def _adopt(self) -> None:
        now = self._clock.now()
        for name, instance in list(self.fleet.instances.items()):
            self._outputs[name] = Output(self._state.logs / f"{name}.log")
            process = Process.adopt(instance)
            if process is None:
                del self.fleet.instances[name]
                self._say(f"{name} ended while nobody looked.")
                continue
            instance.heard_at = now
            self._processes[name] = process
            self._say(f"{name} runs on, as process {instance.pid}.")

    async def _tick(self) -> None:
        """Look, plan, do, remember."""
        if self._stop and not self.fleet.stopping:
            await self._shows.stop()
            self.fleet.stopping = True
        changed = self._bury()
        self._look()
        changed |= self._size()
        for step in plan(self.fleet, self.rules, self._clock.now()):
            self._do(step)
            changed = True
        self._shows.follow()
        for name, output in self._outputs.items():
            self._shown.show(name, output.lines())
        if changed:
            self._state.save(self.fleet)

    # ── look ──

    def _bury(self) -> bool:
        """Note the processes that are gone."""
        ended = {name: how for name, process in self._processes.items() if (how := process.ended())}
        for name, how in ended.items():
            del self._processes[name]
            self._answers.forget(name)
            output = self._outputs[name]
            self._shown.show(name, output.lines(end=True))
            self._note_end(name, how, list(output.last))
            output.last.clear()
        return bool(ended)

    def _note_end(self, name: str, how: str, words: Sequence[str]) -> None:
        group = self.fleet.groups[self.fleet.instances[name].group]
        held = group.held
        clock = self._clock
        self._say(self.fleet.ended(name, how, words, self.rules, clock.now(), clock.random))
        if group.held and not held and group.words:
            self._say("\n".join(["Its last lines:", *(f"    {line}" for line in group.words)]))

    def _look(self) -> None:
        """Ask who is to be asked, and note what was answered since."""
        now = self._clock.now()
        for name, instance in self.fleet.instances.items():
            if instance.told_at:
                continue
            every_s = 0.0 if instance.state == "starting" else LOOK_S
            self._answers.ask(name, instance.ops_port, every_s)
            answer = self._answers.take(name)
            if answer is not None:
                self.fleet.seen(name, answer.ready, *self._processes[name].usage(), self.rules, now)

    def _size(self) -> bool:
        """Follow the load, where a group has a range. Asking takes a while, and nothing waits for it."""
        now, moved = self._clock.monotonic(), False
        if self._sizing is None or self.fleet.stopping:
            return False
        if self._sized is None and now - self._sized_at >= LOOK_S:
            self._sized_at = now
            self._sized = asyncio.create_task(self._sizing.decide(self.fleet), name="tenfold-sizing")
        elif self._sized is not None and self._sized.done():
            for group, count, why in self._sized.result():
                moved |= self.fleet.groups[group].count != count
                self.fleet.groups[group].count = count
                self._say(why)
            self._sized = None
        return moved

    def _as_wanted(self) -> bool:
        """Whether everything that is wanted is ready, and clients get there."""
        ready = {name: sum(i.state == "ready" for i in self.fleet.of(name)) for name in self.fleet.groups}
        enough = all(ready[name] >= group.count for name, group in self.fleet.groups.items())
        return enough and self.shown

    # ── do ──

    def _do(self, step: Step) -> None:
        self._say(step.sentence)
        if step.kind == "start":
            self._start(step)
            return
        note(self.fleet, step, self._clock.now())
        process = self._processes[step.name]
        if step.kind == "tell":
            process.tell()
        elif step.kind == "kill":
            process.kill()

    def _start(self, step: Step) -> None:
        name, now = step.name, self._clock.now()
        group = self.fleet.groups[step.group]
        taken = {port for i in self.fleet.instances.values() for port in (i.port, i.ops_port)}
        instance = Instance(name=name, role=group.role, service=group.service)
        try:
            instance = self._launch.instance(group, name, taken, now)
            log = self._state.logs / f"{name}.log"
            output = self._outputs.setdefault(name, Output(log))
            self._shown.show(name, output.lines())
            process = Process.start(
                self._launch.command(instance),
                name,
                log,
                self._launch.env,
                nicer=NICER.get(instance.role, 0),
            )
        except (OSError, ConfigError) as error:
            self.fleet.instances[name] = instance
            self._note_end(name, "it could not be started", [str(error)])
            return
        instance.pid, instance.created_at = process.pid, process.created_at
        self.fleet.instances[name] = instance
        self._processes[name] = process

    # ── what is asked for ──

    async def _answer(self, request: Request) -> AsyncIterator[Said]:
        from tenfold.runtime.up.requests import answer

        heard: asyncio.Queue[str] = asyncio.Queue()
        self._listeners.add(heard)
        try:
            async for said in answer(self, request, heard):
                yield said
        finally:
            self._listeners.discard(heard)

    def remember(self) -> None:
        """Save what was asked for."""
        self._state.save(self.fleet)

    def now(self) -> float:
        return self._clock.now()

    def _say(self, sentence: str) -> None:
        if sentence:
            self._say_to(sentence)
        for listener in self._listeners:
            listener.put_nowait(sentence)
