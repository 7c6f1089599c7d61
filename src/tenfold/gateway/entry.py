"""The gateway as an ASGI application: finds the route of a request, and answers it through the app's own pipeline.

Each route and method is an operation: authentication, limits, deadlines, admission, metrics, traces and the access log
are the steps that every operation has (:mod:`tenfold.http.pipeline`), compiled for what the route declares. Its function
is what sends the request on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tenfold._core.context import Priority
from tenfold.client.contract import Unanswered
from tenfold.errors import ConfigError, DeclarationError, MethodNotAllowed, Problem
from tenfold.gateway import keeping
from tenfold.gateway.canary import chosen, weights
from tenfold.gateway.headers import Way, back, onward
from tenfold.gateway.passing import Passed, passed, read_whole
from tenfold.gateway.sockets import GONE, answer_handshake, pump
from tenfold.guard.overrides import Adjustable
from tenfold.guard.rates import as_limit
from tenfold.http.asgi import raw_path_of, send_answer
from tenfold.http.compiler import Endpoint, compile_operation
from tenfold.http.edge import dressed
from tenfold.http.limiting import address_of
from tenfold.http.mounts import Direct
from tenfold.http.operation import METHODS, Operation, Policies
from tenfold.http.policies import OVERRIDE, Shared, checked, effective
from tenfold.http.reply import Response
from tenfold.http.request import Request
from tenfold.http.streaming import run_stream
from tenfold.security.policy import authenticated, public

if TYPE_CHECKING:
    from tenfold.assembly.assembly import Assembly
    from tenfold.gateway.routes import Route, Routes
    from tenfold.gateway.upstream import Upstream
    from tenfold.http.mounts import Receive, Scope, Send

log = logging.getLogger("tenfold.gateway")

SERVICE = "gateway"
_BODY_HEADERS = frozenset({b"content-length", b"transfer-encoding"})
_KEPT = "/%:@!$&'()*+,;=~-._?[]"
"""What stays as it is in a path or a query; all else is percent-encoded."""
_HOST, _RAW = "gateway.host", "gateway.raw_path"
"""In a request's state: the host as the client wrote it, and the path as it came, fit to be sent on."""
_READ_ON_S, _READ_ON_BYTES = 1.0, 1_048_576
_CHANGED = ("limit", "timeout_s", "priority", "concurrency")
"""What of a route's operation may be changed while it runs, besides its canaries."""


class Gateway:
    """See the module's docstring. ``running`` gives the parts of the app once it runs; ``reach`` makes what sends to a
    service."""

    def __init__(
        self,
        routes: Routes,
        *,
        running: Callable[[], Assembly],
        reach: Callable[[str], Upstream],
        stop: Callable[[], Awaitable[None]],
        cache_body_max_bytes: int,
    ) -> None:
        self.routes = routes
        self._running, self._reach, self._stop = running, reach, stop
        self._body_max_bytes = cache_body_max_bytes
        self._upstreams: dict[str, Upstream] = {}
        self._endpoints: dict[tuple[str, str], Endpoint] = {}
        self._changed: dict[str, Shared] = {}
        self.weights = {route.name: _declared(route) for route in routes.ordered}
        """By route: what percent of the callers each service gets now."""
        self.adjustables = [_adjustable(route, self) for route in routes.ordered]
        for route in routes.ordered:
            _check_limit(route)

    # ── life ──

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self._upstreams.clear()
        self._endpoints.clear()
        await self._stop()
        await send({"type": "lifespan.shutdown.complete"})

    def upstream(self, service: str) -> Upstream:
        """What sends to a service."""
        found = self._upstreams.get(service)
        if found is None:
            found = self._upstreams[service] = self._reach(service)
        return found

    # ── entry ──

    def direct(self, method: str, path: str, by_name: Mapping[bytes, bytes]) -> Direct | None:
        """See :class:`~tenfold.http.mounts.Answering`. What is refused here, and preflights, go the ordinary way."""
        if method == "OPTIONS":
            return None
        host = by_name.get(b"host", b"").decode("latin-1")
        try:
            route = self.routes.find(host, path)
        except Problem:
            return None
        return Direct(self._endpoint(route, method), {_HOST: host, _RAW: quote(path, safe=_KEPT)})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "websocket":
            await self._socket(scope, receive, send)
        else:
            await self._http(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "OPTIONS" and await self._preflight(scope, send):
            return
        request, endpoint = self._found(scope, receive, scope["method"])
        answer = await endpoint.call(request)
        if answer[3] is None:
            await _read_on(request)
            body = b"" if scope["method"] == "HEAD" else answer[2]
            await send_answer((answer[0], answer[1], body, None), send)
            return
        await run_stream(answer[3], request, send)

    async def _preflight(self, scope: Scope, send: Send) -> bool:
        """Where the gateway says what other origins may do, it answers for all services."""
        edge = self._running().http.wiring.edge
        if edge is None or edge.cors is None:
            return False
        by_name = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        headers = edge.cors.preflight(by_name.get, METHODS)
        if headers is not None:
            await send_answer(dressed((204, headers, b"", None), edge, scope["headers"]), send)
        return headers is not None

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        http = self._running().http
        scope = scope if http.trust is None else http.trust(scope)
        try:
            request, endpoint = self._found(scope, receive, "GET")
        except Problem as problem:
            answer = http.dispatcher.problem(problem, scope["path"], scope["headers"])
        else:
            try:
                answer = await endpoint.call(request)
            except BaseException:
                if "gateway.socket" in request.state:
                    await request.state["gateway.socket"].close(GONE, "")
                raise
            if "gateway.socket" in request.state:
                await pump(request.state["gateway.socket"], receive, send)
                return
        await answer_handshake(answer, scope, receive, send)

    def _found(self, scope: Scope, receive: Receive, method: str) -> tuple[Request, Endpoint]:
        """The request with what answers it. Raises NotFound, BadRequest, MethodNotAllowed."""
        http, headers = self._running().http, dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1")
        route = self.routes.find(host, scope["path"])
        if method not in METHODS:
            raise MethodNotAllowed(
                f"{method} is not passed on.", headers={"Allow": ", ".join(sorted(METHODS))}
            )
        endpoint = self._endpoint(route, method)
        state = {_HOST: host, _RAW: quote(raw_path_of(dict(scope)), safe=_KEPT)}
        request = Request(
            method, scope["path"], (), scope["query_string"], scope["headers"], headers, receive, scope,
            state=state, body_max_bytes=endpoint.body_max_bytes, memory=http.memory,
        )  # fmt: skip
        return request, endpoint

    # ── routes as operations ──

    def _endpoint(self, route: Route, method: str) -> Endpoint:
        found = self._endpoints.get((route.name, method))
        if found is None:
            operation = effective(_operation(route, method, self._forwarding(route)), self._layers(route))
            found = compile_operation(operation, self._running().http.wiring)
            self._endpoints[route.name, method] = found
        return found

    def _layers(self, route: Route) -> list[tuple[str, Shared]]:
        changed = self._changed.get(route.name)
        return [] if changed is None else [(OVERRIDE, changed)]

    def change(self, route: Route, values: Mapping[str, Any]) -> None:
        """Put into force what is changed of a route now; requests under way end as they began."""
        policies = {name: value for name, value in values.items() if name in _CHANGED}
        self._changed.pop(route.name, None)
        if policies:
            self._changed[route.name] = Shared(**policies)
        canary = {name: values.get(f"canary.{name}", said) for name, said in route.options.canary.items()}
        self.weights[route.name] = weights(route.options.service, canary)
        for key in [key for key in self._endpoints if key[0] == route.name]:
            del self._endpoints[key]

    def _forwarding(self, route: Route) -> Callable[[Request], Awaitable[Response]]:
        async def forward(request: Request) -> Response:
            upstream = self.upstream(self._chosen(route, request))
            if request.scope["type"] == "websocket":
                return await self._connect(route, upstream, request)
            return await self._forward(route, upstream, request)

        return forward

    def _chosen(self, route: Route, request: Request) -> str:
        """The service for this caller."""
        among = self.weights[route.name]
        if len(among) == 1:
            return route.options.service
        principal = request.principal
        key = address_of(request) if principal is None else f"principal {principal.id}"
        return chosen(key, among)

    # ── on its way ──

    async def _forward(self, route: Route, upstream: Upstream, request: Request) -> Response:
        running = self._running()
        now = running.app.clock.monotonic
        key = self._key(route, upstream, request)
        edge, store = running.http.wiring.edge, running.http.wiring.response_cache
        assert store is not None
        if key and keeping.may_look(request) and (kept := store.lookup(key)) is not None:
            return keeping.shown(kept, request, now())
        opened = await upstream.send(request, _target(route, request), self._headers(route, request))
        headers = back(opened.incoming.headers, cors=edge is not None and edge.cors is not None)
        life_s = keeping.lifetime_s(opened.incoming.status, headers) if key else 0.0
        length = keeping.length_of(headers) if life_s else None
        if length is None or length > self._body_max_bytes:
            if request.method != "HEAD" and (body := opened.incoming.whole()) is not None:
                await opened.close()
                return passed(opened, headers, body)
            return Passed(opened, headers)
        try:
            body = await read_whole(opened)
        except Unanswered as error:
            raise upstream.problem(upstream.state.unavailable(str(error), "broken", 1.0)) from None
        made = await keeping.keep(store, key, headers, body, life_s, now())
        return keeping.shown(made, request, now())

    def _key(self, route: Route, upstream: Upstream, request: Request) -> str:
        if not route.options.cache or request.principal is not None:
            return ""
        authenticator = self._running().http.wiring.authenticator
        others = () if authenticator is None else authenticator.other_credentials
        return keeping.key_of(route.name, upstream.service, request.state[_HOST], request, others)

    async def _connect(self, route: Route, upstream: Upstream, request: Request) -> Response:
        request.state["gateway.socket"] = await upstream.connect(
            request, _target(route, request), self._headers(route, request)
        )
        return Response(status=200)

    def _headers(self, route: Route, request: Request) -> dict[str, str]:
        client = request.client
        scheme = {"ws": "http", "wss": "https"}.get(request.scheme, request.scheme)
        prefix = route.path if route.options.strip else ""
        way = Way("" if client is None else client[0], scheme, request.state[_HOST], prefix)
        return onward(request.raw_headers, way, request.context.request_id)


async def _read_on(request: Request) -> None:
    """Take what is on its way of a body that was refused, up to a measure. A socket that is closed with bytes in it that
    nobody has read takes back what was sent: the client would not see why."""
    headers = request.header_bytes
    if request.complete or b"expect" in headers or not _BODY_HEADERS & headers.keys():
        return
    size, more = 0, not request.ended
    with suppress(TimeoutError):
        async with asyncio.timeout(_READ_ON_S):
            while more and size < _READ_ON_BYTES:
                message = await request.receive()
                size += len(message.get("body", b""))
                more = message["type"] == "http.request" and message.get("more_body", False)


def _target(route: Route, request: Request) -> str:
    """Path and query as the service is asked for them."""
    path = route.inner(request.state[_RAW], request.path)
    return f"{path}?{quote(request.query_string, safe=_KEPT)}" if request.query_string else path


def _operation(
    route: Route, method: str, forward: Callable[[Request], Awaitable[Response]]
) -> Operation[..., Response]:
    said = route.options
    policies = Policies(
        auth=authenticated if said.auth == "required" else public,
        timeout_s=said.timeout_s,
        priority=Priority[said.priority.upper()],
        concurrency=said.concurrency,
        body_max_bytes=said.body_max_bytes,
        hidden=True,
    )
    if said.limit is not None:
        policies.limit = said.limit
    name = f"{SERVICE}.{route.name}"
    return Operation(
        forward, service=SERVICE, method=method, path=route.path or "/", policies=policies, name=name
    )


def _declared(route: Route) -> dict[str, float]:
    return weights(route.options.service, route.options.canary)


def _check_limit(route: Route) -> None:
    if route.options.limit is not None:
        try:
            as_limit(route.options.limit)
        except DeclarationError as error:
            where = f"gateway.routes.{route.name}.limit"
            raise ConfigError(error.what, where=where, remedy=error.remedy) from None


def _adjustable(route: Route, gateway: Gateway) -> Adjustable:
    """``gateway.orders.limit``, and ``gateway.orders.canary.orders-next``: percent of the callers."""
    name = f"{SERVICE}.{route.name}"

    def policy(of: str) -> Callable[[Any], Any]:
        def check(value: Any) -> Any:
            if value is None and of in ("timeout_s", "priority"):
                raise ConfigError("there is always one.", remedy="Write its value.")
            return checked(of, value, name)

        return check

    def percent(value: Any) -> float:
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 100:
            return float(value)
        raise ConfigError(f"{value!r} is no share of the callers.", remedy="Write percent, from 0 to 100.")

    checks = {of: policy(of) for of in _CHANGED} | {f"canary.{of}": percent for of in route.options.canary}
    return Adjustable(name, checks, lambda values: gateway.change(route, values))
