"""Brings events to the flows that wait for them: one subscription per topic and service that has such flows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from tenfold.db.database import Tx
from tenfold.events.subscription import Subscription
from tenfold.jobs.tables import arrival
from tenfold.jobs.waking import wake_waiting
from tenfold.queue.context import current_job

if TYPE_CHECKING:
    from tenfold.events.topic import Topic
    from tenfold.queue.queue import Queues

KEPT_S = 7 * 86_400.0
"""An event is kept so long for flows that begin to wait for it later."""

_add = sa.insert(arrival)


class Delivery(Subscription):
    """Keeps every event that has a key, and wakes who waits for it, in one transaction."""

    def __init__(self, service: str, topic: Topic[Any]) -> None:
        self.queues: Queues | None = None

        async def deliver(event: Any, tx: Tx) -> None:
            await self._deliver(tx)

        super().__init__(service, topic, deliver, name=f"{topic.name}-to-flows")

    async def _deliver(self, tx: Tx) -> None:
        message = current_job()._message
        if message.order_key is None or self.queues is None:
            return  # nobody can wait for an event without a key
        queue = self.queues.of(tx.database)
        await queue.backend.hold_keys(tx, [message.order_key])
        await tx.execute(
            _add,
            awaits=message.order_key,
            body=message.payload,
            at=message.created_at,
            expires_at=queue.now() + KEPT_S,
        )
        await wake_waiting(tx, queue, message.order_key)
