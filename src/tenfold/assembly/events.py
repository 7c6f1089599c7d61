"""An app's events through a broker: the outbox its topics write to, the relay, and an intake per subscription."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tenfold._core.resolve import backend_class
from tenfold.errors import BrokerUnavailable, ConfigError
from tenfold.events.admin import EventsAdmin
from tenfold.events.contract import Broker, Feed
from tenfold.events.intake import Intake
from tenfold.events.metrics import LagMetrics
from tenfold.events.outbox import Outbox
from tenfold.events.relay import Relay
from tenfold.guard.backends._sql import DatabaseGuards
from tenfold.guard.lease import Leases

if TYPE_CHECKING:
    from tenfold._core.sections import EventsSettings
    from tenfold.app import App
    from tenfold.db.database import Database
    from tenfold.events.subscription import Subscription
    from tenfold.queue.queue import Queue, Queues
    from tenfold.telemetry.hub import Hub

log = logging.getLogger("tenfold.events")

PUMPS_MAX = 1_000


class Events:
    """Made before anything connects. Without ``events.url`` there is no broker, and nothing here does anything."""

    def __init__(self, app: App, telemetry: Hub, queues: Queues) -> None:
        self._app, self._telemetry, self._queues = app, telemetry, queues
        self._settings = app.settings.events
        self._databases: dict[str, Database] = {d.name: d for d in app.databases}
        self._outboxes: dict[Queue, Outbox] = {}
        self._relays: list[Relay] = []
        self._intakes: list[Intake] = []
        self.broker: Broker | None = None
        if self._settings.url:
            self.broker = self._make(self._settings)

    def _make(self, settings: EventsSettings) -> Broker:
        made: Broker = backend_class("events", settings.url, where="events.url").from_url(
            settings.url, settings=settings, clock=self._app.clock
        )
        _check(settings, made)
        return made

    # ── what the code declares ──

    @property
    def topics(self) -> Sequence[str]:
        """Those of the app, and those that it only subscribes to."""
        own = [topic.name for service in self._app.services for topic in service.topics]
        return sorted({*own, *(s.topic.name for s in self._subscriptions)})

    @property
    def feeds(self) -> Sequence[Feed]:
        return [Feed(s.name, s.topic.name) for s in self._subscriptions]

    @property
    def _subscriptions(self) -> list[Subscription]:
        return [s for service in self._app.services for s in service.subscriptions]

    # ── life ──

    def outbox(self, database: Database) -> Outbox:
        """Where topics write what they publish in transactions on ``database``, when there is a broker."""
        assert self.broker is not None
        queue = self._queues.of(database)
        if queue not in self._outboxes:
            self._outboxes[queue] = Outbox(queue, self.broker.capabilities.size_max_bytes)
        return self._outboxes[queue]

    def bind(self) -> None:
        """Make relays and intakes; they do nothing before they are started as :attr:`parts`."""
        if self.broker is None or not self._databases:
            return
        for database in self._databases.values():
            self.outbox(database)
        for queue, outbox in self._outboxes.items():
            queue.keep = queue.keep._replace(inbox_s=self._settings.inbox_keep_s)
            self._relays.append(
                Relay(
                    outbox,
                    self.broker,
                    self,
                    self._settings,
                    self._app.clock,
                    self._leases(queue),
                    app=self._app.name,
                )
            )
        self._intakes += [self._intake(subscription, self.broker) for subscription in self._subscriptions]
        self._show()

    async def unbind(self) -> None:
        """Let go of the broker, also where it was used without its parts."""
        for intake in self._intakes:
            await intake.close()
        if self.broker is not None:
            await self.broker.stop()
        self._outboxes.clear()
        self._relays.clear()
        self._intakes.clear()

    def admin(self, queue: Queue) -> EventsAdmin:
        """What people do with the events in a database."""
        return EventsAdmin(queue, self.broker)

    @property
    def parts(self) -> list[Any]:
        """What runs where workers run, in the order of starting."""
        if self.broker is None:
            return []
        lags = [LagMetrics(self._telemetry.registry, self.admin(q), self._app.clock) for q in self._outboxes]
        return [_Connection(self.broker, self._telemetry), *lags, *self._relays, *self._intakes]

    async def pump(self) -> int:
        """Publish and take in all there is, by hand; answers how much (for tests)."""
        moved = 0
        for _ in range(PUMPS_MAX):
            before = moved
            for intake in self._intakes:
                moved += await intake.turn()
            for relay in self._relays:
                already = relay.published
                await relay.turn()
                moved += relay.published - already
            if moved == before:
                break
        return moved

    def _leases(self, queue: Queue) -> Leases:
        """In the database of the outbox, wherever the app keeps its other leases: who can lead can also read."""
        return Leases(DatabaseGuards(queue.database).leases(), self._app.clock)

    def _intake(self, subscription: Subscription, broker: Broker) -> Intake:
        first = next(iter(self._databases.values()))
        queue = self._queues.of(self._databases.get(subscription.service, first))
        feed = Feed(subscription.name, subscription.topic.name)
        leases = self._leases(queue)
        return Intake(feed, subscription.route, queue, broker, self, self._settings, self._app.clock, leases)

    def _show(self) -> None:
        self._telemetry.numbers(
            "tenfold_events_relay", "What this process's relay did.", *(({}, r.stats) for r in self._relays)
        )
        taken: list[tuple[Mapping[str, str], Any]] = [
            ({"handler": i.feed.name}, lambda i=i: {"taken_total": i.taken}) for i in self._intakes
        ]
        self._telemetry.numbers(
            "tenfold_events_intake", "Events that this process took in from the broker.", *taken
        )


class _Connection:
    """The broker's connection as a part: made where it is needed, and not insisted on."""

    def __init__(self, broker: Broker, telemetry: Hub) -> None:
        self._broker, self._telemetry = broker, telemetry

    async def start(self) -> None:
        self._telemetry.check("events", self._health)
        try:
            await self._broker.start()
        except BrokerUnavailable as error:
            log.warning("the app starts without its broker, events wait in the outbox: %s", error)

    async def stop(self) -> None:
        await self._broker.stop()

    async def _health(self) -> str:
        """Never fails: without the broker the app goes on, and its events wait."""
        try:
            await self._broker.health()
        except BrokerUnavailable as error:
            return f"Events wait in the outbox: {error}"
        return "The broker answers."


def _check(settings: EventsSettings, broker: Broker) -> None:
    """Whoever forgets what it handled before the others forget to send it would handle it twice."""
    kept = {
        "events.outbox_keep_s": settings.outbox_keep_s,
        "the broker's own retention": broker.keep_s or 0.0,
    }
    for what, seconds in kept.items():
        if settings.inbox_keep_s < seconds:
            raise ConfigError(
                f"handled events are remembered for {settings.inbox_keep_s:g} s, and {what} is {seconds:g} s: an old "
                "event that comes again would be handled again.",
                where="events.inbox_keep_s",
                remedy=f"Set it to at least {seconds:g}.",
            )
