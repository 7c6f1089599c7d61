"""WebSockets: typed parameters, the policy checked before the connection is accepted, typed messages.

    @chat.websocket("/rooms/{room}", auth=Customer)
    async def talk(socket: WebSocket, room: str, customer: Customer, since: int = 0) -> None:
        async for message in socket.messages(Said):
            await socket.send(Heard(room, customer.id, message.text))

The handshake is Starlette's. A refused one is answered with the problem document where the server can send
one (401, 403, 404, 422), else with 403. Browsers may connect from pages of this site and of
``http.cors_origins``; other pages are refused, because browsers send cookies along whatever the page.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, TypeVar, cast

import msgspec
from starlette.websockets import WebSocket as Socket
from starlette.websockets import WebSocketDisconnect, WebSocketState

from tenfold._core.clock import Clock
from tenfold._core.container import Container, dependency_of, describe, hints_of
from tenfold._core.context import Context, use
from tenfold._core.origin import check_same_origin
from tenfold._core.sections import HttpSettings
from tenfold.errors import DeclarationError, Forbidden, MalformedBody, NotFound, PayloadTooLarge, Problem
from tenfold.http.access import policy_of
from tenfold.http.adapters import encode_json
from tenfold.http.asgi import below, raw_path_of
from tenfold.http.causal import token_in
from tenfold.http.collect import Collector, Inputs
from tenfold.http.limits import check_depth
from tenfold.http.operation import UNSET, Operation, Policies
from tenfold.http.params import classify, marker_of
from tenfold.http.problems import answer_of, problem_of
from tenfold.http.request import Request
from tenfold.http.router import Router, path_names
from tenfold.http.types import strip_annotated, without_none
from tenfold.http.websocket_endpoint import Endpoint, bind
from tenfold.security.principal import Principal

if TYPE_CHECKING:
    from tenfold.security.authenticator import Authenticator
    from tenfold.security.policy import Policy

T = TypeVar("T")

log = logging.getLogger("tenfold.http")

NORMAL, INVALID_PAYLOAD, REFUSED, TOO_BIG, FAILED = 1000, 1007, 1008, 1009, 1011
"""Close codes of RFC 6455 § 7.4.1."""


class WebSocketOperation:
    """A declared WebSocket endpoint."""

    def __init__(
        self, fn: Callable[..., Awaitable[None]], *, service: str, path: str, auth: Any = UNSET
    ) -> None:
        self.fn = fn
        self.service = service
        self.path = path
        self.auth = auth
        self.name = f"{service}.{fn.__name__}"

    @property
    def where(self) -> str:
        return describe(self.fn)


class WebSocket:
    """One open connection. Leaving the handler closes it."""

    __slots__ = ("_max_bytes", "_max_depth", "_socket", "request")

    def __init__(self, socket: Socket[Any], request: Request, settings: HttpSettings) -> None:
        self._socket = socket
        self._max_bytes = settings.body_max_bytes
        self._max_depth = settings.json_max_depth
        self.request = request
        """The handshake: headers, cookies, query, principal."""

    async def receive(self, type_: type[T] | Any = Any) -> T:
        """The next message, decoded from JSON.

        Raises :class:`MalformedBody` for a message that is not the JSON of ``type_`` (unhandled, it closes
        the connection with 1007), :class:`PayloadTooLarge` beyond ``http.body_max_bytes`` (1009), and
        ``WebSocketDisconnect`` when the client has left (which a handler may let through).
        """
        raw = await self._receive()
        data = raw.encode() if isinstance(raw, str) else raw
        check_depth(data, self._max_depth)
        try:
            return cast("T", msgspec.json.decode(data, type=type_))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise MalformedBody(f"The message is not the JSON that is expected: {error}.") from None

    async def receive_text(self) -> str:
        """The next message as text."""
        raw = await self._receive()
        try:
            return raw if isinstance(raw, str) else raw.decode()
        except UnicodeDecodeError as error:
            raise MalformedBody(f"The message is not valid UTF-8 (byte {error.start}).") from None

    async def receive_bytes(self) -> bytes:
        """The next message as bytes."""
        raw = await self._receive()
        return raw.encode() if isinstance(raw, str) else raw

    async def messages(self, type_: type[T] | Any = Any) -> AsyncIterator[T]:
        """Messages as :meth:`receive` gives them, until the client leaves."""
        while True:
            try:
                message: T = await self.receive(type_)
            except WebSocketDisconnect:
                return
            yield message

    async def send(self, value: Any) -> None:
        """Send ``value`` as JSON in a text message. Raises ``WebSocketDisconnect`` when the client has left."""
        await self._socket.send_text(encode_json(value).decode())

    async def send_text(self, text: str) -> None:
        await self._socket.send_text(text)

    async def send_bytes(self, data: bytes) -> None:
        await self._socket.send_bytes(data)

    async def close(self, code: int = NORMAL, reason: str = "") -> None:
        """Close the connection; ``reason`` is cut to the 123 bytes that a close frame holds."""
        states = (self._socket.application_state, self._socket.client_state)
        if states == (WebSocketState.CONNECTED, WebSocketState.CONNECTED):
            await self._socket.close(code, reason.encode()[:123].decode(errors="ignore"))

    async def _receive(self) -> str | bytes:
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", NORMAL), message.get("reason"))
        data: str | bytes = message["text"] if message.get("text") is not None else message["bytes"]
        if len(data) > self._max_bytes:
            raise PayloadTooLarge(f"The message is larger than {self._max_bytes:,} bytes.")
        return data


class WebSocketApp:
    """Serves every WebSocket of an app; hand it to ``HttpApp(websocket=…)``."""

    def __init__(
        self,
        operations: Iterable[WebSocketOperation],
        *,
        settings: HttpSettings,
        container: Container,
        clock: Clock,
        authenticator: Authenticator | None = None,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._authenticator = authenticator
        self._trusted = frozenset(settings.cors_origins) | (
            authenticator.trusted_origins if authenticator else frozenset()
        )
        self._router: Router[Endpoint] = Router()
        for operation in operations:
            endpoint = _compile(operation, container, settings, authenticator)
            self._router.add(operation.path, "GET", endpoint, where=operation.where)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        socket: Socket[Any] = Socket(scope, receive, send)
        await socket.receive()  # websocket.connect
        request = self._request(scope, receive)
        async with AsyncExitStack() as stack:
            try:
                endpoint = self._find(scope, request)
                await self._admit(endpoint, request)
                arguments = bind(endpoint, request)
            except Problem as problem:
                await _refuse(socket, problem, request)
                return
            with use(request.context):
                await self._run(endpoint, socket, request, arguments, stack)

    def _request(self, scope: Any, receive: Any) -> Request:
        headers = scope["headers"]
        context = Context(request_id=self._clock.uuid())
        request = Request(
            "GET",
            below(scope["path"], scope.get("root_path", "")),
            (),
            scope.get("query_string", b""),
            headers,
            dict(headers),
            receive,
            scope,
            context,
        )
        context.causal = token_in(request)
        return request

    def _find(self, scope: Any, request: Request) -> Endpoint:
        methods: Mapping[str, Endpoint]
        if request.path in self._router.static:
            methods, request.segments = self._router.static[request.path], ()
        else:
            found = self._router.find(request.path, raw_path_of(scope))
            if found is None:
                raise NotFound(f"There is no WebSocket at {request.path}.")
            methods, request.segments = found
        endpoint = methods["GET"]
        request.names = endpoint.names
        request.context.service = endpoint.operation.service
        request.context.operation = endpoint.operation.name
        return endpoint

    async def _admit(self, endpoint: Endpoint, request: Request) -> None:
        headers = request.headers
        if "*" not in self._trusted:
            try:
                check_same_origin("WEBSOCKET", headers, self._trusted)
            except Forbidden:
                origin = headers.get("origin")
                raise Forbidden(f"Pages of {origin} may not open WebSockets here.") from None
        if self._authenticator is not None:
            principal = await self._authenticator.authenticate(headers, request.cookies)
            if principal is not None:
                self._authenticator.check_origin(principal, "WEBSOCKET", headers)
                request.context.principal = principal
                request.context.tenant = principal.tenant
        await endpoint.policy.check_async(request.principal, request)

    async def _run(
        self,
        endpoint: Endpoint,
        socket: Socket[Any],
        request: Request,
        arguments: dict[str, Any],
        stack: AsyncExitStack,
    ) -> None:
        websocket = WebSocket(socket, request, self._settings)
        given = {
            WebSocket: websocket,
            Request: request,
            Context: request.context,
            Principal: request.principal,
        }
        try:
            arguments |= await endpoint.plan.resolve(given, stack)
            arguments |= dict.fromkeys(endpoint.sockets, websocket)
            await socket.accept()
            await endpoint.operation.fn(**arguments)
        except WebSocketDisconnect:
            return
        except Exception as error:
            problem = problem_of(error)
            if problem.status >= 500:
                log.exception("%s failed", endpoint.operation.where)
            if socket.application_state is WebSocketState.CONNECTING:
                await _refuse(socket, problem, request)
            else:
                await websocket.close(_close_code(problem), problem.detail)
            return
        await websocket.close()


def _compile(
    operation: WebSocketOperation,
    container: Container,
    settings: HttpSettings,
    authenticator: Authenticator | None,
) -> Endpoint:
    """Raises DeclarationError for an operation that cannot work as it is written."""
    names = path_names(operation.path, where=operation.where)
    sockets, principals = _injected(operation)
    given = frozenset({WebSocket, Request, Context, Principal})
    named = {name for name, hint in hints_of(operation.fn).items() if marker_of(hint) or name in names}
    plan = container.plan(operation.fn, given, named | set(sockets) | set(principals))
    params = classify(
        operation.fn,
        method="GET",
        path_names=names,
        injected=frozenset({*plan.wanted, *sockets, *principals}),
    )
    inputs = Inputs.of(params, where=operation.where)
    return Endpoint(
        operation=operation,
        policy=_policy(operation, authenticator),
        names=names,
        params=params,
        inputs=inputs,
        collector=Collector(inputs, None, settings.json_max_depth),
        plan=plan,
        sockets=sockets,
        principals=principals,
    )


def _policy(operation: WebSocketOperation, authenticator: Authenticator | None) -> Policy:
    policies = Policies(auth=operation.auth)
    declared: Operation[..., Any] = Operation(
        operation.fn, service=operation.service, method="GET", path=operation.path, policies=policies
    )
    return policy_of(declared, authenticator)


def _injected(
    operation: WebSocketOperation,
) -> tuple[tuple[str, ...], dict[str, tuple[type[Principal], bool]]]:
    sockets: list[str] = []
    principals: dict[str, tuple[type[Principal], bool]] = {}
    for name, hint in hints_of(operation.fn).items():
        bare = strip_annotated(hint)
        found = without_none(hint)
        if name == "return" or dependency_of(hint) is not None:
            continue
        if bare is WebSocket:
            sockets.append(name)
        elif len(found) == 1 and isinstance(found[0], type) and issubclass(found[0], Principal):
            principals[name] = (found[0], found[0] is not bare)
    if not sockets:
        raise DeclarationError(
            "it takes no WebSocket, so it can neither send nor receive.",
            where=operation.where,
            remedy="Give it a parameter `socket: WebSocket`.",
        )
    return tuple(sockets), principals


async def _refuse(socket: Socket[Any], problem: Problem, request: Request) -> None:
    """Answer the handshake with the problem, where the server can; else close, which servers make a 403."""
    if "websocket.http.response" not in request.scope.get("extensions", {}):
        await socket.close(REFUSED, problem.title)
        return
    status, headers, body, _ = answer_of(
        problem, request_id=request.context.request_id, instance=request.path
    )
    await socket.send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await socket.send({"type": "websocket.http.response.body", "body": body})


def _close_code(problem: Problem) -> int:
    if problem.status in (400, 422):
        return INVALID_PAYLOAD
    if problem.status == 413:
        return TOO_BIG
    return FAILED if problem.status >= 500 else REFUSED
