"""``Subscription``: a function that handles the events of a topic, each exactly once in its own database."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, get_args, get_origin

from tenfold._core.container import describe, hints_of
from tenfold.db.database import Tx
from tenfold.errors import DeclarationError
from tenfold.events.topic import Route
from tenfold.queue.handler import Handler, plan_for
from tenfold.queue.queue import check_priority
from tenfold.queue.retry import Retry

if TYPE_CHECKING:
    from tenfold._core.container import Container
    from tenfold.db.database import Database
    from tenfold.events.topic import Topic


class Subscription:
    """A subscriber of a service: ``async def reserve(event: OrderPlaced, tx: Tx) -> None``.

    It takes the event, and whatever else the container injects. On the service's database, the inbox row, the
    effect and the acknowledgement commit together: with ``tx: Tx`` in the transaction it is given, without it in
    one that its own ``db.tx()`` blocks join. ``retry``, ``timeout``, ``queue``, ``priority`` and ``concurrency``
    are those of a :class:`~tenfold.jobs.Job`.
    """

    def __init__(
        self,
        service: str,
        topic: Topic[Any],
        fn: Callable[..., Any],
        *,
        name: str | None = None,
        retry: Retry | None = None,
        timeout: float | None = 60.0,
        queue: str = "default",
        priority: int = 0,
        concurrency: int | None = None,
    ) -> None:
        self.service = service
        self.topic = topic
        self.fn = fn
        self.name = f"{service}.{name or fn.__name__}"
        self.retry = retry or Retry()
        self.timeout_s = timeout
        self.queue = queue
        self.priority = check_priority(priority, self.name)
        self.concurrency = concurrency

    def __repr__(self) -> str:
        return f"Subscription({self.name!r}, {self.topic!r})"

    @property
    def route(self) -> Route:
        """Where the topic sends its events for this subscription."""
        lane = self.name if self.concurrency is not None else ""
        return Route(self.name, self.queue, lane, self.priority)

    def bind(self, container: Container, database: Database | None) -> Handler:
        """For the app: what a worker needs. ``database`` is the service's."""
        plan = plan_for(container, self.fn, self.name, database)
        parameter = self._event_parameter(set(plan.wanted))
        transaction: Any = "none" if database is None else "given" if plan.uses(Tx) else "around"
        if transaction == "around" and not inspect.iscoroutinefunction(self.fn):
            transaction = "none"  # a plain function in a thread opens no transactions
        return Handler(
            self.name,
            "event",
            self.fn,
            lambda payload: {parameter: self.topic.decode(payload)},
            plan,
            database=database,
            retry=self.retry,
            timeout_s=self.timeout_s,
            concurrency=self.concurrency,
            inbox=database is not None,
            transaction=transaction,
        )

    def _event_parameter(self, injected: set[str]) -> str:
        left = [name for name in inspect.signature(self.fn).parameters if name not in injected]
        where = f"{self.name}, {describe(self.fn)}"
        if len(left) != 1:
            raise DeclarationError(
                f"of its parameters, {left or 'none'} would be the event; nothing provides more than one.",
                where=where,
                remedy="Take the event in one parameter and let the container inject the others.",
            )
        hint = hints_of(self.fn).get(left[0], self.topic.type)
        bare = get_args(hint)[0] if get_origin(hint) is not None and hasattr(hint, "__metadata__") else hint
        if bare is not Any and bare != self.topic.type:
            raise DeclarationError(
                f"its parameter {left[0]!r} is a {getattr(bare, '__name__', bare)}, but events of "
                f"{self.topic.name} are {getattr(self.topic.type, '__name__', self.topic.type)}.",
                where=where,
            )
        return left[0]
