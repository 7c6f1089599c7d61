"""One simulated process: its clock, its way to the database and to the broker, and the parts that it runs."""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from support.simulation.loop import NODE
from tenfold._core.clock import _uuid7
from tenfold._core.container import Container
from tenfold._core.context import Context, enter
from tenfold._core.sections import EventsSettings, WorkerSettings
from tenfold.conformance._altered import alter
from tenfold.db import Database
from tenfold.errors import BrokerUnavailable, DatabaseUnavailable, OutcomeUnknown, StoreUnavailable
from tenfold.events.contract import Feed
from tenfold.events.intake import Intake
from tenfold.events.outbox import Outbox
from tenfold.events.relay import Relay
from tenfold.guard.lease import Leases
from tenfold.queue.queue import Queues
from tenfold.queue.worker import Worker
from tenfold.schedules.ticker import Ticker

if TYPE_CHECKING:
    from support.simulation.world import World

EPOCH = 1_767_225_600.0
SETTINGS = WorkerSettings(concurrency=4, batch=6, lease_s=6.0, poll_s=1.0)
EVENTS = EventsSettings(url="memory:", lease_s=6.0, poll_s=1.0, batch=5, timeout_s=5.0, retry_max_s=4.0)


@dataclass(frozen=True)
class Weather:
    """How often what goes wrong; shares between 0 and 1."""

    slow: float = 0.3
    """Of statements and commits, by up to half a second."""
    refused: float = 0.02
    """Of transactions: the connection breaks before the COMMIT, nothing happened."""
    unheard: float = 0.02
    """Of transactions: the connection breaks after the COMMIT, nobody hears that it happened."""


CALM = Weather(0.0, 0.0, 0.0)


class NodeClock:
    """A clock that may be wrong: wall time only, as clocks of machines are."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seed: str) -> None:
        self.random = random.Random(seed)
        self._loop = loop
        self.offset_s = 0.0

    def now(self) -> float:
        return EPOCH + self._loop.time() + self.offset_s

    def monotonic(self) -> float:
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def uuid(self) -> str:
        return _uuid7(self.now(), self.random)


class Node:
    """Runs from :meth:`start` until :meth:`kill`; what it has not committed then is gone."""

    def __init__(self, name: str, world: World, metadata: sa.MetaData) -> None:
        self.name, self.world = name, world
        self.loop = asyncio.get_running_loop()
        self.clock = NodeClock(self.loop, f"{world.seed}/{name}")
        self.alive = True
        self.tasks: dict[
            asyncio.Task[Any], None
        ] = {}  # in the order of their beginning; that of a set is not in the seed
        self.db = Database("test", metadata)
        self.db.bind(self._unreliable(world.backend))
        queues = Queues(self.clock)
        self.queue = queues.of(self.db)
        self.queue.backend = world.breaks.queue(self._timed(self.queue.backend))
        self.declared = world.declare(self)
        container = Container()
        handlers = [job.bind(queues, container, self.db) for job in self.declared.jobs]
        handlers += [subscription.bind(container, self.db) for subscription in self.declared.subscriptions]
        handlers += [schedule.bind(container, self.db) for schedule in self.declared.schedules]
        self.outbox = Outbox(self.queue)
        brokered = world.server is not None
        routes = [s.route for s in self.declared.subscriptions]
        self.declared.topic.bind(queues, routes, (lambda _: self.outbox) if brokered else None)
        ticker = world.breaks.ticker(self.declared.schedules, self.queue) or Ticker(
            self.declared.schedules, self.queue
        )
        bound = {handler.name: world.breaks.handler(handler) for handler in handlers}
        self.worker = Worker(self.queue, bound, SETTINGS, self.clock, sources=[ticker], drain_s=2.0)
        self.parts: list[Any] = [self.worker, *(self._carriers() if brokered else [])]

    def _carriers(self) -> list[Any]:
        """Relay and intakes."""
        leases = Leases(self._leases(self.world.leases), self.clock)
        topic = self.declared.topic.name
        self.topics, self.feeds = [topic], [Feed(s.name, topic) for s in self.declared.subscriptions]
        broker = self._broker(self.world.broker())
        relay = self.world.breaks.relay(
            Relay(self.outbox, broker, self, EVENTS, self.clock, leases, app="sim")
        )
        return [
            relay,
            *(
                Intake(feed, s.route, self.queue, broker, self, EVENTS, self.clock, leases)
                for feed, s in zip(self.feeds, self.declared.subscriptions, strict=True)
            ),
        ]

    # ── life ──

    def start(self) -> None:
        self.spawn(self._run)

    async def _run(self) -> None:
        for part in self.parts:
            while True:
                try:
                    await part.start()
                    break
                except (DatabaseUnavailable, OutcomeUnknown, BrokerUnavailable):
                    await self.clock.sleep(0.5)

    def spawn(self, work: Callable[[], Any]) -> None:
        """Run ``work()`` as a task of this process."""
        context = contextvars.Context()
        context.run(NODE.set, self.name)
        context.run(enter, Context())
        context.run(lambda: self.loop.create_task(work()))

    def kill(self) -> None:
        """SIGKILL: no step of it is of any consequence from now on."""
        self.alive = False
        for task in list(self.tasks):
            task.cancel()

    def check(self, error: type[Exception] = DatabaseUnavailable) -> None:
        if not self.alive:
            raise error("the process was killed.")

    # ── what it reaches ──

    async def pause(self, error: type[Exception] = DatabaseUnavailable) -> None:
        """The way there, or back."""
        if self.world.random.random() < self.world.weather.slow:
            await asyncio.sleep(self.world.random.uniform(0.0, 0.5))
        self.check(error)

    def _unreliable(self, backend: Any) -> Any:
        """Transactions that begin late, break, and end unheard."""

        def transaction(it: Any, **options: Any) -> Any:
            self.check()
            return alter(
                it.inner.transaction(**options), commit=self._commit, fetch=self._first("fetch"), run=self._first("run"),
                fetch_now=_not_now, run_now=_not_now,
            )  # fmt: skip

        def reader(it: Any) -> Any:
            async def fetch(channel: Any, *args: Any) -> Any:
                await self.pause()
                return await channel.inner.fetch(*args)

            return alter(it.inner.reader(), fetch=fetch, fetch_now=_not_now)

        return alter(backend, transaction=transaction, reader=reader)

    def _first(self, name: str) -> Callable[..., Any]:
        async def statement(channel: Any, *args: Any) -> Any:
            if not channel.inner.started:
                await self.pause()
            self.check()
            return await getattr(channel.inner, name)(*args)

        return statement

    async def _commit(self, channel: Any) -> bool:
        weather, dice = self.world.weather, self.world.random.random()
        if not self.alive or (channel.inner.started and dice < weather.refused):
            await channel.inner.rollback()
            raise DatabaseUnavailable("the connection broke before COMMIT.")
        cancelled: bool = await channel.inner.commit()
        if channel.inner.started and dice > 1 - weather.unheard:
            raise OutcomeUnknown("the connection broke at COMMIT.")
        await self.pause(OutcomeUnknown)
        return cancelled

    def _timed(self, backend: Any) -> Any:
        """The queue's time is that of the database's server, whatever this machine's clock says."""

        async def look(it: Any, *args: Any) -> Any:
            found = await it.inner.look(*args)
            return found._replace(server_at=EPOCH + self.loop.time())

        return alter(backend, look=look)

    def _leases(self, store: Any) -> Any:
        async def call(it: Any, *args: Any, name: str = "") -> Any:
            await self.pause(StoreUnavailable)
            return await getattr(it.inner, name)(*args)

        def named(name: str) -> Callable[..., Any]:
            return lambda it, *args: call(it, *args, name=name)

        return alter(store, **{name: named(name) for name in ("acquire", "renew", "release", "holder")})

    def _broker(self, broker: Any) -> Any:
        """Confirmations get lost, deliveries are repeated."""

        async def publish(it: Any, events: Any) -> None:
            await self.pause(BrokerUnavailable)
            events = self.world.breaks.publish(events)
            await it.inner.publish(events)
            if self.world.random.random() < 2 * self.world.weather.unheard:
                raise BrokerUnavailable("the connection broke before the confirmation.")
            await self.pause(BrokerUnavailable)

        async def consume(it: Any, feed: Any) -> Any:
            await self.pause(BrokerUnavailable)
            return alter(await it.inner.consume(feed), fetch=fetch, acknowledge=acknowledge)

        async def fetch(it: Any, limit: int, wait_s: float) -> Any:
            self.check(BrokerUnavailable)
            return await it.inner.fetch(limit, wait_s)

        async def acknowledge(it: Any, events: Any) -> None:
            await self.pause(BrokerUnavailable)
            if self.world.random.random() < 2 * self.world.weather.unheard:
                raise BrokerUnavailable("the connection broke before the acknowledgement.")
            await it.inner.acknowledge(events)

        return alter(broker, publish=publish, consume=consume)


def _not_now(it: Any, *args: Any) -> None:
    return None
