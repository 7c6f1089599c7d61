"""Operations to endpoints: the steps of the pipeline write one Python function per operation, at start.

The function is ordinary source (``Endpoint.source``; tracebacks show its lines), specialised to the
operation: what it does not use is not in it.
"""

from __future__ import annotations

import linecache
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tenfold.errors import DeclarationError
from tenfold.http.inject import Injection, injection_of
from tenfold.http.params import Param, classify
from tenfold.http.reply import Headers, StreamingResponse
from tenfold.http.router import path_names

if TYPE_CHECKING:
    from tenfold.http.operation import Operation
    from tenfold.http.request import Request
    from tenfold.http.wiring import Wiring

Answer = tuple[int, Headers, bytes, StreamingResponse | None]
"""Status, headers (with content-length), body, and the stream that makes the body when it is one."""

INDENT = "    "


class Code:
    """Source that grows line by line; blocks are closed in the reverse order of their opening."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {}
        self._lines: list[str] = []
        self._depth = 0
        self._closers: list[tuple[int, tuple[str, ...]]] = []

    def line(self, *texts: str) -> None:
        self._lines.extend(INDENT * self._depth + text for text in texts)

    def open(self, head: str, *after: str) -> None:
        """Begin a block around everything that later steps write; ``after`` are the lines that end it.

        They stand at the level of ``head``, unless they begin with a space for each level below it.
        """
        self.line(head)
        self._closers.append((self._depth, after))
        self._depth += 1

    def after(self, *lines: str) -> None:
        """Lines that follow everything that later steps write, without a block around that."""
        self._closers.append((self._depth, lines))

    def use(self, **names: Any) -> None:
        """Make objects visible to the function. A name means one thing only."""
        for name, value in names.items():
            if self.names.setdefault(name, value) is not value:
                raise AssertionError(f"two steps use the name {name!r} differently")

    def text(self) -> str:
        """The whole source, every open block closed."""
        while self._closers:
            self._depth, after = self._closers.pop()
            self.line(*(INDENT * (len(t) - len(t.lstrip(" "))) + t.lstrip(" ") for t in after))
        return "\n".join(self._lines) + "\n"


@dataclass(slots=True)
class Build:
    """What the steps know of the operation that they write code for."""

    operation: Operation[..., Any]
    wiring: Wiring
    params: list[Param]
    injection: Injection
    path_names: tuple[str, ...]
    code: Code = field(default_factory=Code)
    arguments: dict[str, str] = field(default_factory=dict)
    """Expression of every argument of the handler, filled by the steps."""

    def in_(self, *places: str) -> list[Param]:
        return [p for p in self.params if p.place in places]

    @property
    def has_body(self) -> bool:
        return bool(self.in_("body", "form", "file"))

    @property
    def timeout_s(self) -> float:
        return self.operation.policies.timeout_s or self.wiring.settings.timeout_s


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A compiled operation."""

    operation: Operation[..., Any]
    call: Callable[[Request], Awaitable[Answer]]
    names: tuple[str, ...]
    body_max_bytes: int
    source: str
    params: tuple[Param, ...]
    """What the request fills, for the documentation."""
    injected: frozenset[str]


def compile_operation(operation: Operation[..., Any], wiring: Wiring) -> Endpoint:
    """Raises DeclarationError for an operation that cannot work as it is written."""
    from tenfold.http.pipeline import STEPS

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
        call=_function(source, operation, build.code.names),
        names=names,
        body_max_bytes=_body_max_bytes(build),
        source=source,
        params=tuple(params),
        injected=injection.names,
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
