"""A queue on a fresh database with declarations bound to it, for tests."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from tenfold._core.clock import Clock, ManualClock
from tenfold._core.container import Container
from tenfold._core.resolve import backend_class
from tenfold._core.sections import DatabaseSettings, WorkerSettings
from tenfold.db import Database
from tenfold.db.contract import DatabaseBackend
from tenfold.db.schema import framework
from tenfold.events import Subscription, Topic
from tenfold.jobs import Job, work
from tenfold.jobs.gatherer import Gatherer
from tenfold.queue.admin import Admin
from tenfold.queue.handler import Handler
from tenfold.queue.queue import Queue, Queues
from tenfold.queue.worker import Worker
from tenfold.schedules import Schedule, Ticker

metadata = sa.MetaData()
effects = sa.Table(
    "effect",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("what", sa.Text, nullable=False),
)
counters = sa.Table(
    "counter",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("value", sa.Integer, nullable=False),
)
add_effect = sa.insert(effects)
all_effects = sa.select(effects.c.what).order_by(effects.c.id)

DATABASE = "sqlite:///app.db"

Declaration = Job[Any, Any] | Subscription | Schedule | Topic[Any]


@dataclass
class Rig:
    """Everything a test of the queue holds."""

    clock: Any
    db: Database
    queue: Queue
    queues: Queues
    container: Container
    handlers: dict[str, Handler]
    ticker: Ticker

    def worker(self, **changes: Any) -> Worker:
        """A worker that is not started; ``run_pending`` drives it."""
        settings = WorkerSettings(**changes.pop("settings", {}))
        handlers = changes.pop("handlers", self.handlers)
        gatherer = Gatherer(self.queue, settings.retention_s)
        sources = (self.ticker, gatherer)
        return Worker(
            self.queue, handlers, settings, self.clock, sources=sources, ended=gatherer.ended, **changes
        )

    @property
    def admin(self) -> Admin:
        return Admin(self.queue)

    async def did(self) -> list[str]:
        """What the handlers wrote into the table of effects, in order."""
        return await self.db.read().all(all_effects, str)

    async def states(self) -> dict[int, str]:
        """Every message's state by id."""
        return {info.id: info.state for info in await self.admin.list(limit=500)}


@asynccontextmanager
async def rig(
    folder: Path,
    *declarations: Declaration,
    clock: Clock | None = None,
    database: str | None = None,
    make: bool = True,
    connections: int = 10,
) -> AsyncGenerator[Rig, None]:
    """Start a database, by default one in ``folder``, ``make`` its tables, and bind the declarations to it."""
    clock = clock or ManualClock()
    settings = DatabaseSettings(pool_max=connections)
    url = database or DATABASE
    made: type[DatabaseBackend] = backend_class("db", url, where="database.url")
    backend = made.from_url(url, settings=settings, data_dir=folder, clock=clock)
    await backend.start()
    if make:
        engine = backend.sync_engine()
        framework.create_all(engine)
        metadata.create_all(engine)
        engine.dispose()
    db = Database("test", metadata)
    db.bind(backend)
    queues, container = Queues(clock), Container()
    try:
        queue = queues.of(db)
        handlers = bind(declarations, queues, container, db)
        ticker = Ticker([d for d in declarations if isinstance(d, Schedule)], queue)
        yield Rig(clock, db, queue, queues, container, handlers, ticker)
    finally:
        await backend.stop()


def bind(
    declarations: Sequence[Declaration], queues: Queues, container: Container, db: Database
) -> dict[str, Handler]:
    """What an app does with its declarations at start."""
    handlers: list[Handler] = [work.handler()]
    for declared in declarations:
        if isinstance(declared, Job):
            handlers.append(declared.bind(queues, container, db))
        elif isinstance(declared, Subscription | Schedule):
            handlers.append(declared.bind(container, db))
    for topic in {d.topic for d in declarations if isinstance(d, Subscription)}:
        subscriptions = [d for d in declarations if isinstance(d, Subscription) and d.topic is topic]
        topic.bind(queues, [s.route for s in subscriptions])
    return {handler.name: handler for handler in handlers}
