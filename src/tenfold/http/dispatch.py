"""What is answered without a handler: HEAD by GET, OPTIONS, CORS preflights, redirects, 404 and 405."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from tenfold.errors import MethodNotAllowed, NotFound, Problem
from tenfold.http.edge import dressed
from tenfold.http.problems import answer_of

if TYPE_CHECKING:
    from tenfold.http.compiler import Endpoint
    from tenfold.http.middleware import Edge
    from tenfold.http.reply import Answer, Headers
    from tenfold.http.router import Router

Routed = tuple[Mapping[str, "Endpoint"], tuple[str, ...]]
"""The endpoints of a path by method, and the values of its placeholders."""


class Asked(NamedTuple):
    """A request as far as routing needs it."""

    method: str
    path: str
    raw_path: bytes
    """Before percent-decoding, below the mount point; empty when the server does not tell."""
    root_path: str
    query: bytes
    headers: Headers


class Target(NamedTuple):
    """Either an endpoint with the values of its placeholders, or an answer."""

    endpoint: Endpoint | None
    segments: tuple[str, ...]
    answer: Answer | None


class Dispatcher:
    """Knows every route of an app; makes the answers that no operation makes."""

    def __init__(self, router: Router[Endpoint], edge: Edge | None) -> None:
        self._router = router
        self._edge = edge

    def target(self, asked: Asked, routed: Routed | None) -> Target:
        """For a path without operations (``routed`` None) or without one for the method.

        Raises NotFound, and MethodNotAllowed with ``Allow``.
        """
        if routed is None:
            return Target(None, (), dressed(self._redirect(asked), self._edge, asked.headers))
        methods, segments = routed
        if asked.method in methods:
            return Target(methods[asked.method], segments, None)
        if asked.method == "HEAD" and "GET" in methods:
            return Target(methods["GET"], segments, None)
        allowed = allow(methods)
        if asked.method == "OPTIONS":
            answer = self._preflight(asked, methods) or (204, [(b"allow", allowed.encode())], b"", None)
            return Target(None, (), dressed(answer, self._edge, asked.headers))
        raise MethodNotAllowed(
            f"{asked.path} does not accept {asked.method}; it accepts {allowed}.", headers={"Allow": allowed}
        )

    def problem(self, problem: Problem, path: str, headers: Headers) -> Answer:
        """A problem met before any operation was found."""
        return dressed(answer_of(problem, instance=path), self._edge, headers)

    def _preflight(self, asked: Asked, methods: Mapping[str, Endpoint]) -> Answer | None:
        if self._edge is None or self._edge.cors is None:
            return None
        by_name = {name.decode("latin-1"): value.decode("latin-1") for name, value in asked.headers}
        headers = self._edge.cors.preflight(by_name.get, methods)
        return None if headers is None else (204, headers, b"", None)

    def _redirect(self, asked: Asked) -> Answer:
        """308 to the same path with or without its last slash, when that is served; else NotFound."""
        path, raw = asked.path, asked.raw_path
        other = path[:-1] if path.endswith("/") else path + "/"
        raw_other = raw and (raw[:-1] if raw.endswith(b"/") else raw + b"/")
        # A Location that begins with two slashes would name another server.
        served = len(other) > 1 and not path.startswith("//") and self._serves(other, raw_other)
        if not served:
            raise NotFound(f"{asked.method} {path} is not served here.")
        location = quote(asked.root_path) + (raw_other.decode("latin-1") if raw_other else quote(other))
        if asked.query:
            location += "?" + asked.query.decode("latin-1")
        headers = [(b"location", location.encode("latin-1", "ignore")), (b"content-length", b"0")]
        return 308, headers, b"", None

    def _serves(self, path: str, raw_path: bytes) -> bool:
        return path in self._router.static or self._router.find(path, raw_path) is not None


def allow(methods: Mapping[str, Endpoint]) -> str:
    """The ``Allow`` header of a path."""
    return ", ".join(sorted({*methods, "OPTIONS", *(["HEAD"] if "GET" in methods else [])}))
