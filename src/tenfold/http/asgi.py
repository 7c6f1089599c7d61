"""The ASGI entry: compiled operations behind a router, mounted apps, WebSockets, lifespan."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from tenfold._core.clock import Clock, SystemClock
from tenfold._core.container import Container
from tenfold._core.sections import HttpSettings
from tenfold.errors import Problem
from tenfold.guard.probe import LoopProbe
from tenfold.http.blocking import LoopWatchdog
from tenfold.http.compiler import Endpoint, compile_operation
from tenfold.http.deadline import TICK_S, Sweeper
from tenfold.http.dispatch import Asked, Dispatcher, Routed
from tenfold.http.limits import check_headers
from tenfold.http.memory import BodyMemory
from tenfold.http.mounts import ASGIApp, Mount, Mounts, Receive, Scope, Send
from tenfold.http.policies import effective
from tenfold.http.reply import Answer
from tenfold.http.request import Request
from tenfold.http.router import Router
from tenfold.http.streaming import run_stream
from tenfold.http.threads import HandlerThreads
from tenfold.http.wire import PERCENT
from tenfold.http.wiring import Telemetry, Wiring

if TYPE_CHECKING:
    from tenfold._core.fairness import WeightOf
    from tenfold.cache.response import ResponseStore
    from tenfold.guard.limiter import RateLimiter
    from tenfold.guard.rates import Limit
    from tenfold.http.causal import Tokens
    from tenfold.http.middleware import Edge
    from tenfold.http.operation import Operation
    from tenfold.http.policies import Layers
    from tenfold.security.authenticator import Authenticator

__all__ = ["HttpApp", "Mount"]

flatten = chain.from_iterable


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
        limiter: RateLimiter | None = None,
        limits: Mapping[str, list[tuple[str, Limit]]] | None = None,
        inherited: Mapping[str, Layers] | None = None,
        response_cache: ResponseStore | None = None,
        causal: Tokens | None = None,
        edge: Edge | None = None,
        weight_of: WeightOf | None = None,
        calls_out: bool = False,
        mounts: Sequence[Mount] = (),
        websocket: ASGIApp | None = None,
        lifespan: ASGIApp | None = None,
    ) -> None:
        self.settings = settings or HttpSettings()
        self.clock = clock or SystemClock()
        self.watchdog = LoopWatchdog(self.clock, self.settings.blocked_loop_warn_s, TICK_S)
        self.sweeper = Sweeper(
            self.clock,
            body_timeout_s=self.settings.body_timeout_s,
            bytes_per_s_min=self.settings.bytes_per_s_min,
            on_tick=self.watchdog.beat,
        )
        self.memory = BodyMemory(self.settings.buffered_max_bytes)
        self._threads = HandlerThreads(self.settings.threads, self.clock)
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
            limiter=limiter,
            limits=limits or {},
            inherited=inherited or {},
            response_cache=response_cache,
            causal=causal,
            calls_out=calls_out,
            edge=edge,
            weight_of=weight_of,
            boot=f"{self.clock.random.getrandbits(40):010x}",
        )
        gate = self.wiring.admission
        self.probe = None if gate is None else LoopProbe(gate, self.clock)
        self.endpoints: list[Endpoint] = []
        self._declared: list[Operation[..., Any]] = []
        self._router: Router[Endpoint] = Router()
        # Replaces client and scheme of a scope by what trusted proxies say.
        self.trust: Callable[[Any], Any] | None = None if edge is None or edge.proxies is None else edge.trust
        self.dispatcher = Dispatcher(self._router, edge)
        self.mounts = Mounts(list(mounts), authenticator)
        self._websocket = websocket
        self._lifespan = lifespan
        self._started = False
        self._header_max = self.settings.header_max_bytes
        self._headers_max = self.settings.headers_max
        for operation in operations:
            self.add(operation)

    def add(self, operation: Operation[..., Any]) -> Endpoint:
        """Compile and route one more operation. Raises DeclarationError."""
        endpoint = compile_operation(self._effective(operation, ()), self.wiring)
        self._router.add(operation.path, operation.method, endpoint, where=operation.where)
        self.endpoints.append(endpoint)
        self._declared.append(operation)
        return endpoint

    def recompile(self, changed: Callable[[Operation[..., Any]], Layers | None]) -> None:
        """Compile again the operations for which ``changed`` answers what goes before what they declare; None leaves
        one as it is. Requests in progress end as they began, the next ones meet the new endpoint.

        A changed value costs a compilation (a millisecond or two) and an unchanged one nothing, since the generated
        code has every value written into it. Raises DeclarationError, and has then changed nothing.
        """
        made = [
            (at, compile_operation(self._effective(operation, layers), self.wiring))
            for at, operation in enumerate(self._declared)
            if (layers := changed(operation)) is not None
        ]
        for at, endpoint in made:
            self._router.replace(endpoint.operation.path, endpoint.operation.method, endpoint)
            self.endpoints[at] = endpoint

    def _effective(self, operation: Operation[..., Any], before: Layers) -> Operation[..., Any]:
        return effective(operation, (*before, *self.wiring.inherited.get(operation.service, ())))

    def route(self, path: str, raw_path: bytes) -> Routed | None:
        """What serves a path; see :meth:`Router.find`."""
        static = self._router.static
        return (static[path], ()) if path in static else self._router.find(path, raw_path)

    @property
    def static(self) -> Mapping[str, Mapping[str, Endpoint]]:
        """Endpoints of fixed paths, by path and method."""
        return self._router.static

    # ── life ──

    async def start(self) -> None:
        """Start mounted apps, deadlines and the loop's watchdog on the running loop."""
        self._started = True
        await self.mounts.start()
        self.sweeper.start()
        self.watchdog.start()
        if self.probe is not None:
            self.probe.start()

    async def stop(self) -> None:
        self._started = False
        await self.sweeper.stop()
        self.watchdog.stop()
        if self.probe is not None:
            self.probe.stop()
        self._threads.stop()
        await self.mounts.stop()

    # ── entry ──

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._other(scope, receive, send)
            return
        if not self._started:
            await self.start()
        if self.trust is not None:
            scope = self.trust(scope)
        # Subscripts where .get() would do, here and below: they are no calls, and this runs for every request.
        path, method, raw_headers = scope["path"], scope["method"], scope["headers"]
        if "root_path" in scope and scope["root_path"]:  # noqa: RUF019
            path = below(path, scope["root_path"])
        static = self._router.static
        segments: tuple[str, ...] = ()
        try:
            # In C, whatever their number.
            if sum(map(len, flatten(raw_headers))) > self._header_max or len(raw_headers) > self._headers_max:
                check_headers(raw_headers, self._header_max, self._headers_max)
            if path in static and method in static[path]:
                endpoint = static[path][method]
            else:
                raw_path = scope["raw_path"] if "raw_path" in scope else b""  # noqa: SIM401
                encoded = raw_path and PERCENT in raw_path
                routed = (
                    (static[path], ())
                    if path in static
                    else self._router.find(path, raw_path_of(scope) if encoded else b"")
                )
                if routed is not None and method in routed[0]:
                    endpoint, segments = routed[0][method], routed[1]
                else:
                    target = await self._elsewhere(routed, path, scope, receive, send)
                    if target is None:
                        return
                    endpoint, segments = target
        except Problem as problem:
            whole = scope.get("root_path", "").rstrip("/") + path
            await send_answer(self.dispatcher.problem(problem, whole, raw_headers), send)
            return
        query, by_name = scope["query_string"], dict(raw_headers)
        answer = None if endpoint.quick is None else endpoint.quick(segments, query, by_name)
        if answer is None:
            request = Request(
                method, path, segments, query, raw_headers, by_name, receive, scope,
                body_max_bytes=endpoint.body_max_bytes, names=endpoint.names, memory=self.memory,
            )  # fmt: skip
            answer = await endpoint.call(request)
            if answer[3] is not None:
                await run_stream(answer[3], request, send)
                return
        status, headers, body, _ = answer
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})

    async def _elsewhere(
        self, routed: Routed | None, path: str, scope: Scope, receive: Receive, send: Send
    ) -> tuple[Endpoint, tuple[str, ...]] | None:
        """No operation has this path and method; None when the answer was given here.

        Raises NotFound, MethodNotAllowed, and what the policy of a mount raises.
        """
        if routed is None and self.mounts and (mount := self.mounts.find(path)) is not None:
            await self.mounts.serve(mount, scope, receive, send)
            return None
        asked = Asked(
            scope["method"], path, raw_path_of(scope), scope.get("root_path", ""), scope["query_string"],
            scope["headers"],
        )  # fmt: skip
        endpoint, segments, answer = self.dispatcher.target(asked, routed)
        if answer is not None:
            await send_answer(answer, send)
        return None if endpoint is None else (endpoint, segments)

    async def _other(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await (self._lifespan or self._own_lifespan)(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._open_websocket(scope, receive, send)
        else:
            raise ValueError(f"this server sends {scope['type']!r}, which is not HTTP.")

    async def _open_websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        mount = self.mounts.find(below(scope["path"], scope.get("root_path", "")))
        try:
            if mount is not None:
                await self.mounts.serve(mount, scope, receive, send)
                return
        except Problem:
            pass  # refused before it was accepted: closing tells so (403)
        else:
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


async def send_answer(answer: Answer, send: Send) -> None:
    """A whole answer."""
    await send({"type": "http.response.start", "status": answer[0], "headers": answer[1]})
    await send({"type": "http.response.body", "body": answer[2]})
