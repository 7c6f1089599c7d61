"""Makes ``await operation(…)`` a call between services while an app runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any

from tenfold.errors import DeclarationError
from tenfold.http.inject import injection_of
from tenfold.http.policies import Layers, effective
from tenfold.http.request import Request
from tenfold.http.router import path_names
from tenfold.rpc.local import CallMetrics, LocalCall, NotCallable

if TYPE_CHECKING:
    from tenfold.http.operation import Operation
    from tenfold.http.wiring import Wiring
    from tenfold.rpc.declared import DeclaredCalls
    from tenfold.telemetry.metrics import Registry

Caller = Callable[..., Awaitable[Any]]


class Calls:
    """The calls of one app's operations. A part: operations go through it from ``start`` to ``stop``.

    Making it raises DeclarationError for an :meth:`~tenfold.service.Service.internal` operation that cannot be
    called; one with a route that only HTTP can reach says so when it is called.
    """

    def __init__(
        self,
        operations: Iterable[Operation[..., Any]],
        wiring: Wiring,
        registry: Registry,
        declared: DeclaredCalls,
    ) -> None:
        metrics = CallMetrics(registry)
        self._wiring, self._declared = wiring, declared
        self._callers = [
            (operation, _caller(self._effective(operation, ()), wiring, metrics)) for operation in operations
        ]

    async def start(self) -> None:
        for operation, caller in self._callers:
            operation.bind(self._declared.within(operation.name, caller))

    async def stop(self) -> None:
        """Make them plain functions again."""
        for operation, _ in self._callers:
            operation.bind(None)

    def change(self, changed: Callable[[Operation[..., Any]], Layers | None]) -> None:
        """Heed other policies, as :meth:`HttpApp.recompile` does; calls in progress end as they began."""
        for operation, caller in self._callers:
            if isinstance(caller, LocalCall) and (layers := changed(operation)) is not None:
                caller.heed(self._effective(operation, layers))

    def _effective(self, operation: Operation[..., Any], before: Layers) -> Operation[..., Any]:
        return effective(operation, (*before, *self._wiring.inherited.get(operation.service, ())))


def _caller(operation: Operation[..., Any], wiring: Wiring, metrics: CallMetrics) -> Caller:
    try:
        names = tuple(path_names(operation.path)) if operation.routed else ()
        injection = injection_of(operation, wiring, names)
        if injection.wants(Request):
            return NotCallable(_wants_request(operation))
        return LocalCall(operation, injection, wiring, metrics)
    except DeclarationError as error:
        if not operation.routed:
            raise
        return NotCallable(error)


def _wants_request(operation: Operation[..., Any]) -> DeclarationError:
    error = DeclarationError(
        "it cannot be called from other services: it takes the HTTP request itself.", where=operation.where
    )
    if not operation.routed:
        raise error
    return error
