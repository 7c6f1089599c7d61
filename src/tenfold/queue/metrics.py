"""What the queue tells Prometheus: what was handled, how long it took, what waits."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import msgspec

from tenfold.queue.admin import Admin
from tenfold.telemetry import names
from tenfold.telemetry.counting import Counting
from tenfold.telemetry.store.records import JobSummary

if TYPE_CHECKING:
    from tenfold._core.clock import Clock
    from tenfold.queue.queue import Queue
    from tenfold.queue.runner import Run
    from tenfold.telemetry.metrics import Counter, Histogram, Registry
    from tenfold.telemetry.store.feed import Feed

log = logging.getLogger("tenfold.queue")


class HandledMetrics:
    """The worker's observer: messages by handler and outcome, and the time each took; with a ``feed``, also run by run."""

    def __init__(self, registry: Registry, clock: Clock, feed: Feed | None = None) -> None:
        self._clock, self._feed = clock, feed
        self._handled = registry.counter(
            names.QUEUE_HANDLED, "Messages handled, by what became of them.", (names.HANDLER, names.OUTCOME)
        )
        self._took = registry.histogram(
            names.QUEUE_DURATION, "How long one run of a handler took, in seconds.", (names.HANDLER,)
        )
        self._children: dict[tuple[str, str], tuple[Counter, Histogram]] = {}

    def settled(self, run: Run, verdict: str, seconds: float, error: str) -> None:
        message = run.message
        key = (message.handler, verdict)
        if key not in self._children:
            self._children[key] = (self._handled.labels(*key), self._took.labels(message.handler))
        handled, took = self._children[key]
        handled.inc()
        took.observe(seconds)
        if self._feed is not None and self._feed.wants_run(verdict, message.id):
            self._feed.job(self._summary(run, verdict, seconds, error))

    def _summary(self, run: Run, verdict: str, seconds: float, error: str) -> JobSummary:
        message, now = run.message, self._clock.now()
        context = msgspec.json.decode(message.context, type=_Sender) if message.context else _Sender()
        return JobSummary(
            at=now,
            queue=message.queue,
            handler=message.handler,
            outcome=verdict,
            seconds=seconds,
            wait_s=max(0.0, now - seconds - message.run_at),
            attempt=message.attempt,
            trace_id=run.trace_id or context.trace_id,
            job_id=str(message.id),
            tenant=context.tenant,
            error=error,
        )


class _Sender(msgspec.Struct):
    """What a run's record takes from the context that its message carries."""

    trace_id: str = ""
    tenant: str = ""


class DepthMetrics(Counting):
    """Counts what waits in a queue."""

    def __init__(self, registry: Registry, queue: Queue, clock: Clock) -> None:
        super().__init__(clock, "the queue", log)
        self._admin = Admin(queue)
        self._messages: dict[tuple[str, ...], float] = {}
        self._oldest_s = 0.0
        registry.reading(
            names.QUEUE_MESSAGES,
            "Messages by queue and state; dead ones are kept until they are retried or discarded.",
            lambda: self._messages,
            (names.QUEUE, "state"),
        )
        registry.reading(
            names.QUEUE_OLDEST,
            "How long the oldest ready message has been due, in seconds.",
            lambda: self._oldest_s,
        )

    async def look(self) -> None:
        """Count now."""
        counts = await self._admin.counts()
        self._messages = {(count.queue, count.state): count.messages for count in counts}
        self._oldest_s = await self._admin.lag_s()
