"""Makes ``await operation(…)`` a call between services while an app runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any

from tenfold.errors import DeclarationError
from tenfold.http.inject import injection_of
from tenfold.http.request import Request
from tenfold.http.router import path_names
from tenfold.rpc.local import CallMetrics, LocalCall, NotCallable

if TYPE_CHECKING:
    from tenfold.http.operation import Operation
    from tenfold.http.wiring import Wiring
    from tenfold.telemetry.metrics import Registry

Caller = Callable[..., Awaitable[Any]]


class Calls:
    """The calls of one app's operations. A part: operations go through it from ``start`` to ``stop``.

    Making it raises DeclarationError for an :meth:`~tenfold.service.Service.internal` operation that cannot be
    called; one with a route that only HTTP can reach says so when it is called.
    """

    def __init__(self, operations: Iterable[Operation[..., Any]], wiring: Wiring, registry: Registry) -> None:
        metrics = CallMetrics(registry)
        self._callers = [(operation, _caller(operation, wiring, metrics)) for operation in operations]

    async def start(self) -> None:
        for operation, caller in self._callers:
            operation.bind(caller)

    async def stop(self) -> None:
        """Make them plain functions again."""
        for operation, _ in self._callers:
            operation.bind(None)


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
