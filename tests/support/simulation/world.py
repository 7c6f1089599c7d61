"""The fleet: what its processes run, what its clients do, what happens to it, and how it comes to rest."""

from __future__ import annotations

import asyncio
import hashlib
import random
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa

from support.simulation.broken import SOUND, Breaks
from support.simulation.judge import TICK_S, Evidence, judge
from support.simulation.loop import NODE, SimulatedLoop
from support.simulation.node import CALM, EPOCH, SETTINGS, Node, NodeClock, Weather
from tenfold._core.resolve import backend_class
from tenfold._core.sections import DatabaseSettings
from tenfold.db import Database, Tx
from tenfold.db.plan import PlanCache
from tenfold.db.schema import framework
from tenfold.errors import DatabaseError
from tenfold.events import Subscription, Topic
from tenfold.events.backends import memory
from tenfold.events.tables import outbox
from tenfold.guard.backends._memory_leases import MemoryLeases
from tenfold.jobs import Job
from tenfold.queue.context import current_job
from tenfold.queue.queue import SKEW_MIN_S
from tenfold.queue.retry import Retry
from tenfold.queue.tables import archive, message
from tenfold.schedules import Schedule
from tenfold.schedules.schedule import Tick

CHAOS_S = 20.0
"""For so long clients work and things break."""
REST_S = 300.0
"""Within so long after that everything must have come to rest."""
KEYS = ("a", "b", "c")

metadata = sa.MetaData()
intents = sa.Table(
    "intent", metadata,
    sa.Column("uid", sa.String(40), primary_key=True),
    sa.Column("kind", sa.String(10), nullable=False),
    sa.Column("key", sa.String(10)),
    sa.Column("seq", sa.Integer),
)  # fmt: skip
"""What clients committed: it is written in the transaction that enqueues or publishes."""
effects = sa.Table(
    "effect", metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("handler", sa.String(40), nullable=False),
    sa.Column("uid", sa.String(60), nullable=False),
    sa.Column("key", sa.String(10)),
    sa.Column("seq", sa.Integer),
    sa.Column("message", sa.Integer, nullable=False),
)  # fmt: skip
counters = sa.Table(
    "counter", metadata,
    sa.Column("key", sa.String(10), primary_key=True),
    sa.Column("value", sa.Integer, nullable=False),
)  # fmt: skip

_plans: dict[str, PlanCache] = {}
"""What statements compile to is the same for every seed, and was a seventh of its time."""

_hot = sa.select(message.c.id, message.c.handler, message.c.state, message.c.lease_until)
_dead = sa.select(archive.c.handler, archive.c.payload).where(
    archive.c.state == "dead", archive.c.kind != "tick"
)
_add_intent, _add_effect = sa.insert(intents), sa.insert(effects)
_count_up = (
    sa.update(counters)
    .where(counters.c.key == sa.bindparam("of"))
    .values(value=counters.c.value + 1)
    .returning(counters.c.value)
)


class Happened(msgspec.Struct):
    uid: str
    key: str
    seq: int


class Server(memory.Server):
    """The broker. Who is connected is told in order that it stops; the order of a set is not in the seed."""

    def __init__(self) -> None:
        super().__init__()
        self.consumers: Any = _Ordered()

    def count(self) -> int:
        """What was published and is not acknowledged, by all subscriptions together."""
        held = sum(len(consumer.held) for consumer in self.consumers)
        return held + sum(len(line.waiting) for line in self.lines.values())


class _Ordered(dict[Any, None]):
    def add(self, one: Any) -> None:
        self[one] = None

    def discard(self, one: Any) -> None:
        self.pop(one, None)


class Boom(Exception):
    """What a flaky handler raises."""


@dataclass
class Declared:
    """What the code of one process declares."""

    topic: Topic[Happened]
    jobs: list[Job[Any, Any]]
    subscriptions: list[Subscription]
    schedules: list[Schedule]


@dataclass
class Report:
    """What one seed showed."""

    seed: int
    violations: list[str]
    digest: str
    """The same for the same history."""
    history: list[str] = field(default_factory=list[str])
    """What happened to the fleet, and when."""
    facts: dict[str, int] = field(default_factory=dict[str, int])


class World:
    """See the module. ``run`` plays one seed."""

    def __init__(self, seed: int, folder: Path, breaks: Breaks = SOUND) -> None:
        self.seed, self.breaks = seed, breaks
        self.random = random.Random(f"world {seed}")
        self.folder = folder
        self.weather = Weather()
        self.nodes: dict[str, Node] = {}
        self.made = self.begun = 0
        self.acknowledged: set[str] = set()
        self.rolled_back: set[str] = set()
        self.overlong: dict[int, str] = {}
        self.early: list[str] = []
        self.events: list[str] = []
        """The history of faults, for whoever looks into a seed."""
        self.server = Server() if self.random.random() < 0.5 else None

    def broker(self) -> memory.Backend:
        """A connection to the one broker."""
        assert self.server is not None
        return memory.Backend(self.server)

    # ── what processes run ──

    def declare(self, node: Node) -> Declared:
        retry = Retry(attempts=60, base_s=0.5, max_s=3.0)
        topic = Topic("s", "happened", Happened)

        async def effect(tx: Tx, handler: str, uid: str, key: str | None, seq: int | None) -> None:
            await self._work(before=True)
            await tx.execute(
                _add_effect, handler=handler, uid=uid, key=key, seq=seq, message=current_job().id
            )
            await self._work(before=False)

        async def single(uid: str, tx: Tx) -> None:
            await effect(tx, "single", uid, None, None)

        async def keyed(uid: str, key: str, seq: int, tx: Tx) -> None:
            await effect(tx, "keyed", uid, key, seq)

        async def first(event: Happened, tx: Tx) -> None:
            await effect(tx, "first", event.uid, event.key, event.seq)

        async def second(event: Happened, tx: Tx) -> None:
            await effect(tx, "second", event.uid, event.key, event.seq)

        async def tick(tick: Tick, tx: Tx) -> None:
            ahead_s = tick.at.timestamp() - EPOCH - node.loop.time()
            if ahead_s > SKEW_MIN_S:
                self.early.append(f"the tick of {tick.at} ran {ahead_s:.3f} s before it")
            await effect(tx, "tick", f"{tick.at.timestamp():.3f}", None, None)

        jobs = [Job[Any, Any]("s", fn, retry=retry, timeout=20.0) for fn in (single, keyed)]
        subscriptions = [Subscription("s", topic, fn, retry=retry, timeout=20.0) for fn in (first, second)]
        schedule = Schedule("s", tick, TICK_S, missed="all", retry=retry)
        return Declared(topic, jobs, subscriptions, [schedule])

    async def _work(self, *, before: bool) -> None:
        """A handler takes its time, and sometimes fails."""
        if self.random.random() < (0.4 if before else 0.1):
            await asyncio.sleep(self.random.uniform(0.0, 3.0 if before else 0.3))
        if self.weather is not CALM and self.random.random() < 0.05:
            raise Boom

    # ── what clients do ──

    async def _clients(self, node: Node) -> None:
        while node.alive and self.weather is not CALM:
            await node.clock.sleep(self.random.uniform(0.3, 2.5))
            if self.weather is CALM:
                return
            self.made += 1
            uid = f"{self.seed}-{self.made}"
            try:
                await self._commit_one(node, uid)
                self.acknowledged.add(uid)
            except Boom:
                self.rolled_back.add(uid)
            except DatabaseError:
                pass  # the row of the intent says whether it happened

    async def _commit_one(self, node: Node, uid: str) -> None:
        kind = self.random.choice(("single", "keyed", "keyed", "event", "event"))
        key = self.random.choice(KEYS) if kind != "single" else None
        async with node.db.tx() as tx:
            seq = await tx.scalar(_count_up, of=key) if key is not None else None
            await tx.execute(_add_intent, uid=uid, kind=kind, key=key, seq=seq)
            if kind == "single":
                await node.declared.jobs[0].enqueue(tx, uid)
            elif kind == "keyed":
                await node.declared.jobs[1].options(key=key).enqueue(tx, uid, key, seq)
            else:
                assert key is not None
                assert seq is not None
                await node.declared.topic.publish(tx, Happened(uid, key, seq), key=key)
            if self.random.random() < 0.15:
                raise Boom

    # ── what happens to them ──

    async def _faults(self) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulatedLoop)
        while loop.time() < CHAOS_S:
            await asyncio.sleep(self.random.expovariate(1 / 3))
            name = self.random.choice(sorted(name for name, node in self.nodes.items() if node.alive))
            node, fault = self.nodes[name], self.random.choice(("crash", "pause", "pause", "clock", "broker"))
            self.events.append(f"{loop.time():8.3f} {fault} {name}")
            if fault == "crash" and sum(each.alive for each in self.nodes.values()) > 1:
                node.kill()
                loop.paused.discard(name)
                loop.call_later(self.random.uniform(0.1, 8.0), self._begin, name.partition("'")[0], name)
            elif fault == "pause":
                loop.paused.add(name)
                loop.call_later(self.random.uniform(0.5, 15.0), loop.paused.discard, name)
            elif fault == "clock":
                node.clock.offset_s = self.random.choice((0.0, 2.0, -2.0, 300.0, -300.0))
            elif self.server is not None and self.server.up:
                self.server.stop()
                loop.call_later(self.random.uniform(0.5, 10.0), self.server.start)

    def _begin(self, place: str, before: str = "") -> None:
        """A new process at a place, with a name of its own."""
        self.nodes.pop(before, None)
        self.begun += 1
        name = f"{place}'{self.begun}" if before else place
        node = self.nodes[name] = Node(name, self, metadata)
        node.start()
        node.spawn(lambda: self._clients(node))

    # ── from beginning to end ──

    async def run(self) -> Report:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulatedLoop)
        loop.set_task_factory(self._new_task)
        self.leases = MemoryLeases(NodeClock(loop, "leases"))
        self.backend = await self._open()
        for n in range(self.random.choice((2, 3, 3, 4))):
            self._begin(f"n{n}")
        await self._faults()
        evidence = await self._heal(loop)
        for node in self.nodes.values():
            node.kill()
        await asyncio.sleep(30.0)  # what was killed ends: nothing may come of it
        after = await self._evidence(loop, evidence.rested)
        await self.backend.stop()
        violations = judge(after)
        return Report(self.seed, violations, self._digest(after, loop), self.events, self._facts(after, loop))

    def _new_task(self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, **options)
        node = self.nodes.get(NODE.get())
        if node is not None:
            node.tasks[task] = None
            task.add_done_callback(lambda done: node.tasks.pop(done, None))
            if not node.alive:
                task.cancel()
        return task

    async def _heal(self, loop: SimulatedLoop) -> Evidence:
        """Nothing breaks any more; everything has to come to rest."""
        self.weather = CALM
        loop.paused.clear()
        if self.server is not None:
            self.server.start()
        for node in self.nodes.values():
            node.clock.offset_s = 0.0
        end = loop.time() + REST_S
        while loop.time() < end:
            await asyncio.sleep(2.0)
            found = await self._evidence(loop, True)
            if found.nothing_left and loop.time() > CHAOS_S + 2.0:
                return found
        return await self._evidence(loop, False)

    async def _open(self) -> Any:
        path = self.folder / f"{self.seed}.db"
        shutil.copyfile(template(self.folder), path)
        made = backend_class("db", "sqlite:///x", where="database.url")
        clock = NodeClock(asyncio.get_running_loop(), "database")
        backend: Any = made.from_url(
            f"sqlite:////{path}", settings=DatabaseSettings(), data_dir=self.folder, clock=clock
        )
        await backend.start()
        backend.plans = _plans.setdefault("sqlite", backend.plans)
        self.reader = Database("test", metadata)
        self.reader.bind(backend)
        return backend

    async def _evidence(self, loop: SimulatedLoop, rested: bool) -> Evidence:
        read = self.reader.read()
        hot = await read.all(_hot, tuple)
        self._look_at_leases(hot, EPOCH + loop.time())
        return Evidence(
            intents=await read.all(sa.select(intents), tuple),
            effects=await read.all(sa.select(effects).order_by(effects.c.id), tuple),
            finished=await read.all(
                sa.select(archive.c.id, archive.c.handler, archive.c.state, archive.c.error), tuple
            ),
            pending=[(id_, handler, state) for id_, handler, state, _ in hot],
            unsent=await read.all(sa.select(outbox.c.id).where(outbox.c.sent_at.is_(None)), int),
            at_broker=self.server.count() if self.server is not None else 0,
            overlong=list(self.overlong.values()),
            early=self.early,
            acknowledged=self.acknowledged,
            rolled_back=self.rolled_back,
            until=EPOCH + loop.time(),
            rested=rested,
            given_up=await self._given_up(),
        )

    def _look_at_leases(self, hot: list[tuple[Any, ...]], now: float) -> None:
        for id_, handler, _, until in hot:
            left_s = until - now if until is not None else 0.0
            if left_s > SETTINGS.lease_s + SKEW_MIN_S and id_ not in self.overlong:
                self.overlong[id_] = (
                    f"message {id_} of {handler} for {left_s:.3f} s more, of {SETTINGS.lease_s:g} s"
                )

    async def _given_up(self) -> set[tuple[str, str]]:
        dead = await self.reader.read().all(_dead, tuple)
        payloads = [(handler, msgspec.json.decode(payload)) for handler, payload in dead]
        return {(handler.partition(".")[2], body.get("data", body)["uid"]) for handler, body in payloads}

    def _digest(self, evidence: Evidence, loop: SimulatedLoop) -> str:
        what = (evidence.intents, evidence.effects, evidence.finished, self.events, loop.steps, loop.time())
        return hashlib.blake2b(repr(what).encode(), digest_size=8).hexdigest()

    def _facts(self, evidence: Evidence, loop: SimulatedLoop) -> dict[str, int]:
        return {
            "intents": len(evidence.intents),
            "effects": len(evidence.effects),
            "faults": len(self.events),
            "steps": loop.steps,
        }


def template(folder: Path) -> Path:
    """An empty database with every table: made once, copied for each seed."""
    path = folder / "template.db"
    if not path.exists():
        engine = sa.create_engine(f"sqlite:///{path}")
        with engine.begin() as connection:
            framework.create_all(connection)
            metadata.create_all(connection)
            connection.execute(sa.insert(counters), [{"key": key, "value": 0} for key in KEYS])
        engine.dispose()
    return path


def simulate(seed: int, folder: Path, breaks: Breaks = SOUND) -> Report:
    """Play one seed. The caller has called :func:`~support.simulation.loop.without_threads`."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        shutil.copyfile(template(folder), Path(place) / "template.db")
        with asyncio.Runner(loop_factory=lambda: SimulatedLoop(seed)) as runner:
            return runner.run(World(seed, Path(place), breaks).run())
