"""A handle on one enqueued job: its id, how far it is, its result, and cancelling it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from tenfold.db.database import Database, Tx
from tenfold.errors import JobCancelled, JobFailed, QueueError, WrongArguments
from tenfold.jobs.watch import changes
from tenfold.queue.admin import Admin, MessageInfo
from tenfold.queue.message import FINISHED, Progress, State
from tenfold.queue.queue import Queue, Ticket

if TYPE_CHECKING:
    from tenfold.db.database import Reader
    from tenfold.http.stream import EventStream
    from tenfold.jobs.signals import StepStatus

R = TypeVar("R")

_POLL_MIN_S, _POLL_MAX_S = 0.01, 0.5


class JobStatus(msgspec.Struct, frozen=True):
    """What is known about a job. ``error`` is that of its last failed attempt."""

    id: int
    name: str
    state: State
    attempts: int
    progress: Progress | None
    error: str | None
    cancel_requested: bool

    @property
    def finished(self) -> bool:
        return self.state in FINISHED


class JobHandle(Generic[R]):
    """One enqueued job. The handle of a job in another process is ``job.handle(id)``."""

    __slots__ = ("_decode", "_name", "_queue", "_ticket")

    def __init__(self, name: str, queue: Queue, ticket: Ticket, decode: Callable[[str], Any] | None) -> None:
        self._name = name
        self._queue = queue
        self._ticket = ticket
        self._decode = decode

    def __repr__(self) -> str:
        return f"JobHandle({self._name!r})"

    @property
    def id(self) -> int:
        """Known once the transaction has committed (QueueError before); see :meth:`written`."""
        return self._ticket.id

    @property
    def existed(self) -> bool:
        """Nothing was added: a job with the same unique key is pending, and this is its handle."""
        return self._ticket.existed

    async def written(self, tx: Tx) -> int:
        """Write the job's row now instead of at the commit, to have its id inside the transaction."""
        await self._queue.flush(tx)
        return self.id

    async def status(self, reader: Reader | None = None) -> JobStatus:
        """Raises NotFound once the job was removed, ``worker.retention_s`` after its end."""
        info = await Admin(self._queue).show(self.id, reader)
        return JobStatus(
            info.id, info.handler, info.state, info.attempts, info.how_far, info.error, bool(info.cancel)
        )

    async def result(self, timeout: float = 30.0) -> R:  # noqa: ASYNC109 - the job goes on; only waiting ends
        """What the job returned, waiting up to ``timeout`` seconds for it.

        Raises TimeoutError, :class:`JobFailed` with the last error of a dead job, :class:`JobCancelled`, and
        :class:`QueueError` for a job that keeps no results (declare ``result_ttl``).
        """
        if self._decode is None:
            raise QueueError(f"{self._name} keeps no results; declare it with result_ttl=… seconds.")
        clock = self._queue.clock
        end, pause_s = clock.monotonic() + timeout, _POLL_MIN_S
        while True:
            info = await Admin(self._queue).show(self.id)
            if info.state in FINISHED:
                return self._outcome(info)
            left_s = end - clock.monotonic()
            if left_s <= 0:
                raise TimeoutError(f"{self._name} {self.id} is {info.state} after {timeout:g} s.")
            await clock.sleep(min(pause_s, left_s))
            pause_s = min(_POLL_MAX_S, pause_s * 2)

    def _outcome(self, info: MessageInfo) -> R:
        if info.state == "dead":
            raise JobFailed(f"{self._name} {info.id}: {info.first_error_line}")
        if info.state == "cancelled":
            raise JobCancelled(
                f"{self._name} {info.id} was cancelled: {info.first_error_line or 'nobody said why'}."
            )
        if info.result is None or (info.result_until or 0.0) <= self._queue.clock.now():
            raise QueueError(f"The result of {self._name} {info.id} has been removed after its time.")
        assert self._decode is not None
        value: R = self._decode(info.result)
        return value

    # ── flows ──

    async def signal(self, tx: Tx, name: str, value: Any = None) -> bool:
        """Send the flow a signal, if and only if ``tx`` commits; False when the flow had finished already.

        It is kept until the flow takes it by ``await flow.signal(name)``, and wakes the flow when that waits for it.
        ``value`` travels as JSON. Raises NotFound for a flow that does not exist.
        """
        from tenfold.jobs.signals import send

        try:
            id_ = self.id
        except QueueError:
            id_ = await self.written(tx)
        return await send(tx, self._queue, id_, name, value)

    async def steps(self, reader: Reader | None = None) -> list[StepStatus]:
        """What the flow has done so far and what it waits for, in the order in which it came to it."""
        from tenfold.jobs.signals import steps

        return await steps(reader or self._queue.database.read(consistency="strong"), self.id)

    # ── following ──

    def watch(self, *, timeout: float = 3600.0) -> AsyncGenerator[JobStatus]:
        """Its status now, then whenever it has changed, to the last one; ends without that after ``timeout`` seconds.

        Works in any process. A change is seen within a second, its progress within two. Raises NotFound.
        """
        return changes(self.status, self._queue.clock, timeout)

    def stream(self, *, timeout: float = 3600.0) -> EventStream[JobStatus]:
        """:meth:`watch` as server-sent events, for an operation to return; each is called ``progress``, the last one by
        the final state::

            @imports.get("/imports/{id}/progress")
            async def progress(id: int) -> EventStream[JobStatus]:
                return import_file.handle(id).stream()
        """
        from tenfold.jobs.stream import stream

        return stream(self.watch(timeout=timeout))

    async def cancel(self, tx: Tx | None = None, *, reason: str = "") -> bool:
        """Take the job off, or ask it to stop when it runs; False when it had finished already. ``reason`` is kept with
        it, beside who asked."""
        return await Admin(self._queue).cancel(self.id, tx, why=reason)


def queue_of(target: Tx | Database, queue_for: Callable[[Database], Queue]) -> Queue:
    """The queue in the database that ``target`` writes to. Raises WrongArguments for what is neither."""
    database = target.database if isinstance(target, Tx) else target
    if not isinstance(database, Database):  # pyright: ignore[reportUnnecessaryIsInstance] - users forget it
        raise WrongArguments(
            f"enqueue takes a transaction (or a database) first, then the job's arguments, not {type(target).__name__}: "
            "`await job.enqueue(tx, …)`."
        )
    return queue_for(database)
