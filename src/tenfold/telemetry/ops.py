"""The operations listener: metrics, health, what other parts register, and in front of them the dashboard.

Meant for people and machines that run the backend, never for its clients: a port of its own, on the loopback
interface unless a token is set. It answers GET and HEAD only; registered pages decide for themselves.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec

from tenfold._core.clock import Clock
from tenfold._core.origin import check_same_origin
from tenfold.errors import ConfigError, Forbidden, MalformedBody, PayloadTooLarge
from tenfold.telemetry.exposition import Exposition
from tenfold.telemetry.health import Checks
from tenfold.telemetry.metrics import Registry
from tenfold.telemetry.ops_access import Doors, address_of, header, is_loopback

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

VISITOR: Final = "tenfold.visitor"
"""The member of a request's scope that holds its :class:`~tenfold.telemetry.ops_access.Visitor`."""
_HEADERS: Final = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
)
_TEXT: Final = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Page:
    """One registered page: an ASGI application that gets everything below ``path``."""

    path: str
    title: str
    about: str
    app: AsgiApp


class Front(Protocol):
    """What is asked before the registered pages: the dashboard."""

    @property
    def paths(self) -> Sequence[str]:
        """Of its pages, those that can be named without knowing more."""
        ...

    def open(self, scope: Scope) -> bool:
        """Whether this is for everybody, as what a sign-in needs is."""
        ...

    def takes(self, scope: Scope) -> bool:
        """Whether this is its to answer, once the visitor is known."""
        ...

    def meets(self, scope: Scope) -> bool:
        """Whether a visitor who is not known can be asked who they are: a person with a browser."""
        ...

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...


class Pages:
    """Pages that parts of the app show at the operations listener."""

    def __init__(self) -> None:
        self._pages: dict[str, Page] = {}

    def add(self, path: str, title: str, about: str, app: AsgiApp) -> None:
        """Show ``app`` at ``path`` (``/mailbox``), with a title and a sentence on the index page.

        The app sees the whole path, and ``path`` as its ``root_path``. It makes its links with :func:`link`.
        """
        self._pages[path] = Page(path, title, about, app)

    def __iter__(self) -> Iterator[Page]:
        return iter(self._pages.values())

    def at(self, path: str) -> Page | None:
        """The page that ``path`` is, or is below of."""
        return self._pages.get("/" + path.lstrip("/").partition("/")[0])


class OpsApp:
    """The ASGI application of the operations listener.

    With a ``token``, everything but the health checks asks for it: ``Authorization: Bearer …``, ``?token=…``, or a
    sign-in at the dashboard; ``read_token`` is for those who may look and change nothing. Without one, only requests
    whose Host is this machine are answered, so that a web page cannot reach in through a name that points here.
    Raises ConfigError when ``host`` is reachable from elsewhere and there is no token.
    """

    def __init__(
        self,
        registry: Registry,
        checks: Checks,
        pages: Pages,
        token: str,
        clock: Clock,
        *,
        host: str = "127.0.0.1",
        read_token: str = "",
    ) -> None:
        if not token and (read_token or not is_loopback(host)):
            what = (
                "the token for readers keeps nobody from operating while there is none for operators."
                if read_token
                else f"the operations listener would be open to everybody who reaches {host}."
            )
            raise ConfigError(
                what, where="ops.token", remedy="Set ops.token (TENFOLD_OPS_TOKEN), or ops.host to 127.0.0.1."
            )
        self._exposition = Exposition(registry)
        self._checks, self._pages = checks, pages
        self.doors = Doors(token, read_token, clock)
        self.front: Front | None = None
        self._own = {"/": self._list, "/metrics": self._metrics}
        self._open = {"/health/live": self._live, "/health/ready": self._ready}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        else:
            await self._http(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        own, front = self._open.get(scope["path"]), self.front
        if own is not None:
            await self._get(own, scope, send)
            return
        if front is not None and front.open(scope):
            await front(scope, receive, send)
            return
        visitor = self.doors.visitor(scope)
        scope[VISITOR] = visitor
        if visitor is None and not (self.doors.asks and front is not None and front.meets(scope)):
            await _reply(scope, send, *self._stranger(scope))
        elif (foreign := _foreign(scope)) is not None:
            await _reply(scope, send, foreign.status, _TEXT, f"{foreign.detail}\n".encode())
        elif front is not None and (visitor is None or front.takes(scope)):
            await front(scope, receive, send)
        elif visitor is not None and not visitor.operates and scope["method"] not in _READING:
            await _reply(scope, send, 403, _TEXT, b"This token reads; ops.token operates.\n")
        else:
            await self._registered(scope, receive, send)

    def _stranger(self, scope: Scope) -> tuple[Any, ...]:
        """What is said to who is not known."""
        if not self.doors.asks:
            return _FOREIGN_HOST
        return _TOO_MANY if self.doors.shut(address_of(scope)) else _NO_TOKEN

    async def _registered(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        page, own = self._pages.at(path), self._own.get(path)
        if page is not None:
            await page.app({**scope, "root_path": scope.get("root_path", "") + page.path}, receive, send)
        elif own is not None:
            await self._get(own, scope, send)
        else:
            known = dict.fromkeys([*self._known(), *(self.front.paths if self.front else ())])
            sentence = f"There is no page {path}. Known are: {', '.join(known)}\n"
            await _reply(scope, send, 404, _TEXT, sentence.encode())

    async def _get(self, own: Callable[[Scope, Send], Awaitable[None]], scope: Scope, send: Send) -> None:
        if scope["method"] in _READING:
            await own(scope, send)
            return
        sentence = f"{scope['path']} answers GET and HEAD.\n".encode()
        await _reply(scope, send, 405, _TEXT, sentence, (b"allow", b"GET, HEAD"))

    def _known(self) -> list[str]:
        return [*self._own, *self._open, *(page.path for page in self._pages)]

    async def _list(self, scope: Scope, send: Send) -> None:
        """What there is, for who asks without a browser, or of an app whose owner attached no dashboard."""
        about = {page.path: page.about for page in self._pages} | _ABOUT
        lines = [f"{path:<16} {about[path]}" for path in self._known() if path in about]
        await _reply(scope, send, 200, _TEXT, "\n".join([*lines, ""]).encode())

    async def _metrics(self, scope: Scope, send: Send) -> None:
        accept = header(scope, b"accept").decode("latin-1")
        body, content_type = self._exposition.render(accept)
        await _reply(scope, send, 200, content_type, body)

    async def _live(self, scope: Scope, send: Send) -> None:
        await _reply(scope, send, 200, "application/json", b'{"live":true}')

    async def _ready(self, scope: Scope, send: Send) -> None:
        readiness = await self._checks.ready()
        body = msgspec.json.format(msgspec.json.encode(readiness), indent=2) + b"\n"
        await _reply(scope, send, 200 if readiness.ready else 503, "application/json", body)


_READING: Final = frozenset({"GET", "HEAD"})
_ABOUT: Final = {
    "/metrics": "Counters and latencies, as Prometheus reads them.",
    "/health/live": "Answers while the process runs.",
    "/health/ready": "Every check with its sentence; 503 while one fails or it drains.",
}
_NO_TOKEN: Final = (
    401,
    _TEXT,
    b"This page asks for the token of the setting ops.token: as Authorization: Bearer, or as ?token= in the"
    b" address.\n",
    (b"www-authenticate", b'Bearer realm="operations"'),
)
TOO_MANY: Final = "Too many wrong tokens came from this address. Tokens are looked at again in a minute."
_TOO_MANY: Final = (429, _TEXT, f"{TOO_MANY}\n".encode(), (b"retry-after", b"60"))
_FOREIGN_HOST: Final = (
    403,
    _TEXT,
    b"Without ops.token this listener answers only to 127.0.0.1, [::1] and localhost.\n",
    (b"vary", b"host"),
)


def _foreign(scope: Scope) -> Forbidden | None:
    """Why a request that may change something is refused: a page of another site makes it. On this machine nobody has to
    say who they are, so what keeps such pages out is what browsers say of them."""
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    try:
        check_same_origin(scope["method"], headers)
    except Forbidden as refused:
        return refused
    return None


async def read_body(receive: Receive, max_bytes: int) -> bytes:
    """The whole body of a page's request. Raises MalformedBody for one that breaks off, PayloadTooLarge."""
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise MalformedBody("The body broke off.")
        body += bytes(message.get("body", b""))
        if len(body) > max_bytes:
            raise PayloadTooLarge(f"The body is larger than {max_bytes:,} bytes.")
        if not message.get("more_body", False):
            return body


async def not_running(scope: Scope, send: Send) -> None:
    """What a listener says whose app has not started, or has ended before it."""
    if scope["type"] == "http":
        await _reply(scope, send, 503, _TEXT, b"The app does not run: it has not started, or has ended.\n")


async def _reply(
    scope: Scope, send: Send, status: int, content_type: str, body: bytes, *extra: tuple[bytes, bytes]
) -> None:
    own = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode())]
    headers = [*own, *_HEADERS, *extra]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
