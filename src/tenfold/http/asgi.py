"""The ASGI entry: compiled operations behind a router, mounted apps, WebSockets, lifespan."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from tenfold._core.clock import Clock, SystemClock
from tenfold._core.container import Container
from tenfold._core.settings import HttpSettings
from tenfold.errors import MethodNotAllowed, NotFound, Problem
from tenfold.http.blocking import LoopWatchdog
from tenfold.http.compiler import Answer, Endpoint, compile_operation
from tenfold.http.deadline import Sweeper
from tenfold.http.limits import check_headers
from tenfold.http.problems import answer_of
from tenfold.http.request import Request
from tenfold.http.router import Router
from tenfold.http.streaming import run_stream
from tenfold.http.threads import HandlerThreads
from tenfold.http.wiring import Telemetry, Wiring

if TYPE_CHECKING:
    from tenfold.http.operation import Operation
    from tenfold.security.authenticator import Authenticator

flatten = chain.from_iterable
log = logging.getLogger("tenfold.http")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]


class Mount(NamedTuple):
    """An ASGI application below a path."""

    path: str
    app: ASGIApp
    guard: Any = None
    """Policy for everything below the path; None: the application decides by itself."""


class HttpApp:
    """An ASGI application made of operations.

    ``mounts`` are tried after the operations, longest path first. ``websocket`` serves every WebSocket.
    ``lifespan`` is run around the server's; without lifespan events (mounted in another framework) call
    :meth:`start` and :meth:`stop`, or let the first request start it.
    """

    def __init__(
        self,
        operations: Iterable[Operation[..., Any]],
        *,
        settings: HttpSettings | None = None,
        container: Container | None = None,
        authenticator: Authenticator | None = None,
        clock: Clock | None = None,
        telemetry: Telemetry | None = None,
        databases: Mapping[str, Any] | None = None,
        idempotency: Callable[[str], Any] | None = None,
        response_cache: Any = None,
        mounts: Sequence[Mount] = (),
        websocket: ASGIApp | None = None,
        lifespan: ASGIApp | None = None,
    ) -> None:
        self.settings = settings or HttpSettings()
        self.clock = clock or SystemClock()
        self.sweeper = Sweeper(self.clock, body_timeout_s=self.settings.body_timeout_s)
        self.watchdog = LoopWatchdog(self.clock, self.settings.blocked_loop_warn_s)
        self._threads = HandlerThreads(self.settings.threads)
        self.wiring = Wiring(
            settings=self.settings,
            container=container or Container(),
            clock=self.clock,
            sweeper=self.sweeper,
            threads=self._threads,
            authenticator=authenticator,
            telemetry=telemetry,
            databases=databases or {},
            idempotency=idempotency,
            response_cache=response_cache,
            boot=f"{self.clock.random.getrandbits(40):010x}-",
        )
        self.endpoints: list[Endpoint] = []
        self._router: Router[Endpoint] = Router()
        self._mounts = sorted(mounts, key=lambda mount: -len(mount.path))
        self._websocket = websocket
        self._lifespan = lifespan
        self._started = False
        self._header_max = self.settings.header_max_bytes
        for operation in operations:
            self.add(operation)

    def add(self, operation: Operation[..., Any]) -> Endpoint:
        """Compile and route one more operation. Raises DeclarationError."""
        endpoint = compile_operation(operation, self.wiring)
        self._router.add(operation.path, operation.method, endpoint, where=operation.where)
        self.endpoints.append(endpoint)
        return endpoint

    # ── life ──

    async def start(self) -> None:
        """Start deadlines and the loop's watchdog on the running loop."""
        self._started = True
        self.sweeper.start()
        self.watchdog.start()

    async def stop(self) -> None:
        self._started = False
        await self.sweeper.stop()
        self.watchdog.stop()
        self._threads.stop()

    # ── entry ──

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._other(scope, receive, send)
            return
        if not self._started:
            await self.start()
        path = scope["path"]
        if "root_path" in scope and scope["root_path"]:  # noqa: RUF019
            path = below(path, scope["root_path"])
        raw_path = scope["raw_path"] if "raw_path" in scope else b""
        raw_headers = scope["headers"]
        static = self._router.static
        try:
            if sum(map(len, flatten(raw_headers))) > self._header_max:  # in C: it runs for every request
                check_headers(raw_headers, self._header_max)
            segments: tuple[str, ...] = ()
            if path in static:
                methods: Mapping[str, Endpoint] = static[path]
            else:
                found = self._router.find(path, raw_path_of(scope) if raw_path and b"%" in raw_path else b"")
                if found is None:
                    await self._elsewhere(path, scope, receive, send)
                    return
                methods, segments = found
            method = scope["method"]
            if method in methods:
                endpoint = methods[method]
            else:
                other = self._other_method(method, methods, path)
                if other is None:
                    await send_answer(options_answer(methods), send)
                    return
                endpoint = other
        except Problem as problem:
            await send_answer(answer_of(problem, instance=path), send)
            return
        request = Request(
            method,
            path,
            segments,
            scope["query_string"],
            raw_headers,
            dict(raw_headers),
            receive,
            scope,
            body_max_bytes=endpoint.body_max_bytes,
            names=endpoint.names,
        )
        status, headers, body, stream = await endpoint.call(request)
        if stream is not None:
            await run_stream(stream, request, send)
            return
        await send({"type": "http.response.start", "status": status, "headers": headers})
        if method == "HEAD":
            body = b""
        await send({"type": "http.response.body", "body": body})

    def _other_method(self, method: str, methods: Mapping[str, Endpoint], path: str) -> Endpoint | None:
        """HEAD is served by GET; None stands for OPTIONS. Raises MethodNotAllowed with ``Allow``."""
        if method == "HEAD" and "GET" in methods:
            return methods["GET"]
        if method == "OPTIONS":
            return None
        allowed = allow(methods)
        raise MethodNotAllowed(
            f"{path} does not accept {method}; it accepts {allowed}.", headers={"Allow": allowed}
        )

    async def _elsewhere(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        """No operation has this path: a mounted application, the path with or without its last slash, or 404."""
        for mount in self._mounts:
            if path == mount.path or path.startswith(mount.path + "/"):
                root = scope.get("root_path", "") + mount.path
                await mount.app({**scope, "root_path": root}, receive, send)
                return
        if (target := self._slashed(path, scope)) is not None:
            location = target + (
                "?" + scope["query_string"].decode("latin-1") if scope["query_string"] else ""
            )
            headers = [(b"location", location.encode("latin-1", "ignore")), (b"content-length", b"0")]
            await send_answer((308, headers, b"", None), send)
            return
        raise NotFound(f"{scope['method']} {path} is not served here.")

    def _slashed(self, path: str, scope: Scope) -> str | None:
        if path.startswith("//"):
            return None  # a Location of //host would leave this server
        other = path[:-1] if path.endswith("/") else path + "/"
        if len(other) < 2:
            return None
        raw = raw_path_of(scope)
        raw_other = raw[:-1] if raw.endswith(b"/") else raw + b"/"
        if other in self._router.static or self._router.find(other, raw_other if raw else b""):
            from urllib.parse import quote

            return (
                quote(scope.get("root_path", "") + other)
                if not raw
                else (quote(scope.get("root_path", "")) + raw_other.decode("latin-1"))
            )
        return None

    async def _other(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await (self._lifespan or self._own_lifespan)(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._open_websocket(scope, receive, send)
        else:
            raise ValueError(f"this server sends {scope['type']!r}, which is not HTTP.")

    async def _open_websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = below(scope["path"], scope.get("root_path", ""))
        for mount in self._mounts:
            if path == mount.path or path.startswith(mount.path + "/"):
                await mount.app(
                    {**scope, "root_path": scope.get("root_path", "") + mount.path}, receive, send
                )
                return
        if self._websocket is not None:
            await self._websocket(scope, receive, send)
            return
        await receive()
        await send({"type": "websocket.close", "code": 1000})

    async def _own_lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self.start()
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await self.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return


def below(path: str, root_path: str) -> str:
    """The path without the mount point of this app; some servers leave it in, some do not."""
    root = root_path.rstrip("/")
    return path[len(root) :] or "/" if root and (path == root or path.startswith(root + "/")) else path


def raw_path_of(scope: Scope) -> bytes:
    """The path before percent-decoding, below the mount point; empty when the server does not tell."""
    raw: bytes = scope.get("raw_path") or b""
    root = scope.get("root_path", "").rstrip("/").encode()
    return raw[len(root) :] if root and raw.startswith(root + b"/") else raw


def allow(methods: Mapping[str, Endpoint]) -> str:
    """The ``Allow`` header of a path."""
    names = {*methods, "OPTIONS", *(["HEAD"] if "GET" in methods else [])}
    return ", ".join(sorted(names))


def options_answer(methods: Mapping[str, Endpoint]) -> Answer:
    return 204, [(b"allow", allow(methods).encode())], b"", None


async def send_answer(answer: Answer, send: Send) -> None:
    """A whole answer."""
    await send({"type": "http.response.start", "status": answer[0], "headers": answer[1]})
    await send({"type": "http.response.body", "body": answer[2]})
