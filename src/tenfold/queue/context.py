"""What a running job knows about itself: ``current_job()``."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol

import msgspec

from tenfold.errors import JobCancelled, LeaseLost, QueueError
from tenfold.queue.message import Progress

if TYPE_CHECKING:
    from tenfold._core.clock import Clock
    from tenfold.db.database import Tx
    from tenfold.queue.message import Message

_encode = msgspec.json.Encoder().encode


class Holder(Protocol):
    """The worker that holds the message, as far as a running job needs it."""

    async def prove(self, tx: Tx, message: Message) -> bool:
        """Whether the lease is still held, seen and kept so by ``tx``."""
        ...

    def report(self, message: Message, progress: str) -> None:
        """Keep the progress at the next opportunity."""
        ...


class JobContext:
    """The run in hand of a job, event delivery or schedule tick."""

    __slots__ = ("_cancelled", "_clock", "_holder", "_message")

    def __init__(self, message: Message, holder: Holder, clock: Clock) -> None:
        self._message = message
        self._holder = holder
        self._clock = clock
        self._cancelled = False

    @property
    def id(self) -> int:
        """Id of the message; the same in every attempt."""
        return self._message.id

    @property
    def name(self) -> str:
        """The handler's name, such as ``orders.send_receipt``."""
        return self._message.handler

    @property
    def attempt(self) -> int:
        """1 for the first run; failures and crashes of workers count, ``RetryLater`` does not."""
        return self._message.attempt

    @property
    def idempotency_key(self) -> str:
        """The same in every attempt of this message and of no other: hand it to external services."""
        return f"{self._message.handler}:{self._message.id}:{int(self._message.created_at * 1000):x}"

    @property
    def event_id(self) -> str | None:
        """Of an event delivery: the event's id, the same for every subscription; else None."""
        return self._message.event_id

    @property
    def key(self) -> str | None:
        """The key whose messages run one after another, as it was given when this one was put in; None without."""
        key = self._message.order_key
        return None if key is None else key.removeprefix(f"{self.name}:")

    @property
    def enqueued_at(self) -> float:
        """Seconds since the epoch."""
        return self._message.created_at

    @property
    def cancelled(self) -> bool:
        """True once somebody asked for cancellation. The task of the run is cancelled at the same time; this is
        for work in threads, which cannot be."""
        return self._cancelled

    def check(self) -> None:
        """Raise :class:`JobCancelled` when somebody asked for cancellation."""
        if self._cancelled:
            raise JobCancelled(f"{self.name} {self.id} was cancelled")

    async def progress(self, done: float, total: float = 1.0, note: str = "") -> None:
        """Say how far the run is. It is kept within about a second, never more often, and costs no statement
        here; the last one is kept with the finished message."""
        value = Progress(done, total, note, self._clock.now())
        self._holder.report(self._message, _encode(value).decode())

    async def fence(self, tx: Tx) -> None:
        """Let ``tx`` commit only while this run holds its lease; raises :class:`LeaseLost` otherwise.

        For jobs that open transactions of their own. One that takes ``tx: Tx`` as a parameter is fenced
        already: its transaction commits together with the acknowledgement.
        """
        if not await self._holder.prove(tx, self._message):
            raise LeaseLost(f"{self.name} {self.id}: another worker holds it now")

    def mark_cancelled(self) -> None:
        """For the worker: somebody asked for cancellation."""
        self._cancelled = True


_current: ContextVar[JobContext | None] = ContextVar("tenfold_job", default=None)


def current_job() -> JobContext:
    """The run in hand; raises :class:`QueueError` outside of one."""
    job = _current.get()
    if job is None:
        raise QueueError("current_job() was called outside of a job, subscriber or schedule.")
    return job


def enter_job(job: JobContext) -> None:
    """Make ``job`` current for the rest of this task."""
    _current.set(job)
