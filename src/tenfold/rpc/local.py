"""Calls between services inside one process: the same promises as over the wire, without the wire.

Arguments are copied and validated, the callee's policy is checked against the caller's principal, the deadline is
the earlier of the caller's and the operation's, and errors arrive as the types that a remote call would raise:
problems and Tenfold's own errors as they are, anything unforeseen as :class:`~tenfold.errors.InternalError`.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from tenfold._core import context as contexts
from tenfold._core.context import Context
from tenfold.db.database import Reader, Tx
from tenfold.errors import CallError, DeadlineExceeded, Forbidden, InternalError, TenfoldError
from tenfold.rpc.signature import Signature
from tenfold.security.policy import as_policy
from tenfold.security.principal import Principal

if TYPE_CHECKING:
    from tenfold.http.inject import Injection, PrincipalParam
    from tenfold.http.operation import Operation
    from tenfold.http.wiring import Wiring

log = logging.getLogger("tenfold.rpc")


class LocalCall:
    """The callable behind ``await operation(…)`` while its app runs."""

    def __init__(
        self,
        operation: Operation[..., Any],
        injection: Injection,
        wiring: Wiring,
    ) -> None:
        self._operation = operation
        self._injection = injection
        self._signature = Signature(operation.fn, injection.names)
        self._database = wiring.databases.get(operation.service)
        self._clock = wiring.clock
        self._threads = wiring.threads
        self._timeout_s = operation.policies.timeout_s or wiring.settings.timeout_s
        self._policy = as_policy(operation.policies.auth) if operation.routed else None
        self._injects = bool(injection.names)

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        signature = self._signature
        sent = signature.encode_arguments(signature.bind(args, kwargs))
        context = self._child(contexts.current())
        if self._policy is not None:
            await self._policy.check_async(context.principal)
        arguments = signature.decode_arguments(sent)
        with contexts.use(context):
            result = await self._bounded(arguments, context)
        return signature.decode_result(signature.encode_result(result))

    def _child(self, caller: Context) -> Context:
        now = self._clock.monotonic()
        deadline = now + self._timeout_s
        if caller.deadline is not None:
            deadline = min(deadline, caller.deadline)
            if deadline <= now:
                raise DeadlineExceeded(f"No time was left to call {self._operation.name}.")
        principal = caller.principal
        if principal is None and caller.service:  # a job or a schedule calls: the service itself asks
            principal = Principal(id=f"service:{caller.service}", kind="service", via="service")
        return caller.child(
            deadline=deadline,
            principal=principal,
            service=self._operation.service,
            operation=self._operation.name,
        )

    async def _bounded(self, arguments: dict[str, Any], context: Context) -> Any:
        assert context.deadline is not None
        seconds = context.deadline - self._clock.monotonic()
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                return await self._run(arguments, context)
        except TimeoutError as error:
            if not limit.expired():
                raise self._unforeseen(error) from error
            raise DeadlineExceeded(f"{self._operation.name} did not answer within {seconds:.3g} s.") from None
        except (TenfoldError, asyncio.CancelledError):
            raise
        except Exception as error:
            raise self._unforeseen(error) from error

    async def _run(self, arguments: dict[str, Any], context: Context) -> Any:
        if not self._injects:
            return await self._call(arguments)
        async with AsyncExitStack() as stack:
            await self._inject(arguments, context, stack)
            return await self._call(arguments)

    async def _inject(self, arguments: dict[str, Any], context: Context, stack: AsyncExitStack) -> None:
        """Fill what the framework provides; the transaction, if one is wanted, commits when ``stack`` closes."""
        injection = self._injection
        given: dict[Any, Any] = {Context: context, Principal: context.principal}
        if injection.wants(Reader) and self._database is not None:
            given[Reader] = self._database.read()
        if injection.wants(Tx) and self._database is not None:
            given[Tx] = await stack.enter_async_context(self._database.tx())
        for name, type_ in injection.direct.items():
            arguments[name] = given[type_]
        for wanted in injection.principals:
            arguments[wanted.name] = self._principal(wanted, context.principal)
        if injection.plan:
            arguments.update(await injection.plan.resolve(given, stack))

    def _principal(self, wanted: PrincipalParam, principal: Any) -> Any:
        if isinstance(principal, wanted.type) or (principal is None and wanted.optional):
            return principal
        raise Forbidden(f"{self._operation.name} is for a {wanted.type.__name__}.")

    async def _call(self, arguments: dict[str, Any]) -> Any:
        fn = self._operation.fn
        if self._operation.is_async:
            return await fn(**arguments)
        return await self._threads.run(fn, **arguments)

    def _unforeseen(self, error: BaseException) -> InternalError:
        log.error("%s failed", self._operation.name, exc_info=error)
        return InternalError(f"{self._operation.name} failed.")


class NotCallable:
    """Stands behind an operation that only HTTP can reach: it wants the request itself, or an upload."""

    def __init__(self, operation: Operation[..., Any], why: str) -> None:
        self._message = f"{operation.name} cannot be called from other services: {why}."

    async def __call__(self, *_: Any, **__: Any) -> Any:
        raise CallError(self._message)
