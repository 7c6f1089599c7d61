"""Runs one claimed message and says what becomes of it.

A handler with a transaction has its effect, the inbox row and the fenced acknowledgement committed together
(when the message lies in the same database): whoever lost the lease commits nothing. Any other handler is
acknowledged after it returned, so it may run twice; external effects use ``JobContext.idempotency_key``.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import msgspec

from tenfold._core.causal import merged
from tenfold._core.context import Context, enter
from tenfold.db.ambient import Ambient
from tenfold.db.database import Tx
from tenfold.errors import LeaseLost, UndecodableEvent, WrongArguments
from tenfold.queue import outcome
from tenfold.queue.context import JobContext, enter_job
from tenfold.queue.contract import Expired, Inbox, Keep
from tenfold.queue.expiry import until_of
from tenfold.queue.message import Message, Settlement
from tenfold.security.principal import service_principal

if TYPE_CHECKING:
    from tenfold._core.clock import Clock
    from tenfold.queue.handler import Executor, Handler
    from tenfold.queue.queue import Queue
    from tenfold.telemetry.trace import Tracer

log = logging.getLogger("tenfold.queue")

_GRAIN_S = 0.02
"""The timer that ends a run goes by the monotonic clock, its deadline by the database's: they may differ by so much."""


class WorkerProcessDied(Exception):
    """The process of a CPU-bound job ended before the job did."""


class Run:
    """One claimed message in this worker."""

    __slots__ = (
        "begun_at", "causal", "context", "handler", "message", "reason", "recorded", "stop", "task", "trace_id", "until",
    )  # fmt: skip

    def __init__(self, message: Message, handler: Handler, context: JobContext, causal: str) -> None:
        self.message = message
        self.handler = handler
        self.context = context
        self.causal = causal
        """What it reads is not older than this token."""
        self.until = until_of(message.context)
        """When it is no longer of use, seconds since the epoch; None: never."""
        self.task: asyncio.Task[None] | None = None
        self.begun_at: float | None = None
        """Monotonic; None until its first step."""
        self.stop = ""
        """Why it was told to stop: ``cancelled``, ``lost``, ``late`` or ``drain``."""
        self.reason = "cancelled"
        """Who told it so, and why."""
        self.trace_id = ""
        """Of the trace it belongs to, from its first step on."""
        self.recorded: Settlement | None = None
        """What became of it, when that is committed already, with its effect."""


class Runner:
    """See the module's docstring."""

    def __init__(
        self, queue: Queue, clock: Clock, keep: Keep, executor: Executor | None, tracer: Tracer | None = None
    ) -> None:
        self._tracer = tracer
        self.queue = queue
        self._clock = clock
        self.keep = keep
        self._executor = executor
        self.misfits: set[str] = set()
        """Handlers of which messages did not fit this code."""

    async def run(self, run: Run) -> Settlement | None:
        """What becomes of the message; None when its fate is committed or another worker's."""
        message, handler = run.message, run.handler
        if run.until is not None and run.until <= self.queue.now():
            return self._expired(run, run.until, begun=False)
        try:
            kwargs = handler.decode(message.payload)
        except WrongArguments as error:
            return self._misfit(message, error)
        except Exception as error:  # the type's own code, which knows nothing of us
            return self._failed(run, error)
        context, tracer = self._enter(run), self._tracer
        if tracer is None or not tracer.records(context, message.id):
            return await self._work(run, kwargs, context)
        attributes = {
            "messaging.destination.name": message.queue,
            "messaging.message.id": str(message.id),
            "tenfold.attempt": message.attempt,
        }
        work = "schedule" if message.kind == "tick" else message.kind
        with tracer.root(handler.name, "consumer", work, **attributes) as root:
            settlement = await self._work(run, kwargs, context)
            if settlement is not None and settlement.error:
                root.error = settlement.error
            return settlement

    async def _work(self, run: Run, kwargs: dict[str, Any], context: Context) -> Settlement | None:
        message, handler = run.message, run.handler
        try:
            if handler.drive is not None:
                return await handler.drive(self, run, kwargs, context)
            if handler.simple:
                return self._done(run, self._result(run, await handler.fn(**kwargs)))
            if handler.transaction == "given":
                return await self._in_transaction(run, kwargs, context)
            if handler.transaction == "around":
                return await self._around(run, kwargs, context)
            return await self._plain(run, kwargs, context)
        except asyncio.CancelledError as error:
            return self._cancelled(run, error)
        except WorkerProcessDied as error:
            log.warning("%s", error)
            return outcome.crashed(Expired(message.id, message.fence, message.crashes, None, message.queue))
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:
            return self._failed(run, error)

    def _cancelled(self, run: Run, error: asyncio.CancelledError) -> Settlement | None:
        handler = run.handler
        if run.stop == "late" and run.until is not None and run.until - _GRAIN_S <= self.queue.now():
            return self._expired(run, run.until, begun=True)
        if run.stop == "late":
            return self._failed(
                run, TimeoutError(f"{handler.name} did not end within {handler.timeout_s:g} s")
            )
        if run.stop:
            return stopped(run)
        # Given back it would be ready at once, and run for ever.
        error.add_note("Nobody told the run to stop: something that it awaited was cancelled by others.")
        return self._failed(run, error)

    def _expired(self, run: Run, until: float, *, begun: bool) -> Settlement:
        settlement = outcome.expired(run.message, until, begun=begun)
        log.warning(
            "%s %d is %s",
            run.handler.name,
            run.message.id,
            settlement.error,
            extra={"event": "queue.expired", "handler": run.handler.name, "message_id": run.message.id},
        )
        return settlement

    def left_s(self, run: Run) -> float | None:
        """How long the run may take: until its handler's time is over, or the message's deadline, if that is nearer."""
        if run.until is None:
            return run.handler.timeout_s
        left_s = run.until - self.queue.now()
        return left_s if run.handler.timeout_s is None else min(left_s, run.handler.timeout_s)

    def _misfit(self, message: Message, error: WrongArguments) -> Settlement:
        """Kept: another deploy may know what to do with it. Data that nothing can be made of is dead at once, so
        that it does not hold up its key."""
        if isinstance(error, UndecodableEvent):
            settlement = outcome.undecodable(message, str(error))
        else:
            settlement = outcome.parked(message, f"it does not fit the code that is running: {error}")
            self.misfits.add(message.handler)
        log.warning(
            "%s %d is %s: %s",
            message.handler,
            message.id,
            "dead" if settlement.verdict == "dead" else "parked",
            settlement.error,
            extra={"event": "queue.misfit", "handler": message.handler, "message_id": message.id},
        )
        return settlement

    def _enter(self, run: Run) -> Context:
        message, handler = run.message, run.handler
        context = Context.from_wire(msgspec.json.decode(message.context)) if message.context else Context()
        context.causal = merged(context.causal, run.causal)
        context.service, context.operation = handler.service, handler.name
        context.principal = service_principal(context.service, context.tenant)
        context.monotonic = self._clock.monotonic
        if self._tracer is not None:
            if not context.trace_id:  # nobody's request asked for it: a trace starts here
                begun = self._tracer.begin()
                context.trace_id, context.sampled = begun.trace_id, begun.sampled
            run.trace_id = context.trace_id
        left_s = self.left_s(run)
        if left_s is not None:
            context.deadline = self._clock.monotonic() + left_s
        enter(context)
        enter_job(run.context)
        return context

    async def _plain(self, run: Run, kwargs: dict[str, Any], context: Context) -> Settlement:
        handler, message = run.handler, run.message
        if handler.cpu:
            assert self._executor is not None
            result = await self._executor.run(handler, message, run.context)
            return self._done(run, result if handler.keeps(message) else None)
        value = await handler.call(kwargs, {Context: context, JobContext: run.context})
        return self._done(run, self._result(run, value))

    def _result(self, run: Run, value: Any) -> str | None:
        handler = run.handler
        if handler.encode_result is None or not handler.keeps(run.message):
            return None
        return handler.encode_result(value)

    def done(self, run: Run, value: Any) -> Settlement:
        """The run returned ``value``."""
        return self._done(run, self._result(run, value))

    def _done(self, run: Run, result: str | None) -> Settlement:
        if result is None:
            return outcome.done(run.message)
        kept_s = run.handler.result_ttl_s
        return outcome.done(
            run.message, result, self.queue.now() + (self.keep.done_s if kept_s is None else kept_s)
        )

    async def _in_transaction(self, run: Run, kwargs: dict[str, Any], context: Context) -> Settlement | None:
        """The handler takes a Tx: inbox, effect and acknowledgement in this order, in that transaction."""
        database = run.handler.database
        assert database is not None
        async with database.tx() as tx:
            settlement = outcome.done(run.message)
            if await self._is_new(run, tx):
                value = await run.handler.call(kwargs, {Tx: tx, Context: context, JobContext: run.context})
                settlement = self._done(run, self._result(run, value))
            ours = self._acknowledge_last(tx, settlement)
        return self._recorded(run, settlement, ours)

    async def _around(self, run: Run, kwargs: dict[str, Any], context: Context) -> Settlement | None:
        """The subscriber opens transactions itself: they join one that the inbox row and the acknowledgement
        end. It begins with the subscriber's first statement, so that what it awaits before holds up nobody."""
        database = run.handler.database
        assert database is not None
        await database.passage()
        ambient = Ambient(database)
        ambient.install(context)
        finished = False
        try:
            await run.handler.call(kwargs, {Context: context, JobContext: run.context})
            if not await self._is_new(run, ambient.tx):
                return outcome.done(run.message)  # handled before; what was done now is undone
            settlement = outcome.done(run.message)
            ours = self._acknowledge_last(ambient.tx, settlement)
            finished = True
            await ambient.finish(commit=True)
        finally:
            ambient.remove(context)
            if not finished:
                await ambient.finish(commit=False)
        return self._recorded(run, settlement, ours)

    def _recorded(self, run: Run, settlement: Settlement, ours: bool) -> Settlement | None:
        if not ours:
            return settlement
        run.recorded = settlement
        return None

    async def _is_new(self, run: Run, tx: Tx) -> bool:
        """Whether the event of a subscription was not handled before; from now on it was."""
        event_id = run.message.event_id
        if not run.handler.inbox or event_id is None:
            return True
        until = self.queue.now() + max(self.keep.done_s, self.keep.inbox_s)
        return await self._queues_inbox().remember(tx, run.handler.name, event_id, until)

    def _queues_inbox(self) -> Inbox:
        backend = self.queue.backend
        assert isinstance(backend, Inbox)
        return backend

    def _acknowledge_last(self, tx: Tx, settlement: Settlement) -> bool:
        """Settle before ``tx`` commits, when the message lies in its database; answers whether it does. Done last,
        the statement takes the commit along."""
        if tx.database.backend is not self.queue.database.backend:
            return False

        async def acknowledge(tx: Tx) -> None:
            if await self.queue.backend.settle(tx, (settlement,), self.queue.now(), self.keep):
                raise LeaseLost(f"message {settlement.id}: another worker holds it now")

        tx.before_commit(acknowledge, may_be_last=True)
        return True

    def _failed(self, run: Run, error: BaseException) -> Settlement | None:
        message, handler = run.message, run.handler
        settlement = outcome.failed(message, error, handler.retry, self.queue.now(), self._clock.random)
        verdict = settlement.verdict if settlement is not None else "lost"
        log.log(
            logging.ERROR if verdict == "dead" else logging.WARNING,
            "%s %d failed in attempt %d (%s): %s",
            handler.name,
            message.id,
            message.attempt,
            verdict,
            error,
            exc_info=error if verdict == "dead" else None,
            extra={
                "event": "queue.failed",
                "handler": handler.name,
                "message_id": message.id,
                "attempt": message.attempt,
                "verdict": verdict,
            },
        )
        return settlement


def stopped(run: Run) -> Settlement | None:
    """What becomes of a run that was told to stop."""
    if run.stop == "lost":
        return None
    if run.stop == "cancelled":
        return outcome.cancelled(run.message, f"{run.reason}, while it ran")
    return outcome.released(run.message)
