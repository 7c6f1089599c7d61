"""G15 and G17 between processes: each link of a chain is a ``tenfold run``, and a dependency stops answering for a while.

All chains of a run, whole and broken ones, meet the same load at the same moments on the same machine, beside a link whose
dependency is well. A run in which that one was not well either tells of the machine, and is made again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.links import Course, Dependency, Held, Link, held, offered, started
from support.trials import Trials, soak


@dataclass(frozen=True)
class Plan:
    """Seconds, one after another; ``per_s`` requests a second are sent all the time."""

    before_s: float
    off_s: float
    normal_within_s: float
    """From the end of the outage on."""
    after_s: float
    per_s: float
    room: float
    """What the dependency can do, of what it is asked for."""
    others_late_s: float
    """Allowed to the slowest hundredth of others: what a busy machine adds by itself."""
    patience_s: float
    held_up_s: float
    """Where the slowest hundredth took longer although all was well, the machine was busy."""

    @property
    def on_again(self) -> float:
        return self.before_s + self.off_s

    @property
    def normal(self) -> float:
        return self.on_again + self.normal_within_s

    @property
    def end(self) -> float:
        return self.normal + self.after_s


@dataclass(frozen=True)
class Setting:
    """``middle``, ``front`` and ``link`` are settings of their clients, ``broken`` those that both broken builds have more."""

    plan: Plan
    middle: dict[str, object]
    front: dict[str, object]
    link: dict[str, object]
    broken: dict[str, object]
    places: int
    """Requests in progress at a time in a link that is asked for others, too."""
    concurrency: int
    """Calls under way at a time, as ``link`` says or by default."""


_A_TENTH: dict[str, object] = {"breaker_open_max_s": 0.3, "concurrency": 12}
QUICK = Setting(
    Plan(0.4, 1.0, 1.4, 0.6, per_s=25, room=1.5, others_late_s=0.2, patience_s=1.4, held_up_s=0.25),
    middle={"timeout_s": 0.7, "read_timeout_s": 0.3, **_A_TENTH},
    front={"timeout_s": 1.5, **_A_TENTH},
    link={"timeout_s": 0.7, **_A_TENTH},
    broken={"breaker": False, "concurrency": 100_000, "waiting_max": 100_000},
    places=20,
    concurrency=12,
)  # fmt: skip
LONG = Setting(
    Plan(5, 30, 10, 20, per_s=20, room=1.3, others_late_s=0.05, patience_s=10.0, held_up_s=0.5),
    middle={"timeout_s": 2.0, "read_timeout_s": 0.8},
    front={"timeout_s": 5.0},
    link={},
    broken={"breaker": False, "concurrency": 100_000, "waiting_max": 100_000},
    places=150,
    concurrency=64,
)
RUNS_MAX = 6
CLOSING = 1.25
"""Of a connection that was closed the other side hears a moment later, when the next one is open already."""
GROWN_KB_MAX, THREADS_MAX = 20_000, 8


# ── G15: a chain of three ──


@dataclass
class Storm:
    """What a chain and its dependency went through."""

    plan: Plan
    course: Course
    arrived: list[float]
    opened: bool
    """Whether a breaker was seen open during the outage."""
    closed: bool
    """Whether all were closed at the end."""

    def load(self) -> float:
        """Requests at the dependency, from the outage on, for each one that was asked for at the front."""
        begin, end = self.plan.before_s, self.plan.end
        came = sum(begin <= at - self.course.begun < end for at in self.arrived)
        return came / len(self.course.between(begin, end))


def judge(storm: Storm) -> list[str]:
    """What is wrong: the load on the dependency, and the time until all is well again."""
    wrong: list[str] = []
    if storm.load() > 1.1:
        wrong.append(f"{storm.load():.2f} requests at the dependency for each that was offered")
    good = storm.course.good(storm.plan.normal, storm.plan.end)
    if good < 0.99:
        wrong.append(f"{good:.0%} were answered well from {storm.plan.normal_within_s} s after the outage on")
    return wrong


class Chain:
    """Front, middle, dependency."""

    def __init__(
        self, dependency: Dependency, middle: dict[str, object], front: dict[str, object], broken: str = ""
    ) -> None:
        self.dependency = dependency
        self.middle = Link(dependency.port, middle, broken=broken)
        self.front = Link(self.middle.port, front, broken=broken)
        self.links = [self.middle, self.front]

    async def outage(self, plan: Plan) -> Storm:
        self.dependency.arrived.clear()
        asking = asyncio.create_task(
            offered(self.front, "/", per_s=plan.per_s, seconds=plan.end, patience_s=plan.patience_s)
        )
        await asyncio.sleep(plan.before_s)
        self.dependency.off = True
        await asyncio.sleep(plan.off_s)
        opened = await self._breakers() > 0
        self.dependency.off = False
        course = await asking
        return Storm(plan, course, self.dependency.arrived, opened, await self._breakers() == 0)

    async def _breakers(self) -> float:
        """The sum of their states; 0 where all are closed."""
        return await asyncio.to_thread(self.middle.metric, "tenfold_client_breaker_state")


# ── G17: one link whose dependency is gone, beside one whose dependency is well ──


@dataclass
class Beside:
    """Requests to others than the ones that need the dependency, in a link and in one that is well, at the same time."""

    plan: Plan
    others: Course
    well: Course
    well_calls: Course
    calls_open: int
    """Connections to the dependency, at most."""
    before: Held
    during: Held

    def took_s(self, course: Course) -> list[float]:
        """While the dependency was off."""
        return [each.took_s for each in course.between(self.plan.before_s, self.plan.end)]


def late(mine: list[float], theirs: list[float], allowed_s: float) -> list[str]:
    """The slowest hundredth, beside that of the link whose dependency was well."""
    p99, beside = (sorted(took_s)[int(0.99 * len(took_s))] for took_s in (mine, theirs))
    if p99 > 1.1 * beside + allowed_s:
        return [f"p99 of others was {p99:.4f} s, and {beside:.4f} s where the dependency was well"]
    return []


def felt(found: Beside, concurrency: int) -> list[str]:
    """What others felt of the dependency, and what grew."""
    during = found.others.between(found.plan.before_s, found.plan.end)
    failed = sum(each.status != 200 for each in during)
    wrong = [f"{failed} of {len(during)} others failed"] if failed else []
    if found.calls_open > CLOSING * concurrency:
        wrong.append(f"{found.calls_open} calls were under way at a time")
    grown_kb = found.during.memory_kb - found.before.memory_kb
    threads = found.during.threads - found.before.threads
    if grown_kb > GROWN_KB_MAX or threads > THREADS_MAX:
        wrong.append(f"{grown_kb:,} kB and {threads} threads more were held")
    return wrong


async def asked(link: Link, plan: Plan) -> tuple[Course, Course]:
    """What needs the dependency, and what does not."""
    how = {"per_s": plan.per_s, "seconds": plan.end, "patience_s": plan.patience_s}
    return await asyncio.gather(offered(link, "/", **how), offered(link, "/other", **how))


async def beside(
    plan: Plan, link: Link, dependency: Dependency, well: asyncio.Task[tuple[Course, Course]]
) -> Beside:
    """The dependency of ``link`` is off until the end. ``well`` is another link's course, at the same time."""
    running = asyncio.create_task(asked(link, plan))
    await asyncio.sleep(plan.before_s)
    before = held(link.pid)
    dependency.off = True
    await asyncio.sleep(plan.end - plan.before_s)
    during = held(link.pid)
    _, others = await running
    well_calls, of_well = await well
    dependency.off = False
    return Beside(plan, others, of_well, well_calls, dependency.open_most, before, during)


# ── both at once, as whole builds and as broken ones ──


@dataclass
class Seen:
    """One run shows all: processes take longer to start than to be judged."""

    chain: Storm
    chain_broken: Storm
    beside: Beside
    beside_broken: Beside

    def others(self) -> tuple[list[float], list[float]]:
        """Seconds that others took, in the link and in the one that was well."""
        return self.beside.took_s(self.beside.others), self.beside.took_s(self.beside.well)

    @property
    def machine_was_busy(self) -> bool:
        """Whether the link that was well was not."""
        ended = [*self.beside.well.ended, *self.beside.well_calls.ended]
        took_s = sorted(each.took_s for each in ended)
        return (
            any(each.status != 200 for each in ended)
            or took_s[int(0.99 * len(took_s))] > self.beside.plan.held_up_s
        )


async def run(setting: Setting, folder: Path, broken: str) -> Seen:
    """What a run shows while the machine has time for it."""
    for number in range(RUNS_MAX):
        seen = await _run(setting, folder / str(number), broken)
        if not seen.machine_was_busy:
            return seen
    raise AssertionError(f"the machine was too busy to measure at all, {RUNS_MAX} times")


async def _run(setting: Setting, folder: Path, broken: str) -> Seen:
    """All processes are new. ``broken``: see :mod:`support.link_app`."""
    plan, places = setting.plan, setting.places
    async with contextlib.AsyncExitStack() as stack:
        room = plan.room * plan.per_s
        off = [await stack.enter_async_context(Dependency(room).running()) for _ in range(4)]
        on = await stack.enter_async_context(Dependency(room).running())
        more = setting.broken
        chain = Chain(off[0], setting.middle, setting.front)
        other = Chain(off[1], {**setting.middle, **more}, {**setting.front, **more}, broken)
        link = Link(off[2].port, setting.link, places=places)
        boundless = Link(off[3].port, {**setting.link, **more, "timeout_s": 3000.0}, places=places)
        well = Link(on.port, setting.link, places=places)
        links = [*chain.links, *other.links, link, boundless, well]
        await asyncio.to_thread(stack.enter_context, started(links, folder))
        await asyncio.gather(*(all_well(each) for each in links))
        fine = asyncio.create_task(asked(well, plan))
        return Seen(
            *await asyncio.gather(
                chain.outage(plan), other.outage(plan),
                beside(plan, link, off[2], fine), beside(plan, boundless, off[3], fine),
            )
        )  # fmt: skip


async def all_well(link: Link) -> None:
    """What is not so yet is late once: connections, and modules that are imported when they are needed."""
    course = await offered(link, "/", per_s=10, seconds=0.2, patience_s=20.0)
    assert {each.status for each in course.ended} == {200}


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    return asyncio.run(run(QUICK, tmp_path_factory.mktemp("links"), "retries"))


def test_an_outage_ends_with_its_cause(quick: Seen, trials: Trials) -> None:
    storm = quick.chain
    assert judge(storm) == []
    assert (storm.opened, storm.closed) == (True, True)
    trials("G15", len(storm.course.ended), "processes")


def test_retries_at_every_layer_without_a_budget_keep_it_alive(quick: Seen) -> None:
    load, good = judge(quick.chain_broken)
    assert "requests at the dependency" in load
    assert "answered well" in good


def test_others_do_not_feel_a_dependency_that_never_answers(quick: Seen, trials: Trials) -> None:
    assert felt(quick.beside, QUICK.concurrency) == []
    assert late(*quick.others(), QUICK.plan.others_late_s) == []
    trials("G17", len(quick.beside.others.ended), "processes")


def test_without_time_outs_and_a_bulkhead_they_do(quick: Seen) -> None:
    failed, under_way = felt(quick.beside_broken, QUICK.concurrency)
    assert "others failed" in failed
    assert "calls were under way" in under_way


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_outages_end_and_are_not_felt_for_long(
    tmp_path: Path, trials: Trials, progress: Callable[[str], None]
) -> None:
    """With the default rules of clients. The broken chain keeps its budget here: what it lacks is a breaker that opens."""
    mine: list[float] = []
    theirs: list[float] = []
    for number in range(soak(25)):
        seen = asyncio.run(run(LONG, tmp_path / str(number), ""))
        chain, broken = seen.chain, judge(seen.chain_broken)
        progress(
            f"load {chain.load():.2f}, {judge(chain)}; without a breaker: {broken}; others: "
            f"{late(*seen.others(), LONG.plan.others_late_s)}, without bounds: {felt(seen.beside_broken, LONG.concurrency)}"
        )
        assert judge(chain) == []
        assert (chain.opened, chain.closed) == (True, True)
        assert "answered well" in broken[-1]
        assert felt(seen.beside, LONG.concurrency) == []
        assert felt(seen.beside_broken, LONG.concurrency)
        mine += seen.others()[0]
        theirs += seen.others()[1]
        trials("G15", len(chain.course.ended), "processes")
    assert late(mine, theirs, LONG.plan.others_late_s) == []
    trials("G17", len(mine), "processes")
