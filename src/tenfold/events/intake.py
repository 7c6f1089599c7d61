"""The intake: fetches a subscription's events from the broker and writes them into the subscriber's own queue.

A batch is written by one transaction and acknowledged once that has committed, so whatever happens, an event is at the
broker or in the queue. From there everything is as without a broker: the inbox absorbs what came twice, a failure is
retried, the order of a key is kept, what cannot be handled is kept with its error.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING

import msgspec

from tenfold._core.context import Context, Priority, enter, use
from tenfold._core.failpoints import failpoints
from tenfold._core.tasks import end_tasks
from tenfold.errors import (
    BrokerUnavailable,
    DatabaseError,
    LeaseEnded,
    LeaseTaken,
    StatementError,
    StoreUnavailable,
    UndecodableEvent,
)
from tenfold.events.contract import LOOK_S, Feed
from tenfold.events.envelope import context_of, opened, topic_of
from tenfold.events.policy import Failures
from tenfold.events.schema import EventSchema, Refused
from tenfold.events.topic import order_key
from tenfold.queue.expiry import until_of

if TYPE_CHECKING:
    from tenfold._core.clock import Clock
    from tenfold._core.sections import EventsSettings
    from tenfold.events.contract import Broker, Consumer, Incoming
    from tenfold.events.relay import Declared
    from tenfold.events.topic import Route
    from tenfold.guard.lease import Lease, Leases
    from tenfold.queue.message import NewMessage
    from tenfold.queue.queue import Queue

log = logging.getLogger("tenfold.events")

PACE_S = 0.01
"""Turns begin at least so far apart, unless there is a whole batch, so that the next is larger. What a turn has waited for
events counts: the relay gathers too, and what it publishes at once need not wait here again."""
WAIT_S = 1.0
"""Longest wait of one fetch."""
ID_MAX_CHARS = 64
KEPT_MAX_CHARS = 2_000
"""Of a message that the database does not take whole."""


class Intake:
    """A part: takes in for one subscription. ``turn`` is one round, for who drives it by hand."""

    def __init__(
        self,
        feed: Feed,
        route: Route,
        queue: Queue,
        broker: Broker,
        declared: Declared,
        settings: EventsSettings,
        clock: Clock,
        leases: Leases,
    ) -> None:
        self._declared = declared
        self.feed, self._route, self._queue, self._broker = feed, route, queue, broker
        self._settings, self._clock, self._leases = settings, clock, leases
        self._consumer: Consumer | None = None
        self._away = Failures(settings.retry_max_s, clock.random)
        self._task: asyncio.Task[None] | None = None
        self.taken = 0

    # ── life ──

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"tenfold-intake-{self.feed.name}")

    async def stop(self) -> None:
        """At once: what was fetched and not acknowledged comes again, and the inbox knows it."""
        task, self._task = self._task, None
        await end_tasks(task)
        await self.close()

    async def _run(self) -> None:
        enter(Context(operation="events.intake", priority=Priority.CRITICAL))
        while True:
            if self._broker.capabilities.keyed_consumers:
                await self._take_in()
            else:
                await self._take_in_alone()

    async def _take_in_alone(self) -> None:
        """While nobody else does: the order of a key needs it."""
        lease_s, random = self._settings.lease_s, self._clock.random
        try:
            async with self._leases.hold(f"events.intake:{self.feed.name}", lease_s) as lease:
                await self._take_in(lease)
        except LeaseTaken:
            await self._clock.sleep(random.uniform(0.1, 0.3) * lease_s)
        except (LeaseEnded, StoreUnavailable, DatabaseError) as error:
            log.warning("%s stops taking in events: %s", self.feed.name, error)
            await self._clock.sleep(random.uniform(0.05, 0.15) * lease_s)
        finally:
            await self.close()

    async def _take_in(self, lease: Lease | None = None) -> None:
        # Its loss cancels us; that a client can swallow, before Python 3.12.
        while lease is None or lease.remaining_s > 0:
            try:
                began = self._clock.monotonic()
                taken = await self.turn(WAIT_S)
                early_s = began + PACE_S - self._clock.monotonic()
                if 0 < taken < self._settings.batch and early_s > 0:
                    await self._clock.sleep(early_s)
                if self._away.over():
                    self._broker.returns += 1
                    log.info("%s takes in events again", self.feed.name)
            except (BrokerUnavailable, DatabaseError) as error:
                await self.close()
                pause_s = self._away.pause_s()
                if self._away.count == 1:
                    log.warning(
                        "%s takes in no events for now: %s",
                        self.feed.name,
                        error,
                        extra={"event": "events.intake_away"},
                    )
                await self._rest(pause_s)
            except Exception:
                await self.close()
                log.exception("a round of %s failed; nothing is lost, and it is tried again", self.feed.name)
                await self._clock.sleep(self._away.pause_s())

    async def _rest(self, seconds: float) -> None:
        """Sleep, but no longer than until another part of the process has found the broker back."""
        until, returns = self._clock.monotonic() + seconds, self._broker.returns
        while (left := until - self._clock.monotonic()) > 0 and self._broker.returns == returns:
            await self._clock.sleep(min(left, LOOK_S))

    # ── a round ──

    async def turn(self, wait_s: float = 0.0) -> int:
        """Take in one batch; answers how many. Raises BrokerUnavailable or DatabaseError, upon which
        :meth:`close` gives back what was fetched."""
        consumer = await self._open()
        events = await consumer.fetch(self._settings.batch, wait_s)
        if events:
            await self._store(events)
            if failpoints.on:
                failpoints.visit("events.taken")
            await consumer.acknowledge(events)
            self.taken += len(events)
        return len(events)

    async def close(self) -> None:
        """Let go of the broker; the next turn begins anew."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await consumer.close()

    async def _open(self) -> Consumer:
        if self._consumer is None:
            # All of them: on a server that was wiped, none may miss what is published from here on.
            await self._broker.declare(self._declared.topics, self._declared.feeds)
            self._consumer = await self._broker.consume(self.feed)
        return self._consumer

    async def _store(self, events: Sequence[Incoming]) -> None:
        try:
            await self._put([self._message(event) for event in events])
        except StatementError:
            # One of them is more than the database takes. One by one, so that it holds up none of the others.
            for event in events:
                await self._store_one(event)

    async def _store_one(self, event: Incoming) -> None:
        try:
            await self._put([self._message(event)])
        except StatementError as error:
            log.warning("an event of %s cannot be kept whole: %s", self.feed.name, error)
            cut = event._replace(body=event.body[:KEPT_MAX_CHARS], attributes={}, key=None)
            await self._put([self._message(cut, f"the database does not take it whole: {error}")])

    async def _put(self, messages: list[NewMessage]) -> None:
        async with self._queue.database.tx() as tx:
            self._queue.put_all(tx, messages)

    def _message(self, event: Incoming, reason: str = "") -> NewMessage:
        attributes, payload = payload_of(event, reason)
        route = self._route
        context = context_of(attributes)
        with use(Context.from_wire(msgspec.json.decode(context or "{}"))):
            return self._queue.message(
                "event",
                route.name,
                payload,
                queue=route.queue,
                lane=route.lane,
                priority=route.priority,
                order_key=None if event.key is None else order_key(route.name, event.key),
                event_id=identity(event, attributes),
                until=until_of(context),
            )


def payload_of(event: Incoming, reason: str = "") -> tuple[Mapping[str, str], str]:
    """The envelope of an event and the payload of its message. What is no JSON, or is to be refused for ``reason``,
    becomes a payload that does not decode, so that the worker puts it in quarantine with a sentence."""
    if reason:
        return event.attributes, _refused(event, reason)
    try:
        attributes, body = opened(event.attributes, event.body)
        data = body.decode()
        msgspec.json.decode(data, type=msgspec.Raw)
    except (UndecodableEvent, UnicodeDecodeError, msgspec.DecodeError, RecursionError) as error:
        return event.attributes, _refused(event, str(error))
    return attributes, EventSchema.wrap(data, topic_of(attributes)[1])


def _refused(event: Incoming, reason: str) -> str:
    kept = Refused(reason, event.body.decode("utf-8", "backslashreplace"))
    return msgspec.json.encode(kept).decode()


def identity(event: Incoming, attributes: Mapping[str, str]) -> str | None:
    """What the inbox knows an event by; None for one that nobody can tell from others. Ids of other producers are unique
    within their source only."""
    id_ = attributes.get("id") or event.event_id
    if not id_:
        return None
    if topic_of(attributes)[0] == event.topic and len(id_) <= ID_MAX_CHARS and id_.isprintable():
        return id_
    return blake2b(f"{attributes.get('source', '')}\0{id_}".encode(), digest_size=24).hexdigest()
