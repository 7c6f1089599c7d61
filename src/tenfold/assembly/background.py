"""An app's background work: declarations bound to queues, and the workers that run them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from tenfold._core.lifecycle import Part
from tenfold._core.text import nearest
from tenfold.assembly.events import Events
from tenfold.assembly.queues import queues_of
from tenfold.errors import DeclarationError
from tenfold.events.subscription import Subscription
from tenfold.events.topic import Topic
from tenfold.jobs import work
from tenfold.jobs.cpu import CpuPool
from tenfold.jobs.gatherer import Gatherer
from tenfold.queue.metrics import DepthMetrics, HandledMetrics
from tenfold.queue.worker import Worker
from tenfold.schedules.ticker import Ticker

Work = Literal["all", "relay", "scheduler"]
"""See :attr:`tenfold.app.App.work`."""

if TYPE_CHECKING:
    from tenfold.app import App
    from tenfold.db.database import Database
    from tenfold.jobs.job import Job
    from tenfold.queue.handler import Handler
    from tenfold.queue.queue import Queue
    from tenfold.schedules.schedule import Schedule
    from tenfold.telemetry.hub import Hub


class Background:
    """A part: bound from ``start`` to ``stop``. ``worker`` is another part, for processes that run messages."""

    def __init__(self, app: App, telemetry: Hub, pressure: Callable[[], float] = lambda: 0.0) -> None:
        self._app = app
        self._telemetry = telemetry
        self._pressure = pressure
        self._databases: dict[str, Database] = {d.name: d for d in app.databases}
        self.queues = queues_of(app)
        self.events = Events(app, telemetry, self.queues)
        self.handlers: dict[str, Handler] = {}
        self.workers: list[Worker] = []
        self.worker = _Workers(app, self.workers, self.events)
        self._depths: list[DepthMetrics] = []
        self._check()

    async def start(self) -> None:
        if not self._databases:
            return
        self.events.bind()
        self._bind()
        store = self._telemetry.store
        handled = HandledMetrics(
            self._telemetry.registry, self._app.clock, None if store is None else store.feed
        )
        for queue in self._all_queues():
            self.workers.append(self._worker(queue, handled))
            depth = DepthMetrics(self._telemetry.registry, queue, self._app.clock)
            await depth.start()
            self._depths.append(depth)

    async def stop(self) -> None:
        while self._depths:
            await self._depths.pop().stop()
        for job in (*self._app.jobs, *self._jobs_elsewhere()):
            job.unbind()
        for topic in self._topics():
            topic.unbind()
        await self.events.unbind()
        for service in self._app.services:
            for hook in service.webhooks_in:
                hook.unbind()
        self.workers.clear()
        self.handlers.clear()

    def _bind(self) -> None:
        container, databases = self._app.container, self._databases
        found: list[Handler] = [work.handler()]
        for service in self._app.services:
            database = databases.get(service.name)
            found += [job.bind(self.queues, container, database) for job in service.jobs]
            found += [subscription.bind(container, database) for subscription in service.subscriptions]
            found += [schedule.bind(container, database) for schedule in service.schedules]
            found += [hook.bind(self.queues, container, database) for hook in service.webhooks_in]
        # To be put into a database that is shared; they run where they are served.
        for job in self._jobs_elsewhere():
            job.bind(self.queues, container, next(iter(databases.values())))
        outbox = self.events.outbox if self.events.broker is not None else None
        subscriptions = [s for service in self._app.everywhere for s in service.subscriptions]
        for topic in self._topics():
            topic.bind(self.queues, [s.route for s in subscriptions if s.topic is topic], outbox)
        self.handlers.update({handler.name: handler for handler in found})

    def _worker(self, queue: Queue, handled: HandledMetrics) -> Worker:
        settings = self._app.settings
        gatherer = Gatherer(queue, settings.worker.retention_s)
        worker = Worker(
            queue,
            self.handlers,
            settings.worker,
            self._app.clock,
            queues=() if self._app.work == "scheduler" else None,
            executor=CpuPool(settings.worker.processes),
            sources=[Ticker(self._schedules_of(queue), queue), gatherer],
            observer=handled,
            ended=gatherer.ended,
            drain_s=settings.app.stop_timeout_s / 2,
            pressure=self._pressure,
            tracer=self._telemetry.tracer,
        )
        self._telemetry.numbers("tenfold_worker", "What this process's worker did.", ({}, worker.stats))
        return worker

    def _schedules_of(self, queue: Queue) -> list[Schedule]:
        """A schedule ticks in one queue: that of its service's database, or the app's first."""
        found: list[Schedule] = []
        for service in self._app.services:
            database = self._databases.get(service.name) or next(iter(self._databases.values()))
            if self.queues.of(database) is queue:
                found += service.schedules
        return found

    def _all_queues(self) -> list[Queue]:
        for database in self._databases.values():
            self.queues.of(database)
        return self.queues.all()

    def _topics(self) -> list[Topic[Any]]:
        return [topic for service in self._app.services for topic in service.topics]

    def _jobs_elsewhere(self) -> list[Job[..., Any]]:
        return [job for service in self._app.elsewhere for job in service.jobs]

    def _subscriptions(self) -> list[Subscription]:
        return [s for service in self._app.services for s in service.subscriptions]

    def _check(self) -> None:
        """What can be known without a database: twins, and background work that would have no queue."""
        declared: list[str] = []
        for service in self._app.services:
            declared += [job.name for job in service.jobs]
            declared += [subscription.name for subscription in service.subscriptions]
            declared += [schedule.name for schedule in service.schedules]
            declared += [hook.name for hook in service.webhooks_in]
        for name in declared:
            if declared.count(name) > 1:
                raise DeclarationError(
                    "two jobs, subscribers or schedules have this name.",
                    where=name,
                    remedy="Give one of them another: name=….",
                )
        if declared and not self._databases:
            raise DeclarationError(
                "jobs, subscribers and schedules are kept in a database, and no service has one.",
                where=declared[0],
                remedy="Declare one: db = service.database(metadata).",
            )
        if self.events.broker is not None:
            return  # a broker also brings events of topics whose service runs elsewhere
        topics: list[Topic[Any]] = [topic for service in self._app.everywhere for topic in service.topics]
        for subscription in self._subscriptions():
            if subscription.topic not in topics:
                known = [topic.name for topic in topics]
                raise DeclarationError(
                    f"it subscribes to {subscription.topic.name!r}, whose service is not part of this app."
                    + nearest(subscription.topic.name, known),
                    where=subscription.name,
                    remedy="Add the service that owns the topic to App(…).",
                )


class _Workers:
    """The workers of one process as one part, and what brings them events; stopping again is harmless."""

    def __init__(self, app: App, workers: list[Worker], events: Events) -> None:
        self._app, self._workers, self._events = app, workers, events
        self._started: list[Part] = []

    async def start(self) -> None:
        workers = self._workers if self._app.work != "relay" else []
        events = self._events.parts if self._app.work != "scheduler" else []
        for part in (*workers, *events):
            await part.start()
            self._started.append(part)

    async def stop(self) -> None:
        while self._started:
            await self._started.pop().stop()
