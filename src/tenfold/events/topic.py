"""``Topic``: events of one type, delivered to every subscription at least once, their effects once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Generic, TypeVar
from uuid import UUID

from tenfold.db.database import Tx
from tenfold.errors import NotBound, WrongArguments
from tenfold.events.schema import EventSchema, Upcaster
from tenfold.queue.expiry import Deadline, moment_of

if TYPE_CHECKING:
    from tenfold.db.database import Database
    from tenfold.events.outbox import Outbox
    from tenfold.queue.queue import Queues

T = TypeVar("T")

KEY_MAX_CHARS = 400
"""Of an event's key: with its topic and subscription it must fit into the columns of the outbox and the queue."""
LINE_MAX_CHARS = 512
"""Of the queue's column for order keys."""


def order_key(subscription: str, key: str) -> str:
    """The line of an event's key in the queue, whichever way the event comes, and what a flow waits for. A key that the
    column could not hold (of other producers, or under long names) is known by its digest."""
    line = f"{subscription}:{key}"
    if len(line) > LINE_MAX_CHARS or "\0" in key:
        return f"{subscription}:#{blake2b(key.encode(), digest_size=24).hexdigest()}"
    return line


@dataclass(frozen=True, slots=True)
class Route:
    """Where an event goes: one subscription."""

    name: str
    queue: str
    lane: str
    priority: int


class Topic(Generic[T]):
    """``orders.topic("order-placed", OrderPlaced)``. ``type_`` is the type of its events in ``version``.

    When the type changes in a way that old events do not fit, raise ``version`` and say in ``upcast`` how the data
    of the version before becomes that of the next: ``version=2, upcast={1: from_v1}``.

    One message per subscription is written in the publisher's transaction, so the deliveries exist if and only
    if it commits, each subscription goes at its own pace, and one that fails holds up no other. With a broker
    (``events.url``) it is one row of the outbox instead, and the broker brings it to the subscriptions.
    """

    def __init__(
        self,
        service: str,
        name: str,
        type_: type[T],
        *,
        version: int = 1,
        upcast: Mapping[int, Upcaster] | None = None,
    ) -> None:
        self.service = service
        self.name = f"{service}.{name}"
        self.type = type_
        self.schema = EventSchema(self.name, type_, version, upcast)
        self._queues: Queues | None = None
        self._routes: Sequence[Route] = ()
        self._outbox: Callable[[Database], Outbox] | None = None

    def __repr__(self) -> str:
        return f"Topic({self.name!r})"

    async def publish(
        self, tx: Tx, event: T, *, key: str | int | UUID | None = None, deadline: Deadline | None = None
    ) -> None:
        """Publish ``event`` if and only if ``tx`` commits.

        Each subscription handles the events of one ``key`` one after another, in the order of publication; 7 and "7"
        are one key. After ``deadline`` (seconds or a timedelta from now on, or an aware datetime; default: none) the
        event is of no use: no subscription begins to handle it, and one that does is stopped; its message is then
        cancelled, and says that it expired. Raises :class:`WrongArguments` when the event is not of the topic's type,
        its key is of another type, has more than 400 characters or a NUL, or its deadline has passed.
        """
        if self._queues is None:
            raise NotBound(
                f"topic {self.name} was used before its app started; publish in operations, jobs or on_start "
                "functions, or inside `async with app.test()` in tests."
            )
        if not isinstance(tx, Tx):  # pyright: ignore[reportUnnecessaryIsInstance] - users hand in the database
            raise WrongArguments(
                f"topic {self.name}: publish takes an open transaction first, not {type(tx).__name__}: "
                "`async with db.tx() as tx: await topic.publish(tx, event)`."
            )
        line = None if key is None else self.line_of(key)
        payload = self.schema.encode(event)
        queue = self._queues.of(tx.database)
        until = None if deadline is None else moment_of(deadline, queue.now(), f"topic {self.name}")
        if queue.watcher is not None:
            queue.watcher.published(tx, self.name, event, line)
        if self._outbox is not None:
            self._outbox(tx.database).put(tx, self.name, line, payload, until)
            return
        if not self._routes:
            return
        event_id = queue.clock.uuid()
        messages = [
            queue.message(
                "event",
                route.name,
                payload,
                queue=route.queue,
                lane=route.lane,
                priority=route.priority,
                order_key=None if line is None else order_key(route.name, line),
                event_id=event_id,
                until=until,
            )
            for route in self._routes
        ]
        queue.put_all(tx, messages)

    def line_of(self, given: object) -> str:
        """A key as text, once it is one. The same with and without a broker: none is refused for the first time in production."""
        if not isinstance(given, str | int | UUID):
            raise WrongArguments(
                f"topic {self.name}: the key is of type {type(given).__name__}; it is a text, an integer or a UUID."
            )
        key = str(given)
        if len(key) > KEY_MAX_CHARS:
            raise WrongArguments(
                f"topic {self.name}: the key has {len(key)} characters; it has {KEY_MAX_CHARS} at most."
            )
        if "\0" in key:
            raise WrongArguments(f"topic {self.name}: the key has a NUL, which databases do not keep.")
        return key

    def bind(
        self,
        queues: Queues,
        routes: Sequence[Route],
        outbox: Callable[[Database], Outbox] | None = None,
    ) -> None:
        """For the app: where events go from now on. With an ``outbox`` they go to a broker, else to ``routes``."""
        self._queues, self._routes, self._outbox = queues, tuple(routes), outbox

    def unbind(self) -> None:
        """Back to the state before :meth:`bind`."""
        self._queues, self._routes, self._outbox = None, (), None

    def decode(self, payload: str) -> T:
        """The event of a message, whatever version it was published in; raises :class:`UnknownVersion` and
        :class:`UndecodableEvent`."""
        return self.schema.decode(payload)
