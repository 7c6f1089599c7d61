"""What the outbox tells Prometheus: how much waits to be published, and for how long."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from tenfold.telemetry import names
from tenfold.telemetry.counting import Counting

if TYPE_CHECKING:
    from tenfold._core.clock import Clock
    from tenfold.events.admin import EventsAdmin
    from tenfold.telemetry.metrics import Registry

log = logging.getLogger("tenfold.events")


class LagMetrics(Counting):
    """Counts what waits in the outbox."""

    def __init__(self, registry: Registry, admin: EventsAdmin, clock: Clock) -> None:
        super().__init__(clock, "the outbox", log)
        self._admin = admin
        self._unsent: dict[tuple[str, ...], float] = {}
        self._oldest: dict[tuple[str, ...], float] = {}
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

    async def look(self) -> None:
        """Count now; a topic that was behind and no longer is shows 0."""
        lag = await self._admin.lag()
        clear = dict.fromkeys(self._unsent, 0.0)
        self._unsent = {**clear, **{(one.topic,): one.unsent for one in lag}}
        self._oldest = {**clear, **{(one.topic,): one.oldest_s for one in lag}}
