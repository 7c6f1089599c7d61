"""``Call``: a job with its arguments, not enqueued yet: a member of a batch, a link of a chain, what a flow runs.

Calls are made of each other: ``fetch.call(url).then(parse).then(store)`` enqueues ``store`` with what ``parse`` makes of
what ``fetch`` found, ``group([…]).then(merge)`` hands ``merge`` the list of all results. Such a composition is itself one
job, a flow of the framework, so it survives crashes like any other, has a handle, and may be a member again. What is
handed on travels as JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar

import msgspec

from tenfold.db.database import Database, Tx
from tenfold.errors import WrongArguments
from tenfold.jobs.handle import JobHandle, queue_of

if TYPE_CHECKING:
    from tenfold.jobs.job import Job
    from tenfold.queue.message import NewMessage
    from tenfold.queue.queue import Queue, Queues

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")

WORK = "tenfold.work"
"""The handler that runs compositions."""

_encode = msgspec.json.Encoder().encode
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """A job that will be put into the queue, as it stands in the database until then."""

    handler: str
    payload: str
    queue: str = "default"
    lane: str = ""
    priority: int = 0
    order_key: str | None = None
    delay_s: float = 0.0
    takes: str | None = None
    """The parameter that is filled with what comes before."""

    def given(self, before: bytes) -> Entry:
        """With ``before`` (JSON) as the argument that was left open; as it is where none was."""
        if self.takes is None:
            return self
        arguments = _members.decode(self.payload) | {self.takes: msgspec.Raw(before)}
        return msgspec.structs.replace(self, payload=_encode(arguments).decode(), takes=None)

    def message(self, queue: Queue, group: str | None = None) -> NewMessage:
        """The message of now."""
        return queue.message(
            "job",
            self.handler,
            self.payload,
            queue=self.queue,
            lane=self.lane,
            priority=self.priority,
            run_at=queue.now() + self.delay_s if self.delay_s else None,
            order_key=self.order_key,
            event_id=group,
        )


class Composition(msgspec.Struct, frozen=True):
    """The payload of :data:`WORK`: stages one after another, the calls of each side by side."""

    stages: list[Stage]


class Stage(msgspec.Struct, frozen=True, array_like=True):
    """``many``: what comes after it is handed the list of all results, else the only one."""

    calls: list[Entry]
    many: bool = False


class Call(Generic[R]):
    """A job with its arguments, made by ``job.call(…)``. It exists in the queue once it is enqueued."""

    __slots__ = ("_queues", "_stages", "decode", "entry")

    def __init__(
        self, entry: Entry, decode: Callable[[str], R], queues: Queues, stages: list[Stage] | None = None
    ) -> None:
        self.entry = entry
        self.decode = decode
        """The result from its JSON text."""
        self._queues = queues
        self._stages = stages or [Stage([entry])]

    def __repr__(self) -> str:
        return f"Call({self.entry.handler!r})"

    def then(self, job: Job[Concatenate[R, ...], S] | Call[S]) -> Call[S]:
        """Afterwards ``job``, with the result of this as its first argument (``job.after(…)``: and others)."""
        return composed([*self._stages], job, self._queues)

    async def enqueue(self, target: Tx | Database, /) -> JobHandle[R]:
        """Enqueue it if and only if ``target`` commits (a Database: in a transaction of its own)."""
        if self.entry.takes is not None:
            raise WrongArguments(
                f"{self.entry.handler}: its argument {self.entry.takes!r} is what comes before it, and nothing does; "
                "use call(…) with all arguments."
            )
        queue = queue_of(target, self._queues.of)
        message = self.entry.message(queue)
        if isinstance(target, Tx):
            return JobHandle(self.entry.handler, queue, queue.put(target, message), self.decode)
        async with target.tx() as tx:
            ticket = queue.put(tx, message)
        return JobHandle(self.entry.handler, queue, ticket, self.decode)

    def queue_for(self, tx: Tx) -> Queue:
        """For batches: the queue in the transaction's database."""
        return queue_of(tx, self._queues.of)


class Group(Generic[R]):
    """Calls side by side, made by :func:`group`."""

    def __init__(self, calls: list[Call[R]]) -> None:
        self._calls = calls

    def then(self, job: Job[Concatenate[list[R], ...], S] | Call[S]) -> Call[S]:
        """When all are done, ``job`` with the list of their results, in their order, as its first argument."""
        stage = Stage([call.entry for call in self._calls], many=True)
        return composed([stage], job, self._calls[0]._queues)


def group(calls: Iterable[Call[R]]) -> Group[R]:
    """``group([render.call(page) for page in pages]).then(bind)``: all at once, then what is made of all results.

    A call that dies or is cancelled keeps what follows from running: the composition is dead, and retrying it runs
    only what is not done. Raises :class:`WrongArguments` when there are no calls.
    """
    found = list(calls)
    if not found:
        raise WrongArguments("a group needs at least one call.")
    return Group(found)


def chain(first: Call[Any], /, *rest: Job[..., Any] | Call[Any]) -> Call[Any]:
    """``chain(a.call(1), b, c.after(scale=2))``: one after another, each with the result of the one before as its
    first argument. ``a.call(1).then(b).then(…)`` is the same with its types checked."""
    made = first
    for job in rest:
        made = made.then(job)
    return made


def composed(stages: list[Stage], job: Job[..., S] | Call[S], queues: Queues) -> Call[S]:
    """One call that runs ``stages`` and then ``job``."""
    last: Call[S] = job if isinstance(job, Call) else job.after()
    stages = [*stages, Stage([last.entry])]
    payload = _encode(Composition(stages)).decode()
    return Call(Entry(WORK, payload, last.entry.queue), last.decode, queues, stages)
