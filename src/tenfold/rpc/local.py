"""Calls between services inside one process: the same promises as over the wire, without the wire.

Arguments are copied and validated, the callee's policy is checked against the principal that the work in hand has
(of jobs, subscribers and schedules: their service), the callee has a transaction of its own, the deadline is the
earlier of the caller's and the operation's, and errors arrive as the types that a remote call would raise:
problems and Tenfold's own errors as they are, anything unforeseen as :class:`~tenfold.errors.InternalError`.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from tenfold._core import context as contexts
from tenfold._core.causal import merged
from tenfold._core.context import Context
from tenfold._core.time_limits import TimeLimits
from tenfold.db.ambient import held
from tenfold.db.database import Reader, Tx
from tenfold.errors import DeadlineExceeded, DeclarationError, InternalError, TenfoldError
from tenfold.http.access import admitted, optional
from tenfold.rpc.call import CallMetrics, OperationCall
from tenfold.security.policy import as_policy, public
from tenfold.security.principal import Principal
from tenfold.telemetry import names
from tenfold.telemetry.trace import recorded, span

if TYPE_CHECKING:
    from collections.abc import Callable

    from tenfold.http.inject import Injection
    from tenfold.http.operation import Operation
    from tenfold.http.wiring import Wiring
    from tenfold.rpc.signature import Signature
    from tenfold.rpc.wire import Wire

log = logging.getLogger("tenfold.rpc")


class LocalCall(OperationCall):
    """The callable behind ``await operation(…)`` while its app runs, and the service is served by this process."""

    def __init__(
        self,
        operation: Operation[..., Any],
        injection: Injection,
        signature: Signature,
        wiring: Wiring,
        metrics: CallMetrics,
    ) -> None:
        super().__init__(operation, wiring, metrics, signature.send)
        self._operation = operation
        self._injection = injection
        self._take: Callable[[bytes], dict[str, Any]] = signature.receive
        """What has travelled, as arguments."""
        self._give: Callable[[Any], Any] = signature.copy_result
        """The result as it goes back. Raises what msgspec does when it is not what was declared."""
        self._database = wiring.databases.get(operation.service)
        self._threads = wiring.threads
        self._policy = as_policy(operation.policies.auth) if operation.routed else public
        self._judges = self._policy is not public
        self._injects = bool(injection.names)
        self._limits: TimeLimits[_Limit] = TimeLimits(_Limit.pass_)
        self._service = operation.service
        # What needs nothing of ours around it is called without a frame of ours in between.
        self._bare = operation.fn if operation.is_async and not self._injects else None

    def heed(self, operation: Operation[..., Any]) -> None:
        super().heed(operation)
        most = operation.policies.concurrency
        self._bulkhead = None if most is None else self._wiring.bulkhead(operation.name, most)

    async def _travel(self, sent: bytes, now: float) -> Any:
        caller = contexts.peek() or contexts.current()
        context = self._child(caller, now)
        token = contexts.enter(context)
        try:
            if recorded() is None:
                return await self._arrive(sent, context, now)
            with span(names.SPAN_CALL, operation=self._name):
                return await self._arrive(sent, context, now)
        finally:
            contexts.leave(token)
            # What it wrote, the caller is to see, also when it failed after that.
            if context.causal != caller.causal:
                caller.causal = merged(caller.causal, context.causal)

    async def _arrive(self, sent: bytes, context: Context, now: float) -> Any:
        if self._policy.asynchronous:
            await self._policy.check_async(context.principal)
        elif self._judges:
            self._policy.check(context.principal)
        arguments = self._take(sent)
        assert context.deadline is not None
        left_s = context.deadline - self._monotonic()
        if left_s <= 0:  # the policy has taken it all
            raise DeadlineExceeded(f"No time was left to call {self._name}.")
        bulkhead = self._bulkhead
        if bulkhead is None:
            return await self._bounded(arguments, left_s, context.deadline - now)
        bulkhead.enter()
        try:
            return await self._bounded(arguments, left_s, context.deadline - now)
        finally:
            bulkhead.leave()

    def _child(self, caller: Context, now: float) -> Context:
        return replace(
            caller,
            deadline=self._ends(caller, now),
            service=self._service,
            operation=self._name,
            state=None if caller.state is None else held(caller),
        )

    async def _bounded(self, arguments: dict[str, Any], left_s: float, seconds: float) -> Any:
        """Run it for ``left_s`` seconds at most; ``seconds`` is what there was in the beginning, for messages."""
        limit = _Limit()
        self._limits.add(limit, left_s)
        try:
            if self._bare is not None:
                return self._give(await self._bare(**arguments))
            return await self._run(arguments)
        except asyncio.CancelledError:
            if limit.took_back():
                raise DeadlineExceeded(f"{self._name} did not answer within {seconds:.3g} s.") from None
            raise
        except TenfoldError:
            raise
        except Exception as error:
            log.exception("%s failed", self._name)
            raise InternalError(f"{self._name} failed.") from error
        finally:
            self._limits.remove(limit)
            if limit.passed:  # what it ran has ended all the same
                limit.took_back()

    async def _run(self, arguments: dict[str, Any]) -> Any:
        if not self._injects:
            return self._give(await self._call(arguments))
        async with AsyncExitStack() as stack:
            await self._inject(arguments, contexts.current(), stack)
            # Before the stack ends: a result that cannot travel undoes the transaction.
            return self._give(await self._call(arguments))

    async def _inject(self, arguments: dict[str, Any], context: Context, stack: AsyncExitStack) -> None:
        """Fill what the framework provides; the transaction, if one is wanted, commits when ``stack`` closes."""
        injection = self._injection
        given: dict[Any, Any] = {Context: context, Principal: context.principal}
        if self._database is not None:
            if injection.wants(Reader):
                given[Reader] = self._database.read()
            if injection.wants(Tx):
                given[Tx] = await stack.enter_async_context(self._database.tx())
        for name, type_ in injection.direct.items():
            arguments[name] = given[type_]
        for wanted in injection.principals:
            judge = optional if wanted.optional else admitted
            arguments[wanted.name] = judge(context.principal, wanted.type)
        if injection.plan:
            arguments.update(await injection.plan.resolve(given, stack))

    async def _call(self, arguments: dict[str, Any]) -> Any:
        deadline = contexts.current().deadline
        if (
            deadline is not None and self._monotonic() >= deadline
        ):  # a dependency, or the transaction, took it all
            raise DeadlineExceeded(f"No time was left to begin {self._name}.")
        fn = self._operation.fn
        if self._operation.is_async:
            return await fn(**arguments)
        return await self._threads.run(fn, **arguments)


class _Limit:
    """What :func:`asyncio.timeout` does, for as much as a call needs of it, without a timer for each: nearly all calls end
    long before their time, and arming and disarming one is half of what a call costs."""

    __slots__ = ("_before", "_task", "passed")

    def __init__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task, self._before, self.passed = task, task.cancelling(), False

    def pass_(self) -> None:
        """The time is over."""
        self.passed = True
        self._task.cancel()

    def took_back(self) -> bool:
        """Whether its own cancellation, which it takes back, was the only one."""
        ours, self.passed = self.passed, False
        return ours and self._task.uncancel() <= self._before


class Received(LocalCall):
    """The same call when its arguments have come over a wire: ``await received(sent)`` takes and answers bytes."""

    def __init__(
        self,
        operation: Operation[..., Any],
        injection: Injection,
        signature: Signature,
        wiring: Wiring,
        metrics: CallMetrics,
        *,
        wire: Wire,
        declared: Operation[..., Any],
    ) -> None:
        super().__init__(operation, injection, signature, wiring, metrics)
        self.operation = declared
        """Without what it inherits."""
        self._send = _as_it_came
        self._take, self._give = signature.over(wire)


def _as_it_came(args: tuple[Any, ...], _: dict[str, Any]) -> bytes:
    sent: bytes = args[0]
    return sent


class NotCallable:
    """Stands behind an operation that only HTTP can reach; ``why`` is raised whenever it is called."""

    def __init__(self, why: DeclarationError) -> None:
        self._why = why

    async def __call__(self, *_: Any, **__: Any) -> Any:
        why = self._why
        raise DeclarationError(why.what, where=why.where, remedy=why.remedy)
