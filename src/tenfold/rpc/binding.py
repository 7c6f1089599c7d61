"""Makes ``await operation(…)`` a call between services while an app runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from tenfold.http.inject import injection_of
from tenfold.http.request import Request
from tenfold.http.router import path_names
from tenfold.rpc.local import LocalCall, NotCallable

if TYPE_CHECKING:
    from tenfold.http.operation import Operation
    from tenfold.http.wiring import Wiring


def bind_calls(operations: Iterable[Operation[..., Any]], wiring: Wiring) -> None:
    """Give every operation its caller. Raises DeclarationError for a signature that cannot travel."""
    for operation in operations:
        injection = injection_of(operation, wiring, tuple(path_names(operation.path)))
        if injection.wants(Request):
            operation.bind(NotCallable(operation, "it takes the HTTP request itself"))
        else:
            operation.bind(LocalCall(operation, injection, wiring))


def unbind_calls(operations: Iterable[Operation[..., Any]]) -> None:
    """Make them plain functions again."""
    for operation in operations:
        operation.bind(None)
