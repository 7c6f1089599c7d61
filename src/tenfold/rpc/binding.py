"""Makes ``await operation(…)`` a call between services while an app runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from tenfold.errors import DeclarationError
from tenfold.http.inject import injection_of, planned
from tenfold.http.policies import Layers, effective
from tenfold.http.request import Request
from tenfold.http.router import path_names
from tenfold.rpc.call import CallMetrics, OperationCall
from tenfold.rpc.local import LocalCall, NotCallable, Received
from tenfold.rpc.receiving import Receiving
from tenfold.rpc.remote import RemoteCall
from tenfold.rpc.signature import Signature

if TYPE_CHECKING:
    from tenfold.http.operation import Operation
    from tenfold.http.wiring import Wiring
    from tenfold.rpc.declared import DeclaredCalls
    from tenfold.rpc.door import Door
    from tenfold.rpc.peer import Peer
    from tenfold.rpc.receiving import Receiver
    from tenfold.rpc.wire import Wire
    from tenfold.telemetry.metrics import Registry

Caller = Callable[..., Awaitable[Any]]
C = TypeVar("C", bound=LocalCall)


class Calls:
    """The calls of one app's operations. A part: operations go through it from ``start`` to ``stop``.

    ``elsewhere`` are the operations of services in other processes, ``peers`` those services by name. Making it raises
    DeclarationError for an :meth:`~tenfold.service.Service.internal` operation that cannot be called; one with a route
    that only HTTP can reach says so when it is called.
    """

    def __init__(
        self,
        operations: Iterable[Operation[..., Any]],
        wiring: Wiring,
        registry: Registry,
        declared: DeclaredCalls,
        *,
        elsewhere: Iterable[Operation[..., Any]] = (),
        peers: Mapping[str, Peer] | None = None,
    ) -> None:
        self._metrics = CallMetrics(registry)
        self._wiring = wiring
        self._here = {operation.name: operation for operation in operations}
        self._peers = peers or {}
        self._receiving: Receiving | None = None
        self._declared = declared
        self._changed: dict[str, Layers] = {}
        """By operation, of those that were changed at run time: what goes before what it declares."""
        self._callers = [(operation, self._local(operation)) for operation in self._here.values()]
        self._remote_callers = [(operation, self._remote(operation)) for operation in elsewhere]

    async def start(self) -> None:
        for operation, caller in self._callers:
            operation.bind(self._declared.within(operation.name, caller))
        for operation, caller in self._remote_callers:
            operation.bind(self._declared.beyond(operation.name, caller))

    async def stop(self) -> None:
        """Make them plain functions again."""
        for operation, _ in (*self._callers, *self._remote_callers):
            operation.bind(None)

    def receiving(self, door: Door) -> Receiving:
        """What takes calls of the operations here from other processes."""
        self._receiving = Receiving(
            self._here, self._receiver, door, reads_causal=self._wiring.causal is not None
        )
        return self._receiving

    def change(self, changed: Callable[[Operation[..., Any]], Layers | None]) -> None:
        """Heed other policies, as :meth:`HttpApp.recompile` does; calls in progress end as they began."""
        receivers = [] if self._receiving is None else self._receiving.made()
        named: list[tuple[Operation[..., Any], Any]] = [*self._callers, *self._remote_callers]
        named += [(each.operation, each) for each in receivers if isinstance(each, Received)]
        for operation, caller in named:
            if isinstance(caller, OperationCall) and (layers := changed(operation)) is not None:
                self._changed[operation.name] = layers
                caller.heed(self._effective(operation, layers))

    def _effective(self, operation: Operation[..., Any], before: Layers) -> Operation[..., Any]:
        return effective(operation, (*before, *self._wiring.inherited.get(operation.service, ())))

    def _local(self, operation: Operation[..., Any]) -> Caller:
        return self._callable(operation, LocalCall)

    def _receiver(self, name: str, wire: Wire) -> Receiver:
        return self._callable(
            self._here[name], lambda *given: Received(*given, wire=wire, declared=self._here[name])
        )

    def _callable(self, operation: Operation[..., Any], make: Callable[..., C]) -> C | NotCallable:
        wiring, found = self._wiring, self._effective(operation, self._changed.get(operation.name, ()))
        try:
            injection = injection_of(found, wiring, _path_names(found))
            if injection.wants(Request):
                return NotCallable(_wants_request(found))
            return make(found, injection, Signature(found.fn, injection.names), wiring, self._metrics)
        except DeclarationError as error:
            if not operation.routed:
                raise
            return NotCallable(error)

    def _remote(self, operation: Operation[..., Any]) -> Caller:
        try:
            injection = planned(operation, self._wiring.container, _path_names(operation))
            if injection.wants(Request):
                return NotCallable(_wants_request(operation))
            signature = Signature(operation.fn, injection.names)
        except DeclarationError as error:
            return NotCallable(error)
        peer = self._peers[operation.service]
        return RemoteCall(self._effective(operation, ()), signature, peer, self._wiring, self._metrics)


def _path_names(operation: Operation[..., Any]) -> tuple[str, ...]:
    return tuple(path_names(operation.path)) if operation.routed else ()


def _wants_request(operation: Operation[..., Any]) -> DeclarationError:
    error = DeclarationError(
        "it cannot be called from other services: it takes the HTTP request itself.", where=operation.where
    )
    if not operation.routed:
        raise error
    return error
