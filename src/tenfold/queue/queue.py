"""The facade of one database's queue: puts messages in with the caller's transaction and wakes the worker.

Messages are buffered in ``tx.state`` and inserted by one statement just before the transaction commits, so they
exist if and only if it does. The notification after the commit only wakes; polling is the truth.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from tenfold._core.clock import ManualClock
from tenfold._core.context import current
from tenfold._core.resolve import backend_class
from tenfold.errors import DeclarationError, QueueError, WrongArguments
from tenfold.queue.calls import Calls
from tenfold.queue.contract import USUAL_KEEP, Keep
from tenfold.queue.expiry import wire_of
from tenfold.queue.lanes import WHOLE, Lanes
from tenfold.queue.message import PRIORITY_MAX, PRIORITY_MIN, Kind, NewMessage

if TYPE_CHECKING:
    from tenfold._core.clock import Clock
    from tenfold.db.contract import DatabaseBackend
    from tenfold.db.database import Database, Tx
    from tenfold.queue.contract import QueueBackend
    from tenfold.queue.options import QueueOptions

_BUFFER = "tenfold.queue"
SHARE_MAX_CHARS = 255
KEY_MAX_CHARS = 512
"""Of an order key and a unique key, with what stands in front of them."""
SKEW_MIN_S = 0.5
"""A smaller difference to the database's clock may be the time that its answer took."""
TOPIC = "queue"
"""Of the hints (see :meth:`DatabaseBackend.hint`)."""


class Watcher(Protocol):
    """Told, inside the transaction, what it puts in (for tests)."""

    def enqueued(self, tx: Tx, message: NewMessage) -> None: ...

    def published(self, tx: Tx, topic: str, event: object, key: str | None) -> None:
        """Called once per event, also when nobody subscribes to the topic."""
        ...


class Ticket:
    """Where one message went. The id is the database's, hence known once the rows are written."""

    __slots__ = ("_id", "existed")

    def __init__(self) -> None:
        self._id: int | None = None
        self.existed = False
        """The message was there already: one with its unique key is pending."""

    @property
    def id(self) -> int:
        """Raises :class:`QueueError` before the transaction has committed (or ``flush`` was awaited)."""
        if self._id is None:
            raise QueueError(
                "The id of a message is known once its transaction has committed; to have it inside, "
                "await handle.written(tx) first."
            )
        return self._id

    def resolve(self, id_: int, *, existed: bool) -> None:
        """For the queue: the row is written."""
        self._id, self.existed = id_, existed


class Queue:
    """See the module's docstring. One per database backend; declarations and the worker share it."""

    def __init__(
        self,
        backend: QueueBackend,
        database: Database,
        clock: Clock,
        options: Mapping[str, QueueOptions] | None = None,
        keep: Keep = USUAL_KEEP,
        lanes: Lanes = WHOLE,
    ) -> None:
        self.backend = backend
        self.database = database
        self.clock = clock
        self.options = options or {}
        """Of the queues of which something is said."""
        self.keep = keep
        """How long finished messages are kept."""
        self.lanes = lanes
        """Where messages stand, and which are for this process."""
        self.watcher: Watcher | None = None
        self._ahead_s: float | None = None
        """How far the time of the fleet is ahead of this process's monotonic clock; None until a server told it."""
        self.timed = False
        """Whether the database that is bound now has told its time, or was found to have none of its own."""
        self._wakes = Calls(TOPIC, lambda: self.database.backend)
        self.cancellations = Calls(f"{TOPIC}.cancel", lambda: self.database.backend)
        """Given after a message that runs was asked to stop."""

    def now(self) -> float:
        """The time that counts between the processes of a fleet: the database's, seconds since the epoch. Where a
        server has told it, it goes on by the monotonic clock, so that a jump of this machine's clock changes no lease."""
        if self._ahead_s is None:
            return self.clock.now()
        return self.clock.monotonic() + self._ahead_s

    def heard(self, server_at: float | None) -> None:
        """For the worker: what the database's clock says now. A clock that a test moves is the time itself."""
        self.timed = True
        if server_at is None or isinstance(self.clock, ManualClock):
            self._ahead_s = None
            return
        believed = self.now()
        right = abs(server_at - believed) < SKEW_MIN_S
        self._ahead_s = (believed if right else server_at) - self.clock.monotonic()

    async def time(self, tx: Tx) -> float:
        """:meth:`now`, for what is leased: of a database that has not told its time yet, ``tx`` asks first."""
        if not self.timed:
            self.heard((await self.backend.look(tx)).server_at)
        return self.now()

    def on_wake(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call ``listener`` after each commit that put messages in, also other processes' where there are hints;
        returns the function that ends this."""
        return self._wakes.listen(listener)

    def rebind(self, backend: QueueBackend, database: DatabaseBackend) -> None:
        """Go on in another database: ``backend`` speaks its SQL, ``database`` gives its hints."""
        self.backend, self.timed = backend, False
        self._wakes.moved(database)
        self.cancellations.moved(database)

    def wake(self) -> None:
        """Tell the workers that there may be something to do: that of this process at once, the others by a hint
        where the database gives such. Not inside the transaction: what is not committed is not there."""
        self._wakes.give()

    def message(
        self,
        kind: Kind,
        handler: str,
        payload: str,
        *,
        queue: str = "default",
        lane: str = "",
        priority: int = 0,
        run_at: float | None = None,
        order_key: str | None = None,
        unique_key: str | None = None,
        event_id: str | None = None,
        until: float | None = None,
    ) -> NewMessage:
        """A message of now, with the current context; after ``until`` it is not begun any more."""
        now = self.now()
        context = current()
        delayed = run_at is not None and run_at > now
        share = context.tenant or ""
        if (said := self.options.get(queue)) is not None:
            lane, share = lane or said.lane, share if said.fair else ""
        lane = self.lanes.of(handler, lane)
        return NewMessage(
            kind,
            handler,
            payload,
            wire_of(context, until),
            queue,
            lane,
            priority,
            run_at if run_at is not None else now,
            now,
            order_key,
            unique_key,
            event_id,
            "delayed" if delayed else "ready",
            share and share.replace("\0", "")[:SHARE_MAX_CHARS],
        )

    def put(self, tx: Tx, message: NewMessage) -> Ticket:
        """Insert ``message`` if and only if ``tx`` commits."""
        buffer = self._buffer(tx)
        if self.watcher is not None:
            self.watcher.enqueued(tx, message)
        ticket = Ticket()
        buffer.append((message, ticket))
        return ticket

    def put_all(self, tx: Tx, messages: list[NewMessage]) -> list[Ticket]:
        """Like :meth:`put` for many."""
        buffer = self._buffer(tx)
        if self.watcher is not None:
            for message in messages:
                self.watcher.enqueued(tx, message)
        tickets = [Ticket() for _ in messages]
        buffer.extend(zip(messages, tickets, strict=True))
        return tickets

    def _buffer(self, tx: Tx) -> list[tuple[NewMessage, Ticket]]:
        buffer: list[tuple[NewMessage, Ticket]] | None = tx.state.get(_BUFFER)
        if buffer is None:
            buffer = tx.state[_BUFFER] = []
            tx.before_commit(self.flush, may_be_last=True)
            tx.on_commit(lambda: self._wakes.give(far=not tx.channel.hinted))
        return buffer

    async def make_ready(self, tx: Tx, ids: Collection[int]) -> int:
        """Have these delayed messages run as soon as ``tx`` commits, by one statement; answers how many were
        delayed. One that is running, or has finished, is left as it is."""
        woken = await self.backend.wake(tx, ids, self.now())
        if woken:
            tx.on_commit(self.wake)
        return woken

    async def flush(self, tx: Tx) -> None:
        """Write what is buffered now; called before the commit (and around savepoints) anyway."""
        buffer: list[tuple[NewMessage, Ticket]] = tx.state.pop(_BUFFER, [])
        most = self.backend.insert_max
        if (
            buffer
            and tx.final
            and len(buffer) <= most
            and self.backend.one_statement([row for row, _ in buffer])
        ):
            tx.channel.commit_with_next(hint=TOPIC)
        for start in range(0, len(buffer), most):
            chunk = buffer[start : start + most]
            stored = await self.backend.insert(tx, [message for message, _ in chunk])
            for (_, ticket), (id_, existed) in zip(chunk, stored, strict=True):
                ticket.resolve(id_, existed=existed)


class Queues:
    """The queues of an app: one per database backend, made when first asked for."""

    def __init__(
        self,
        clock: Clock,
        options: Mapping[str, QueueOptions] | None = None,
        keep: Keep = USUAL_KEEP,
        lanes: Lanes = WHOLE,
    ) -> None:
        self._clock = clock
        self._options, self._keep, self._lanes = options, keep, lanes
        self._by_backend: dict[DatabaseBackend, Queue] = {}

    def of(self, database: Database) -> Queue:
        """The queue that lives in ``database``; raises NotBound before the app has started."""
        found = self._by_backend.get(database.backend)
        if found is None:
            made: QueueBackend = backend_class("queue", database.backend.url, where="database.url")()
            found = self._by_backend[database.backend] = Queue(
                made, database, self._clock, self._options, self._keep, self._lanes
            )
        return found

    def rebind(self, old: DatabaseBackend, new: DatabaseBackend) -> None:
        """The queue in ``old`` goes on in ``new``, for everybody who holds it. Nothing may be under way in it."""
        moved = self._by_backend.pop(old, None)
        if moved is not None:
            moved.rebind(backend_class("queue", new.url, where="database.url")(), new)
            self._by_backend[new] = moved

    def all(self) -> list[Queue]:
        """Every queue asked for so far."""
        return list(self._by_backend.values())


def check_priority(priority: int, where: str) -> int:
    """The priority, or a sentence when no database column would hold it."""
    if not PRIORITY_MIN <= priority <= PRIORITY_MAX:
        raise DeclarationError(
            f"the priority {priority} is out of range.",
            where=where,
            remedy=f"It is between {PRIORITY_MIN} and {PRIORITY_MAX}; lower runs first.",
        )
    return priority


def check_key(key: str, where: str) -> str:
    """The key as it is stored, or a sentence when no database column would hold it."""
    if len(key) > KEY_MAX_CHARS:
        raise WrongArguments(
            f"{where} has {len(key):,} characters with the job's name in front; it may have {KEY_MAX_CHARS}. A digest "
            "of it will do."
        )
    if "\0" in key:
        raise WrongArguments(f"{where} has a NUL, which databases do not keep.")
    try:
        key.encode()
    except UnicodeEncodeError:
        raise WrongArguments(f"{where} has half a surrogate pair, which is no text.") from None
    return key


def buffered(tx: Any) -> list[NewMessage]:
    """What this transaction will put into the queue when it commits (for tests)."""
    return [message for message, _ in tx.state.get(_BUFFER, [])]
