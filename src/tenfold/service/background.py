"""How a service declares its background work."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, overload

from tenfold.events.subscription import Subscription
from tenfold.events.topic import Topic
from tenfold.jobs.delivery import Delivery
from tenfold.jobs.job import Job, Unique
from tenfold.queue.options import QueueOptions
from tenfold.queue.retry import Retry
from tenfold.schedules.calendar import MISSED_MAX, Missed
from tenfold.schedules.schedule import Schedule
from tenfold.service.declarations import Declarations

if TYPE_CHECKING:
    pass

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])


class _JobDecorator(Protocol):
    """Turns a function into a job of the same signature."""

    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> Job[P, R]: ...

    @overload
    def __call__(self, fn: Callable[P, R], /) -> Job[P, R]: ...


class Background(Declarations):
    """Jobs, subscribers, queues and schedules."""

    def job(
        self,
        *,
        retry: Retry | None = None,
        timeout: float | None = 60.0,
        queue: str = "default",
        priority: int = 0,
        unique: Unique = False,
        concurrency: int | None = None,
        cpu: bool = False,
        result_ttl: float | None = None,
        events: Sequence[Topic[Any]] = (),
        name: str | None = None,
    ) -> _JobDecorator:
        """Background work: ``await fn.enqueue(tx, …)`` makes it exist if and only if ``tx`` commits.

        The options are described in :class:`~tenfold.jobs.job.Job`; times are in seconds. ``events`` are the topics
        that it waits for, when it is a :class:`~tenfold.jobs.flow.Flow`.
        """

        def declare(fn: Callable[P, Any]) -> Job[P, Any]:
            job: Job[P, Any] = Job(
                self.name,
                fn,
                name=name,
                retry=retry,
                timeout=timeout,
                queue=queue,
                priority=priority,
                unique=unique,
                concurrency=concurrency,
                cpu=cpu,
                result_ttl=result_ttl,
                deliveries=[self._delivery(topic) for topic in events],
            )
            self.jobs.append(job)
            return job

        return declare

    def _delivery(self, topic: Topic[Any]) -> Delivery:
        """What brings the events of a topic to the flows of this service: one for all of them."""
        for known in self.subscriptions:
            if isinstance(known, Delivery) and known.topic is topic:
                return known
        made = Delivery(self.name, topic)
        self.subscriptions.append(made)
        return made

    def on(
        self,
        topic: Topic[Any],
        *,
        retry: Retry | None = None,
        timeout: float | None = 60.0,
        queue: str = "default",
        priority: int = 0,
        concurrency: int | None = None,
        name: str | None = None,
    ) -> Callable[[F], F]:
        """Handle every event of ``topic``: inbox row, effect and acknowledgement commit together."""

        def declare(fn: F) -> F:
            subscription = Subscription(
                self.name,
                topic,
                fn,
                name=name,
                retry=retry,
                timeout=timeout,
                queue=queue,
                priority=priority,
                concurrency=concurrency,
            )
            self.subscriptions.append(subscription)
            return fn

        return declare

    def queue(
        self,
        name: str,
        *,
        rate: str = "",
        concurrency: int | None = None,
        fair: bool = True,
        keep: Mapping[str, float] | None = None,
    ) -> QueueOptions:
        """Say something of a queue; all queues exist anyway. Each can be said differently under ``[queues.NAME]``.

        ``rate`` bounds how many messages start ("100/minute", "100/minute burst 10"), ``concurrency`` how many run at a
        time, both in the whole fleet. ``fair`` (default): its tenants take turns. ``keep`` says for how many seconds
        finished messages are kept: ``{"done": …, "dead": …, "cancelled": …}``.
        """
        options = QueueOptions(name, rate, concurrency, fair, keep)
        self.queues.append(options)
        return options

    def every(
        self,
        when: str | float | timedelta,
        *,
        timezone: str = "UTC",
        missed: Missed = "once",
        missed_max: int = MISSED_MAX,
        queue: str = "default",
        retry: Retry | None = None,
        timeout: float | None = 300.0,
        name: str | None = None,
    ) -> Callable[[F], F]:
        """Run at every tick of a cron expression or an interval (seconds), once in the whole fleet.

        ``missed``, ``missed_max`` and ``timezone`` are described in :class:`~tenfold.schedules.schedule.Schedule`; ``timeout`` is
        in seconds.
        """

        def declare(fn: F) -> F:
            schedule = Schedule(
                self.name,
                fn,
                when,
                timezone=timezone,
                missed=missed,
                missed_max=missed_max,
                queue=queue,
                retry=retry,
                timeout=timeout,
                name=name,
            )
            self.schedules.append(schedule)
            return fn

        return declare
