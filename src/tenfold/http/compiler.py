"""Operations to endpoints: the steps of the pipeline write one Python function per operation, at start.

The function is ordinary source (``Endpoint.source``; tracebacks show its lines), specialised to the
operation: what it does not use is not in it.
"""

from __future__ import annotations

import linecache
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tenfold.errors import DeclarationError
from tenfold.http.build import Build
from tenfold.http.inject import injection_of
from tenfold.http.limiting import limits_of
from tenfold.http.params import Param, classify
from tenfold.http.pipeline import STEPS
from tenfold.http.quick import Quick, quick_of
from tenfold.http.router import path_names

if TYPE_CHECKING:
    from tenfold.http.operation import Operation
    from tenfold.http.reply import Answer
    from tenfold.http.request import Request
    from tenfold.http.wiring import Wiring


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A compiled operation."""

    operation: Operation[..., Any]
    call: Callable[[Request], Awaitable[Answer]]
    quick: Quick | None
    """Asked before a request is made, when there is one."""
    names: tuple[str, ...]
    body_max_bytes: int
    source: str
    params: tuple[Param, ...]
    """What the request fills, for the documentation."""
    injected: frozenset[str]
    limited: bool
    """Whether it may answer 429."""


def compile_operation(operation: Operation[..., Any], wiring: Wiring) -> Endpoint:
    """Raises DeclarationError for an operation that cannot work as it is written."""
    names = path_names(operation.path, where=operation.where)
    injection = injection_of(operation, wiring, names)
    params = classify(operation.fn, method=operation.method, path_names=names, injected=injection.names)
    build = Build(operation, wiring, params, injection, names)
    build.code.open("async def endpoint(request):")
    for step in STEPS:
        step.write(build)
    source = build.code.text()
    return Endpoint(
        operation=operation,
        quick=quick_of(build),
        call=_function(source, operation, build.code.names),
        names=names,
        body_max_bytes=_body_max_bytes(build),
        source=source,
        params=tuple(params),
        injected=injection.names,
        limited=bool(limits_of(operation, wiring.limits)),
    )


def _body_max_bytes(build: Build) -> int:
    own = build.operation.policies.body_max_bytes
    settings = build.wiring.settings
    return own or (settings.upload_max_bytes if build.in_("form", "file") else settings.body_max_bytes)


def _function(source: str, operation: Operation[..., Any], names: dict[str, Any]) -> Any:
    filename = f"<{operation.method} {operation.path}: {operation.name}>"
    # Tracebacks and debuggers ask linecache for the lines of a file that does not exist.
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    namespace = dict(names)
    try:
        exec(compile(source, filename, "exec"), namespace)  # noqa: S102 - source of our own making
    except SyntaxError as error:
        raise DeclarationError(
            f"its endpoint could not be compiled: {error}.", where=operation.where
        ) from error
    return namespace["endpoint"]
