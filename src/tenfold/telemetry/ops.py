"""The operations listener: metrics, health, and the pages that other parts register.

Meant for people and machines that run the backend, never for its clients: a port of its own, on the loopback
interface unless a token is set. It answers GET and HEAD only; registered pages decide for themselves.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, quote

import msgspec

from tenfold._core.clock import Clock
from tenfold.errors import ConfigError, MalformedBody, PayloadTooLarge
from tenfold.telemetry.exposition import Exposition
from tenfold.telemetry.health import Checks
from tenfold.telemetry.metrics import Registry
from tenfold.telemetry.ops_page import Link, index_page

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

_TOKEN: Final = "tenfold.ops_token"  # noqa: S105 - the name of a scope member
_HEADERS: Final = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
)
_HTML: Final = "text/html; charset=utf-8"
_TEXT: Final = "text/plain; charset=utf-8"
_CSP: Final = (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'")


@dataclass(frozen=True, slots=True)
class Page:
    """One registered page: an ASGI application that gets everything below ``path``."""

    path: str
    title: str
    about: str
    app: AsgiApp


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


def link(scope: Scope, path: str) -> str:
    """``path`` as a link that stays allowed: with the token, when this request had it in its query."""
    token = scope.get(_TOKEN, "")
    return f"{path}{'&' if '?' in path else '?'}token={quote(token, safe='')}" if token else path


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a listener on ``host``."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class OpsApp:
    """The ASGI application of the operations listener.

    With a ``token``, every page but the health checks asks for it: ``Authorization: Bearer …``, or
    ``?token=…`` for browsers (nothing is stored; links carry it on). Without one, only requests whose Host
    is this machine are answered, so that a web page cannot reach in through a name that points here.
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
        title: str = "Tenfold",
    ) -> None:
        if not token and not is_loopback(host):
            raise ConfigError(
                f"the operations listener would be open to everybody who reaches {host}.",
                where="ops.token",
                remedy="Set ops.token (TENFOLD_OPS_TOKEN), or ops.host to 127.0.0.1.",
            )
        self._exposition = Exposition(registry)
        self._checks, self._pages = checks, pages
        self._token, self._clock, self._title = token.encode(), clock, title
        self._started = clock.monotonic()
        self._own = {"/": self._index, "/metrics": self._metrics}
        self._open = {"/health/live": self._live, "/health/ready": self._ready}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        else:
            await self._http(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        own = self._open.get(path)
        if own is None:
            refusal = self._refusal(scope)
            if refusal is not None:
                await _reply(scope, send, *refusal)
                return
            page = self._pages.at(path)
            if page is not None:
                await page.app({**scope, "root_path": scope.get("root_path", "") + page.path}, receive, send)
                return
            own = self._own.get(path)
        if own is None:
            known = ", ".join([*self._own, *self._open, *(page.path for page in self._pages)])
            await _reply(scope, send, 404, _TEXT, f"There is no page {path}. Known are: {known}\n".encode())
        elif scope["method"] not in {"GET", "HEAD"}:
            sentence = f"{path} answers GET and HEAD.\n".encode()
            await _reply(scope, send, 405, _TEXT, sentence, (b"allow", b"GET, HEAD"))
        else:
            await own(scope, send)

    def _refusal(self, scope: Scope) -> tuple[int, str, bytes, tuple[bytes, bytes]] | None:
        if not self._token:
            return None if self._is_local(scope) else _FOREIGN_HOST
        header = _header(scope, b"authorization")
        if header[:7].lower() == b"bearer ":
            return None if hmac.compare_digest(header[7:].strip(), self._token) else _NO_TOKEN
        query = dict(parse_qsl(scope.get("query_string", b"").decode("latin-1")))
        if not hmac.compare_digest(query.get("token", "").encode(), self._token):
            return _NO_TOKEN
        scope[_TOKEN] = query["token"]
        return None

    def _is_local(self, scope: Scope) -> bool:
        host = _header(scope, b"host").decode("latin-1")
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        return not host or is_loopback(name)

    async def _index(self, scope: Scope, send: Send) -> None:
        readiness = await self._checks.ready()
        links = [
            Link("Metrics", link(scope, "/metrics"), "Counters and latencies, as Prometheus reads them."),
            Link("Live", "/health/live", "Answers while the process runs."),
            Link(
                "Ready", "/health/ready", "Every check with its sentence; 503 while one fails or it drains."
            ),
            *(Link(page.title, link(scope, page.path), page.about) for page in self._pages),
        ]
        html = index_page(self._title, readiness, links, self._clock.monotonic() - self._started)
        await _reply(scope, send, 200, _HTML, html.encode(), _CSP)

    async def _metrics(self, scope: Scope, send: Send) -> None:
        accept = _header(scope, b"accept").decode("latin-1")
        body, content_type = self._exposition.render(accept)
        await _reply(scope, send, 200, content_type, body)

    async def _live(self, scope: Scope, send: Send) -> None:
        await _reply(scope, send, 200, "application/json", b'{"live":true}')

    async def _ready(self, scope: Scope, send: Send) -> None:
        readiness = await self._checks.ready()
        body = msgspec.json.format(msgspec.json.encode(readiness), indent=2) + b"\n"
        await _reply(scope, send, 200 if readiness.ready else 503, "application/json", body)


_NO_TOKEN: Final = (
    401,
    _TEXT,
    b"This page asks for the token of the setting ops.token: as Authorization: Bearer, or as ?token= in the"
    b" address.\n",
    (b"www-authenticate", b'Bearer realm="operations"'),
)
_FOREIGN_HOST: Final = (
    403,
    _TEXT,
    b"Without ops.token this listener answers only to 127.0.0.1, [::1] and localhost.\n",
    (b"vary", b"host"),
)


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


def _header(scope: Scope, name: bytes) -> bytes:
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return b""


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
