"""``Job``: a function that is enqueued in a transaction and run by a worker after it has committed."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from tenfold._core.container import describe
from tenfold.db.database import Database, Tx
from tenfold.errors import DeclarationError, NotBound, WrongArguments
from tenfold.jobs.batch import BatchHandle
from tenfold.jobs.call import Call, Entry
from tenfold.jobs.flow import Flow
from tenfold.jobs.handle import JobHandle, queue_of
from tenfold.jobs.plans import StepPlans, returned_type
from tenfold.jobs.steps import StepOptions
from tenfold.jobs.times import timestamp
from tenfold.queue.arguments import Codec, Signature
from tenfold.queue.expiry import Deadline, moment_of
from tenfold.queue.handler import GIVEN, Handler, plan_for
from tenfold.queue.message import alike
from tenfold.queue.queue import Queue, Ticket, check_key, check_priority
from tenfold.queue.retry import Retry

if TYPE_CHECKING:
    from tenfold._core.container import Container, Plan
    from tenfold.jobs.delivery import Delivery
    from tenfold.queue.handler import Driver
    from tenfold.queue.message import NewMessage
    from tenfold.queue.queue import Queues

P = ParamSpec("P")
R = TypeVar("R")

Unique = bool | str | Callable[..., str]


@dataclass(frozen=True, slots=True)
class Options:
    """How one enqueue differs from the declaration."""

    delay_s: float = 0.0
    at: float | None = None
    priority: int = 0
    unique: Unique = False
    queue: str = "default"
    key: str | None = None
    deadline: Deadline | None = None


@dataclass(slots=True)
class _Bound:
    """What a job knows once its app has started."""

    queues: Queues
    database: Database | None
    plan: Plan
    signature: Signature
    result: Codec | None
    handler: Handler
    codec: Codec | None = None
    """Of what it returns, once that was needed: by whoever waits for it in a group."""


class _Binding:
    """Shared by a job and the copies that ``options`` makes, which may be older than the app's start."""

    bound: _Bound | None = None


class Job(Generic[P, R]):
    """A job of a service. Calling it runs the function directly; :meth:`enqueue` has a worker run it.

    * ``retry``: a :class:`Retry`; default 5 attempts with exponential backoff and full jitter.
    * ``timeout``: seconds that one run may take (default 60, None: no limit). A plain function runs in a thread
      and cannot be interrupted; its run counts as failed all the same.
    * ``queue``, ``priority``: lower priorities run first within a queue (default 0).
    * ``unique``: at most one pending job per key. True makes the key of the arguments; a function gets the
      arguments (by name) and returns it. Pending means not yet begun: what is enqueued while a job runs is
      run after it.
    * ``concurrency``: how many runs at a time, of all workers together.
    * ``cpu``: run in a process of its own; the function is at the top of a module and takes no dependencies.
    * ``result_ttl``: keep what the function returns for so many seconds (default: not kept).
    * ``deliveries``: bring the events that its flows wait for.

    A job that takes a :class:`~tenfold.jobs.flow.Flow` is a flow: ``retry`` and ``timeout`` are those of its steps.

    Delivery is at least once. The effects of a job that takes ``tx: Tx`` happen exactly once, for they commit
    together with the acknowledgement; for everything else there is ``current_job().idempotency_key``.
    """

    def __init__(
        self,
        service: str,
        fn: Callable[P, Any],
        *,
        name: str | None = None,
        retry: Retry | None = None,
        timeout: float | None = 60.0,
        queue: str = "default",
        priority: int = 0,
        unique: Unique = False,
        concurrency: int | None = None,
        cpu: bool = False,
        result_ttl: float | None = None,
        deliveries: Sequence[Delivery] = (),
    ) -> None:
        self.service = service
        self.name = f"{service}.{name or fn.__name__}"
        self.fn = fn
        self.retry = retry or Retry()
        self.timeout_s = timeout
        self.concurrency = concurrency
        self.cpu = cpu
        self.result_ttl_s = result_ttl
        self.deliveries = deliveries
        self._options = Options(priority=check_priority(priority, self.name), unique=unique, queue=queue)
        self._binding = _Binding()
        self._check()

    def __repr__(self) -> str:
        return f"Job({self.name!r})"

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function here and now, without the queue."""
        value = self.fn(*args, **kwargs)
        result: R = await value if inspect.isawaitable(value) else value
        return result

    # ── enqueue ──

    def options(
        self,
        *,
        delay: float | timedelta | None = None,
        at: float | datetime | None = None,
        priority: int | None = None,
        unique: Unique | None = None,
        queue: str | None = None,
        key: str | None = None,
        deadline: Deadline | None = None,
    ) -> Job[P, R]:
        """The same job, enqueued differently: ``await job.options(delay=60).enqueue(tx, …)``.

        ``delay`` is in seconds, ``at`` an aware datetime or seconds since the epoch. Jobs of one ``key`` run
        one after another, in the order in which they were enqueued; a failing one holds up its key only.
        ``deadline`` (seconds or a timedelta from the enqueue on, or an aware datetime; default: none, whatever the
        deadline of the work that enqueues is) says until when the job is of use: after it no run begins, and one that
        is under way is stopped. The job is then cancelled, and says that it expired.
        """
        changes: dict[str, Any] = {"priority": priority, "unique": unique, "queue": queue, "key": key}
        changes["deadline"] = deadline
        if key is not None:
            check_key(f"{self.name}:{key}", f"{self.name}: its key")
        if priority is not None:
            check_priority(priority, self.name)
        if delay is not None:
            changes["delay_s"] = delay.total_seconds() if isinstance(delay, timedelta) else float(delay)
        if at is not None:
            changes["at"] = timestamp(at, self.name)
        other = copy.copy(self)
        other._options = replace(self._options, **{k: v for k, v in changes.items() if v is not None})
        return other

    async def enqueue(self, target: Tx | Database, /, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """Enqueue the job if and only if ``target`` commits (a Database: in a transaction of its own).

        Raises :class:`WrongArguments` when the arguments do not fit the function's signature.
        """
        bound = self._bound("enqueue")
        queue = queue_of(target, bound.queues.of)
        message = self._message(queue, bound, bound.signature.encode(args, kwargs))
        if isinstance(target, Tx):
            ticket = queue.put(target, message)
        else:
            async with target.tx() as tx:
                ticket = queue.put(tx, message)
        decode = bound.result.decode if bound.result is not None else None
        return JobHandle(self.name, queue, ticket, decode)

    async def enqueue_many(
        self, target: Tx | Database, arguments: Iterable[Mapping[str, Any]], /
    ) -> list[JobHandle[R]]:
        """Enqueue one job per mapping of keyword arguments, by few statements."""
        bound = self._bound("enqueue_many")
        queue = queue_of(target, bound.queues.of)
        encode = bound.signature.encode
        payloads = [encode((), kwargs) for kwargs in arguments]
        if self._options.unique is False and payloads:
            messages = alike(self._message(queue, bound, payloads[0]), payloads)
        else:
            messages = [self._message(queue, bound, payload) for payload in payloads]
        if isinstance(target, Tx):
            tickets = queue.put_all(target, messages)
        else:
            async with target.tx() as tx:
                tickets = queue.put_all(tx, messages)
        decode = bound.result.decode if bound.result is not None else None
        return [JobHandle(self.name, queue, ticket, decode) for ticket in tickets]

    def call(self, *args: P.args, **kwargs: P.kwargs) -> Call[R]:
        """The job with these arguments, not enqueued yet: for batches, chains, and what a flow runs.

        Raises :class:`WrongArguments` when they do not fit the function's signature.
        """
        bound = self._bound("call")
        return self._call(bound, bound.signature.encode(args, kwargs), None)

    def after(self, **kwargs: Any) -> Call[R]:
        """The job with these arguments, its first left open for what comes before it: the result of the call that it
        follows, the results of a group, or the :class:`BatchStatus` of a batch that has ended."""
        bound = self._bound("after")
        if not bound.signature.names:
            raise WrongArguments(f"{self.name}: it takes no argument that could be left open.")
        first = bound.signature.names[0]
        rest = Signature(self.fn, self.name, (*bound.plan.wanted, first))
        return self._call(bound, rest.encode((), kwargs), first)

    @property
    def takes_something(self) -> bool:
        """Whether it has an argument that :meth:`after` could leave open."""
        return bool(self._bound("after").signature.names)

    def _call(self, bound: _Bound, payload: str, takes: str | None) -> Call[R]:
        options = self._options
        if options.unique is not False or options.at is not None or options.deadline is not None:
            raise WrongArguments(
                f"{self.name}: a job with unique=…, at=… or deadline=… is enqueued by itself; for a call, use "
                ".options(unique=False) and delay=…."
            )
        entry = Entry(
            self.name,
            payload,
            options.queue,
            bound.handler.lane,
            options.priority,
            f"{self.name}:{options.key}" if options.key is not None else None,
            options.delay_s,
            takes,
        )
        return Call(entry, self._codec(bound).decode, bound.queues)

    def _codec(self, bound: _Bound) -> Codec:
        """Of what the function returns."""
        if bound.codec is None:
            bound.codec = bound.result or Codec(returned_type(self.fn), f"{self.name}, its result")
        return bound.codec

    def handle(self, id_: int, database: Database | None = None) -> JobHandle[R]:
        """The handle of a job enqueued earlier, in the service's database or the one given."""
        bound = self._bound("handle")
        ticket = Ticket()
        ticket.resolve(id_, existed=True)
        return self._handle(self._queue(bound, database), ticket)

    def batch(self, id_: str, database: Database | None = None) -> BatchHandle:
        """The handle of a batch that was put together earlier, in the service's database or the one given."""
        return BatchHandle(self._queue(self._bound("batch"), database), id_)

    def _queue(self, bound: _Bound, database: Database | None) -> Queue:
        database = database or bound.database
        if database is None:
            raise DeclarationError(
                "its service has no database.", where=self.name, remedy="Name it: job.handle(id, database)."
            )
        return bound.queues.of(database)

    def _message(self, queue: Queue, bound: _Bound, payload: str) -> NewMessage:
        options = self._options
        run_at = options.at
        if options.delay_s:
            run_at = (queue.now() if run_at is None else run_at) + options.delay_s
        until = None if options.deadline is None else moment_of(options.deadline, queue.now(), self.name)
        if until is not None and run_at is not None and run_at >= until:
            raise WrongArguments(f"{self.name}: its deadline is not after the time at which it is to run.")
        return queue.message(
            "job",
            self.name,
            payload,
            queue=options.queue,
            lane=bound.handler.lane,
            priority=options.priority,
            run_at=run_at,
            order_key=f"{self.name}:{options.key}" if options.key is not None else None,
            unique_key=self._unique_key(bound, payload) if options.unique is not False else None,
            until=until,
        )

    def _unique_key(self, bound: _Bound, payload: str) -> str:
        unique = self._options.unique
        if callable(unique):
            unique = unique(**bound.signature.decode(payload))
        key = f"{self.name}:{bound.signature.digest(payload) if unique is True else unique}"
        return check_key(key, f"{self.name}: what unique= made of its arguments")

    def _handle(self, queue: Queue, ticket: Ticket) -> JobHandle[R]:
        result = self._bound("handle").result
        return JobHandle(self.name, queue, ticket, result.decode if result is not None else None)

    # ── for the app ──

    def bind(self, queues: Queues, container: Container, database: Database | None) -> Handler:
        """Resolve the job against an app; answers what a worker needs. ``database`` is the service's."""
        plan = plan_for(container, self.fn, self.name, database, GIVEN | {Flow})
        if self.cpu and plan:
            raise DeclarationError(
                f"a CPU-bound job runs in another process, where {plan.wanted[0]!r} cannot be injected.",
                where=self.name,
                remedy="Pass it what it needs as arguments.",
            )
        signature = Signature(self.fn, self.name, plan.wanted)
        result = (
            Codec(returned_type(self.fn), f"{self.name}, its result")
            if self.result_ttl_s is not None
            else None
        )
        driver = self._driver(container, queues, plan) if plan.uses(Flow) else None
        handler = Handler(
            self.name,
            "job",
            self.fn,
            signature.decode,
            plan,
            database=database,
            retry=self.retry,
            timeout_s=self.timeout_s if driver is None else None,
            concurrency=self.concurrency,
            cpu=self.cpu,
            result_ttl_s=self.result_ttl_s,
            encode_result=lambda value: self._codec(bound).encode(value),
            transaction="given" if plan.uses(Tx) else "none",
            drive=driver,
        )
        bound = self._binding.bound = _Bound(queues, database, plan, signature, result, handler)
        return handler

    def _driver(self, container: Container, queues: Queues, plan: Plan) -> Driver:
        """For a job that takes a Flow."""
        from tenfold.jobs.driver import FlowDriver

        if plan.uses(Tx):
            raise DeclarationError(
                "it takes a Flow and a Tx.",
                where=self.name,
                remedy="A transaction, like all work, belongs into a step of the flow: a function that takes the Tx.",
            )
        if self._options.unique is not False:
            raise DeclarationError(
                "it is a flow and unique, so that a newer one could take the place of one that has begun.",
                where=self.name,
                remedy="Let a unique job enqueue it.",
            )
        for delivery in self.deliveries:
            delivery.queues = queues
        routes = {delivery.topic.name: delivery.name for delivery in self.deliveries}
        return FlowDriver(StepPlans(container), StepOptions(self.retry, self.timeout_s), routes)

    def unbind(self) -> None:
        """Back to the state before :meth:`bind`."""
        self._binding.bound = None

    def _bound(self, what: str) -> _Bound:
        bound = self._binding.bound
        if bound is None:
            raise NotBound(
                f"{self.name}.{what} was called before its app started; call it in operations, jobs or on_start "
                "functions, or inside `async with app.test()` in tests."
            )
        return bound

    def _check(self) -> None:
        if self.concurrency is not None and self.concurrency < 1:
            raise DeclarationError(
                f"its concurrency is {self.concurrency}, so it would never run.", where=self.name
            )
        if self.timeout_s is not None and self.timeout_s <= 0:
            raise DeclarationError(f"its timeout is {self.timeout_s:g} s.", where=self.name)
        if self.cpu and "<locals>" in self.fn.__qualname__:
            raise DeclarationError(
                "a CPU-bound job runs in another process, which finds it by its name.",
                where=f"{self.name}, {describe(self.fn)}",
                remedy="Define it at the top of a module.",
            )
