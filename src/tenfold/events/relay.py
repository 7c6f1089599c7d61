"""The relay: publishes what the outbox holds, and marks what the broker has confirmed.

One process of all that share a database leads, by a lease; the others wait. The lease saves work, the promises do not
depend on it: rows are published in the order of their ids and marked only once confirmed, so whoever publishes a row
has published those before it in its key, or knows them confirmed. Of two leaders at once, each publishes every key in
order, and the first of each event's deliveries are in order too. A mark states a fact, whoever writes it.

A turn costs one statement to read a batch, one round of publishing, and one statement to mark.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from tenfold._core.context import Context, Priority, enter
from tenfold._core.failpoints import failpoints
from tenfold._core.tasks import end_tasks
from tenfold.errors import (
    BrokerUnavailable,
    DatabaseError,
    LeaseEnded,
    LeaseTaken,
    PublishFailed,
    StoreUnavailable,
    UndecodableEvent,
)
from tenfold.events.contract import LOOK_S, Feed, Outgoing
from tenfold.events.envelope import attributes_of
from tenfold.events.policy import Failures, Holds, behind
from tenfold.events.schema import EventSchema

if TYPE_CHECKING:
    from tenfold._core.clock import Clock
    from tenfold._core.sections import EventsSettings
    from tenfold.events.contract import Broker
    from tenfold.events.outbox import Outbox, Row
    from tenfold.guard.lease import Leases

log = logging.getLogger("tenfold.events")

LEASE = "events.relay"
PACE_S = 0.01
"""Turns begin at least so far apart, unless there is a whole batch: at some hundred events a second, one then takes
several, and each costs a fraction. An event that comes after a silence does not wait."""
PRUNE_EVERY_S = 60.0
PRUNE_MAX = 5_000
"""Rows removed by one transaction."""
APART_AFTER = 3
"""Failures of the broker in a row, after which one row at a time is tried: it may be the row that it fails for."""


class Declared(Protocol):
    """What the app's code declares."""

    @property
    def topics(self) -> Sequence[str]: ...

    @property
    def feeds(self) -> Sequence[Feed]: ...


class Relay:
    """A part. ``turn`` is one round, for who drives it by hand (tests, simulations)."""

    def __init__(
        self,
        outbox: Outbox,
        broker: Broker,
        declared: Declared,
        settings: EventsSettings,
        clock: Clock,
        leases: Leases,
        *,
        app: str,
    ) -> None:
        self._outbox, self._broker, self._declared = outbox, broker, declared
        self._settings, self._clock, self._leases, self._app = settings, clock, leases, app
        self._holds = Holds(settings.retry_max_s, clock.random)
        self._away = Failures(settings.retry_max_s, clock.random)
        self._known: frozenset[str] | None = None
        """Topics that were declared; None before the first time, and after an error."""
        self._bell = asyncio.Event()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None
        self._prune_at = clock.monotonic()
        self.leads = False
        self.published = self.refused = self.outages = 0

    # ── life ──

    async def start(self) -> None:
        self._stopping = False
        self._task = asyncio.create_task(self._run(), name="tenfold-relay")

    async def stop(self) -> None:
        """Let the round under way end; what it published is marked."""
        self._stopping = True
        self._bell.set()
        task, self._task = self._task, None
        if task is None:
            return
        await asyncio.wait([task], timeout=self._settings.timeout_s)
        await end_tasks(task)

    def stats(self) -> Mapping[str, int | float]:
        """Counters since the start, and gauges of now."""
        return {
            "published_total": self.published,
            "refused_total": self.refused,
            "outages_total": self.outages,
            "leads": int(self.leads),
            "held_lines": len(self._holds),
        }

    # ── leading ──

    async def _run(self) -> None:
        enter(Context(operation="events.relay", priority=Priority.CRITICAL))
        end = self._outbox.on_wake(self._bell.set)
        try:
            while not self._stopping:
                await self._try_to_lead()
        finally:
            end()

    async def _try_to_lead(self) -> None:
        lease_s = self._settings.lease_s
        try:
            async with self._leases.hold(LEASE, lease_s):
                self.leads = self._outbox.leads = True
                await self._lead()
        except LeaseTaken:
            await self._rest(self._clock.random.uniform(0.1, 0.3) * lease_s)
        except (LeaseEnded, StoreUnavailable, DatabaseError) as error:
            log.warning("the relay of events stops leading: %s", error)
            await self._rest(self._clock.random.uniform(0.05, 0.15) * lease_s)
        finally:
            self.leads = self._outbox.leads = False

    async def _lead(self) -> None:
        self._known = None
        while not self._stopping:
            self._bell.clear()
            began = self._clock.monotonic()
            pause_s = await self.round()
            if pause_s > 0:
                await self._wait(pause_s)
                if (early_s := began + PACE_S - self._clock.monotonic()) > 0:
                    await self._clock.sleep(early_s)

    async def _wait(self, seconds: float) -> None:
        """Until somebody published, or time has passed. While the broker is away, only who finds it back can shorten
        the pause."""
        if self._away.count:
            await self._rest(seconds, until_back=True)
            return
        try:
            async with asyncio.timeout(seconds):
                await self._bell.wait()
        except TimeoutError:
            return

    async def _rest(self, seconds: float, *, until_back: bool = False) -> None:
        """Sleep, but for the end, or until another part of the process has found the broker back."""
        until, returns = self._clock.monotonic() + seconds, self._broker.returns
        while not self._stopping and (left := until - self._clock.monotonic()) > 0:
            if until_back and self._broker.returns != returns:
                return
            await self._clock.sleep(min(left, LOOK_S))

    # ── a round ──

    async def round(self) -> float:
        """A turn, whatever becomes of it; answers how long to wait before the next one: 0 when there may be more."""
        try:
            more = await self.turn()
            await self._prune()
        except BrokerUnavailable as error:
            return self._broker_failed(error)
        except DatabaseError as error:
            log.warning("the outbox could not be read or marked: %s", error)
            return self._settings.poll_s
        except Exception:
            log.exception("a round of the relay failed; nothing is lost, and it is tried again")
            return self._settings.poll_s
        return 0.0 if more else self._idle_s()

    async def turn(self) -> bool:
        """Publish one batch and mark it; answers whether there may be more to do at once. Raises BrokerUnavailable,
        after which nothing has changed."""
        now, most = self._clock.monotonic(), self._settings.batch
        around = self._holds.around(now)
        found = await self._outbox.unsent(most, around.topics, around.lines)
        if len(found) < most:
            self._holds.gone(found, now)
        if not found:
            return False
        rows = found[:1] if self._away.count >= APART_AFTER else self._holds.batch(found)
        await self._declare(rows)
        failed = await self._publish(rows)
        if failpoints.on:
            failpoints.visit("events.published")
        if self._away.over():
            self._broker.returns += 1
            self._holds.back(now)
            log.info("the broker (events.url) is back", extra={"event": "events.broker_back"})
        sent = [row for n, row in enumerate(rows) if n not in failed]
        self._note(sent, [rows[n] for n in sorted(failed)], failed)
        held = behind(rows, failed)  # was not tried: nothing is to be noted of it
        refused = {rows[n].id: why for n, why in sorted(failed.items()) if n not in held}
        await self._outbox.record([row.id for row in sent], refused, self._clock.now())
        return len(rows) < len(found) or (bool(sent) and len(rows) >= most)

    async def _declare(self, rows: Sequence[Row]) -> None:
        """Topics of the code, and those of rows that other versions of it have written."""
        topics = frozenset(row.topic for row in rows)
        if self._known is None or not topics <= self._known:
            known = topics.union(self._declared.topics)
            await self._broker.declare(sorted(known), self._declared.feeds)
            self._known = known

    async def _publish(self, rows: Sequence[Row]) -> dict[int, str]:
        """What failed, by position."""
        events = [self._outgoing(row) for row in rows]
        failed: dict[int, str] = {}
        try:
            await self._broker.publish(events)
        except PublishFailed as error:
            self._known = None  # a topic may have gone
            failed = error.failed | behind(events, error.failed)
        except BrokerUnavailable as error:
            self._known = None
            if len(rows) > 1 or (not self._away.count and not self._holds.suspects(rows[0])):
                raise
            if self._away.count:
                self._holds.suspect(rows[0], self._clock.monotonic())
                raise
            failed = {0: str(error)}  # others get through: it is this one
        return failed

    def _outgoing(self, row: Row) -> Outgoing:
        try:
            version, data = EventSchema.unwrap(row.payload)
        except (
            UndecodableEvent
        ):  # somebody wrote into the table: subscribers put it in quarantine, with a sentence
            version, data = 1, row.payload.encode()
        attributes = attributes_of(
            app=self._app,
            topic=row.topic,
            version=version,
            event_id=row.event_id,
            key=row.key,
            published_at=row.created_at,
            context=row.context,
        )
        return Outgoing(row.topic, row.key, row.event_id, bytes(data), attributes)

    def _note(self, sent: Sequence[Row], refused: Sequence[Row], why: Mapping[int, str]) -> None:
        self.published += len(sent)
        self._holds.published(sent)
        if not refused:
            return
        self.refused += len(refused)
        self._holds.failed(refused, self._clock.monotonic())
        log.warning(
            "%d events were not published and are tried again, the first: %s",
            len(refused),
            next(iter(why.values())),
            extra={"event": "events.refused", "count": len(refused)},
        )

    def _broker_failed(self, error: BrokerUnavailable) -> float:
        pause_s = self._away.pause_s()
        self._known = None
        if self._away.count == 1:
            self.outages += 1
            log.warning("events wait in the outbox: %s", error, extra={"event": "events.broker_away"})
        return pause_s

    def _idle_s(self) -> float:
        held_s = [at - self._clock.monotonic() for at in (self._holds.next_at(),) if at is not None]
        return max(0.001, min([self._settings.poll_s, *held_s]))

    async def _prune(self) -> None:
        """Remove what was sent long ago, a bounded piece at a time."""
        now = self._clock.monotonic()
        if now < self._prune_at:
            return
        removed = await self._outbox.prune(self._clock.now() - self._settings.outbox_keep_s, PRUNE_MAX)
        self._prune_at = now if removed == PRUNE_MAX else now + PRUNE_EVERY_S
