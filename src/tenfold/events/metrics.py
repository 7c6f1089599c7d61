"""What the outbox tells Prometheus: how much waits to be published, and for how long."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from tenfold._core.tasks import end_tasks
from tenfold.errors import DatabaseError
from tenfold.telemetry import names

if TYPE_CHECKING:
    from tenfold._core.clock import Clock
    from tenfold.events.admin import EventsAdmin
    from tenfold.telemetry.metrics import Registry

log = logging.getLogger("tenfold.events")

LOOK_S = 5.0
COST_MAX = 0.02
"""At most this share of the time is spent counting, however long the outbox is."""


class LagMetrics:
    """A part that looks at the outbox every few seconds, never at a scrape."""

    def __init__(self, registry: Registry, admin: EventsAdmin, clock: Clock) -> None:
        self._admin, self._clock = admin, clock
        self._unsent: dict[tuple[str, ...], float] = {}
        self._oldest: dict[tuple[str, ...], float] = {}
        self._task: asyncio.Task[None] | None = None
        registry.reading(
            names.EVENTS_UNSENT,
            "Events in the outbox that are not published yet.",
            lambda: self._unsent,
            (names.TOPIC,),
        )
        registry.reading(
            names.EVENTS_OLDEST,
            "How long the oldest event that is not published has been waiting, in seconds.",
            lambda: self._oldest,
            (names.TOPIC,),
        )

    async def start(self) -> None:
        self._task = asyncio.create_task(self._watch(), name="tenfold-events-lag")

    async def stop(self) -> None:
        task, self._task = self._task, None
        await end_tasks(task)

    async def look(self) -> None:
        """Count now; a topic that was behind and no longer is shows 0."""
        lag = await self._admin.lag()
        clear = dict.fromkeys(self._unsent, 0.0)
        self._unsent = {**clear, **{(one.topic,): one.unsent for one in lag}}
        self._oldest = {**clear, **{(one.topic,): one.oldest_s for one in lag}}

    async def _watch(self) -> None:
        while True:
            begun = self._clock.monotonic()
            try:
                await self.look()
            except DatabaseError as error:
                log.warning("the outbox could not be counted: %s", error)
            took = self._clock.monotonic() - begun
            await self._clock.sleep(max(LOOK_S, took / COST_MAX))
