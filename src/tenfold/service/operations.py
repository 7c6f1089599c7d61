"""How a service declares what clients and other services may ask of it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Literal, ParamSpec, Protocol, TypeVar, cast, overload

from typing_extensions import Unpack

from tenfold.errors import Problem
from tenfold.http.operation import UNSET, Operation, Policies, ResponseCache
from tenfold.http.policies import SharedOptions
from tenfold.http.websocket import WebSocketOperation
from tenfold.service.declarations import Declarations, Mount

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])


class OperationOptions(SharedOptions, total=False):
    """What surrounds an operation; see :class:`~tenfold.http.operation.Policies` for each. Those that are inherited may
    stand on the service or the app instead."""

    auth: Any
    status: int | None
    cache: ResponseCache | None
    etag: bool
    unknown_fields: Literal["reject", "ignore"]
    response_model: Any
    errors: tuple[type[Problem], ...]
    tags: tuple[str, ...]
    summary: str
    description: str
    deprecated: bool
    hidden: bool


class _Decorator(Protocol):
    """Turns a function into an operation of the same signature."""

    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> Operation[P, R]: ...

    @overload
    def __call__(self, fn: Callable[P, R], /) -> Operation[P, R]: ...


class Operations(Declarations):
    """Operations, WebSockets, and other applications below a path."""

    def get(self, path: str, **options: Unpack[OperationOptions]) -> _Decorator:
        """Answer ``GET path``. Options: :class:`OperationOptions`."""
        return self._operation("GET", path, options)

    def post(self, path: str, **options: Unpack[OperationOptions]) -> _Decorator:
        """Answer ``POST path``. Options: :class:`OperationOptions`."""
        return self._operation("POST", path, options)

    def put(self, path: str, **options: Unpack[OperationOptions]) -> _Decorator:
        """Answer ``PUT path``. Options: :class:`OperationOptions`."""
        return self._operation("PUT", path, options)

    def patch(self, path: str, **options: Unpack[OperationOptions]) -> _Decorator:
        """Answer ``PATCH path``. Options: :class:`OperationOptions`."""
        return self._operation("PATCH", path, options)

    def delete(self, path: str, **options: Unpack[OperationOptions]) -> _Decorator:
        """Answer ``DELETE path``. Options: :class:`OperationOptions`."""
        return self._operation("DELETE", path, options)

    def internal(self, fn: Callable[P, Coroutine[Any, Any, R]]) -> Operation[P, R]:
        """An operation without a route: other services may call it, clients may not."""
        operation: Operation[P, R] = Operation(fn, service=self.name, method="POST", path="/")
        operation.routed = False
        self.operations.append(operation)
        return operation

    def websocket(self, path: str, *, auth: Any = UNSET) -> Callable[[F], F]:
        """Talk over a WebSocket at ``path``; ``auth`` is checked before the connection is accepted."""

        def declare(fn: F) -> F:
            policy = self.auth if auth is UNSET else auth
            self.websockets.append(
                WebSocketOperation(fn, service=self.name, path=self.prefix + path, auth=policy)
            )
            return fn

        return declare

    def mount(self, path: str, app: Any, *, auth: Any = UNSET) -> None:
        """Hand every request below ``path`` to another ASGI application, once ``auth`` has let it pass."""
        self.mounts.append(Mount(self.prefix + path, app, self.auth if auth is UNSET else auth))

    def _operation(self, method: str, path: str, options: OperationOptions) -> _Decorator:
        policies = Policies(**cast("dict[str, Any]", options))
        if policies.auth is UNSET:
            policies.auth, policies.auth_from = self.auth, f"service {self.name}"
        policies.tags = policies.tags or self.tags

        def declare(fn: Callable[P, Any]) -> Operation[P, Any]:
            operation: Operation[P, Any] = Operation(
                fn, service=self.name, method=method, path=self.prefix + path, policies=policies
            )
            self.operations.append(operation)
            return operation

        return declare
