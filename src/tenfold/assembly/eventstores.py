"""An app's event stores: aggregates bound to their databases, projections to what runs them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tenfold._core.resolve import backend_class
from tenfold.errors import DeclarationError
from tenfold.eventstore import progress
from tenfold.eventstore.aggregate import Aggregate
from tenfold.eventstore.contract import END, EventStoreBackend
from tenfold.eventstore.follower import Follower
from tenfold.eventstore.projection import BoundProjection, Projection
from tenfold.guard.backends._sql import DatabaseGuards
from tenfold.guard.lease import Leases

if TYPE_CHECKING:
    from tenfold.app import App
    from tenfold.db.database import Database
    from tenfold.telemetry.hub import Hub

log = logging.getLogger("tenfold.eventstore")

TOPIC = "events"
"""Of the hints (see :meth:`DatabaseBackend.hint`)."""
POLL_S = {True: 5.0, False: 0.5}
"""How often a follower looks by itself, where hints come from other processes and where they do not."""


class EventStores:
    """A part: bound from ``start`` to ``stop``. ``followers`` is another part, for processes that run messages."""

    def __init__(self, app: App, telemetry: Hub) -> None:
        self._app = app
        self._telemetry = telemetry
        self._ends: list[Callable[[], None]] = []
        self.projections: list[BoundProjection] = []
        self.running: list[Follower] = []
        self.followers = _Followers(self.running)
        self._check()

    @property
    def aggregates(self) -> list[Aggregate[Any, Any]]:
        """Those of the app's services."""
        return [aggregate for service in self._app.services for aggregate in service.aggregates]

    async def start(self) -> None:
        if not self.aggregates:
            return
        self.projections += [p.bind(self._app.container, self.aggregates) for p in self._declared()]
        for projection in self.projections:
            if projection.declared.mode == "async":
                self.running.append(self._follower(projection))
        for aggregate in self.aggregates:
            applied = [
                p.apply for p in self.projections
                if p.declared.mode == "sync" and aggregate.name in p.categories
            ]  # fmt: skip
            aggregate.bind(self._app.clock, applied, self._waker(aggregate) if self.running else None)
        for projection in self.projections:
            if projection.declared.mode == "sync":
                await self._note(projection)
        sources = [({"projection": f.name}, f.numbers) for f in self.running]
        self._telemetry.numbers(
            "tenfold_projection", "How far the projections are that this process runs.", *sources
        )

    async def stop(self) -> None:
        while self._ends:
            self._ends.pop()()
        for aggregate in self.aggregates:
            aggregate.unbind()
        self.projections.clear()
        self.running.clear()

    async def pump(self) -> int:
        """Run asynchronous projections by hand until there is nothing left; answers how many events (for tests)."""
        before = sum(follower.handled for follower in self.running)
        for follower in self.running:
            while await follower.turn():
                pass
        return sum(follower.handled for follower in self.running) - before

    def _declared(self) -> list[Projection]:
        return [projection for service in self._app.services for projection in service.projections]

    def _follower(self, projection: BoundProjection) -> Follower:
        database = projection.declared.database
        backend = database.backend
        follower = Follower(
            projection,
            database,
            lambda: store_of(database),
            Leases(DatabaseGuards(database).leases(), self._app.clock),
            self._app.clock,
            poll_s=POLL_S[backend.capabilities.listen],
        )
        self._ends.append(backend.on_hint(TOPIC, follower.wake))
        return follower

    async def _note(self, projection: BoundProjection) -> None:
        """A synchronous projection that is there before the first event is complete; another one says what it lacks."""
        declared = projection.declared
        async with declared.database.tx() as tx:
            if await progress.read(tx, projection.name) is not None:
                return
            if await store_of(declared.database).follow(tx, projection.categories, 0, END, 1):
                log.warning("projection %s lacks the events before it was declared; run: tenfold projections rebuild %s",
                            projection.name, projection.name)  # fmt: skip
            else:
                await progress.ensure(tx, projection.name, declared.revision, self._app.clock.now())

    def _waker(self, aggregate: Aggregate[Any, Any]) -> Callable[[], None]:
        return lambda: aggregate.database.backend.hint(TOPIC)

    def _check(self) -> None:
        names = [a.name for a in self.aggregates] + [p.name for p in self._declared()]
        for name in names:
            if names.count(name) > 1:
                raise DeclarationError(
                    "two aggregates or projections have this name.",
                    where=name,
                    remedy="Give one of them another: name=….",
                )
        for projection in self._declared():
            for aggregate in projection.aggregates or ():
                if aggregate not in self.aggregates:
                    raise DeclarationError(
                        f"it follows {aggregate.name!r}, whose service is not part of this app.",
                        where=projection.name,
                        remedy="Add the service that owns the aggregate to App(…).",
                    )


def store_of(database: Database) -> EventStoreBackend:
    """The event store in a database that is bound."""
    made: EventStoreBackend = backend_class("eventstore", database.backend.url, where="database.url")()
    return made


class _Followers:
    """The followers of one process as one part; stopping again is harmless."""

    def __init__(self, followers: list[Follower]) -> None:
        self._followers = followers
        self._started: list[Follower] = []

    async def start(self) -> None:
        for follower in self._followers:
            await follower.start()
            self._started.append(follower)

    async def stop(self) -> None:
        while self._started:
            await self._started.pop().stop()
