"""``batch``: many jobs with one end, and something that happens then."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import msgspec
import sqlalchemy as sa

from tenfold.errors import QueueError, WrongArguments
from tenfold.jobs import groups
from tenfold.jobs.call import Call, Entry
from tenfold.jobs.groups import BatchStatus, Ending
from tenfold.jobs.tables import member
from tenfold.jobs.watch import changes
from tenfold.queue.admin import reason
from tenfold.queue.changes import Changes
from tenfold.queue.tables import message

if TYPE_CHECKING:
    from tenfold.db.database import Reader, Tx
    from tenfold.http.stream import EventStream
    from tenfold.jobs.job import Job
    from tenfold.queue.queue import Queue

P = ParamSpec("P")
R = TypeVar("R")

CANCEL_PAGE = 500

_encode = msgspec.json.Encoder().encode

_pending = (
    sa.select(member.c.n, message.c.id)
    .select_from(member.join(message, message.c.id == member.c.message_id))
    .where(member.c.group_id == sa.bindparam("id"), member.c.n >= sa.bindparam("first"))
    .order_by(member.c.n)
    .limit(CANCEL_PAGE)
)


class BatchHandle:
    """One batch: how far it is, from any process. ``job.batch(id)`` finds it again."""

    __slots__ = ("_queue", "id")

    def __init__(self, queue: Queue, id_: str) -> None:
        self.id = id_
        self._queue = queue

    def __repr__(self) -> str:
        return f"BatchHandle({self.id!r})"

    async def status(self, reader: Reader | None = None) -> BatchStatus:
        """Counted now. Raises NotFound once the batch was removed, ``worker.retention_s`` after its end."""
        return await groups.status(reader or self._queue.database.read(consistency="strong"), self.id)

    def watch(self, *, timeout: float = 3600.0) -> AsyncGenerator[BatchStatus]:
        """Its status now, then whenever it has changed, to the last one. See ``JobHandle.watch``."""
        return changes(self.status, self._queue.clock, timeout)

    def stream(self, *, timeout: float = 3600.0) -> EventStream[BatchStatus]:
        """:meth:`watch` as server-sent events, for an operation to return; each is called ``progress``, the last one by
        the final state, ``done`` or ``failed``::

            @imports.get("/imports/{id}/progress")
            async def progress(id: str) -> EventStream[BatchStatus]:
                return import_row.batch(id).stream()
        """
        from tenfold.jobs.stream import stream

        return stream(self.watch(timeout=timeout))

    async def cancel(self) -> int:
        """Take off the members that are pending, and ask those that run to stop; answers how many. The batch ends when
        those have stopped, and ``on_failed`` follows."""
        first, cancelled = 0, 0
        while True:
            async with self._queue.database.tx() as tx:
                found = await tx.all(_pending, tuple, id=self.id, first=first)
                ids = [message_id for _, message_id in found]
                if ids:
                    cancelled += await Changes(self._queue).cancel(
                        tx, ids, reason(None, "its batch was cancelled")
                    )
            if len(found) < CANCEL_PAGE:
                return cancelled
            first = found[-1][0] + 1


class Batch:
    """A batch that is being put together. See :func:`batch`."""

    def __init__(self, tx: Tx) -> None:
        self._tx = tx
        self._queue: Queue | None = None
        self._id = ""
        self._entries: list[Entry] = []

    @property
    def handle(self) -> BatchHandle:
        """Known once it has a member."""
        if self._queue is None:
            raise QueueError("The batch has no members yet.")
        return BatchHandle(self._queue, self._id)

    async def add(self, job: Job[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Add one job."""
        self.add_call(job.call(*args, **kwargs))

    async def add_many(self, job: Job[..., Any], arguments: Iterable[Mapping[str, Any]], /) -> None:
        """Add one job per mapping of keyword arguments."""
        for kwargs in arguments:
            self.add_call(job.call(**kwargs))

    def add_call(self, call: Call[Any], /) -> None:
        """Add what ``job.call(…)``, ``chain`` or ``group`` has made."""
        if call.entry.takes is not None:
            raise WrongArguments(f"{call} has an argument left open; use call(…) with all arguments.")
        if self._queue is None:
            self._queue = call.queue_for(self._tx)
            self._id = groups.new_id(self._queue, results=False)
        self._entries.append(call.entry)

    async def put(self, on_done: Call[Any] | None, on_failed: Call[Any] | None) -> None:
        """Write it. A batch without members has ended already: what follows is enqueued at once."""
        if self._queue is None:
            if on_done is not None:
                queue = on_done.queue_for(self._tx)
                queue.put(self._tx, on_done.entry.given(_encode(_nothing(queue))).message(queue))
            return
        ending = Ending(
            on_done=None if on_done is None else on_done.entry,
            on_failed=None if on_failed is None else on_failed.entry,
        )
        await groups.put_group(self._tx, self._queue, self._id, self._entries, ending)


@asynccontextmanager
async def batch(
    tx: Tx,
    /,
    *,
    on_done: Job[..., Any] | Call[Any] | None = None,
    on_failed: Job[..., Any] | Call[Any] | None = None,
) -> AsyncGenerator[Batch]:
    """Enqueue many jobs that have one end, if and only if ``tx`` commits::

        async with batch(tx, on_done=announce.after(file="mugs.csv"), on_failed=complain) as b:
            await b.add_many(import_row, rows)

    When the last member has an end, one of the two is enqueued, exactly once: ``on_done`` when every member is done,
    ``on_failed`` when one died or was cancelled. A job, or ``job.after(…)``, gets the :class:`BatchStatus` as its first
    argument; ``job.call(…)`` does not. A member that died counts as failed, also when it is retried later.

    Nothing is written per member beyond its row, so a batch may have hundreds of thousands.
    """
    made = Batch(tx)
    done, failed = _call(on_done), _call(on_failed)
    yield made
    await made.put(done, failed)


def _call(job: Job[..., Any] | Call[Any] | None) -> Call[Any] | None:
    if job is None or isinstance(job, Call):
        return job
    return job.after() if job.takes_something else job.call()


def _nothing(queue: Queue) -> BatchStatus:
    now = queue.now()
    return BatchStatus("", "done", 0, 0, 0, now, now)
