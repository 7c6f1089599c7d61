"""The dashboard of one app: an ASGI application that the operations listener asks first.

It takes what people ask for with a browser (``Accept: text/html``, or htmx) at the path of a page, its static files and
its sign-in. Everything else at the listener stays what it is: a script gets JSON at ``/policies``, a person the page.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlencode

from tenfold._core.origin import check_same_origin
from tenfold.dashboard import actions, shell, signing, static, ui
from tenfold.dashboard.html import Html, join
from tenfold.dashboard.pages import pages
from tenfold.dashboard.router import Router
from tenfold.dashboard.view import View, decode
from tenfold.errors import Problem, TenfoldError
from tenfold.http.problems import problem_of
from tenfold.telemetry.ops import VISITOR, read_body
from tenfold.telemetry.ops_access import Visitor

if TYPE_CHECKING:
    from tenfold.app import App
    from tenfold.dashboard.page import Page
    from tenfold.telemetry.ops import Receive, Scope, Send

log = logging.getLogger("tenfold.dashboard")

FORM_MAX_BYTES: Final = 1_048_576
_SAFE: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", shell.CSP.encode()),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_HTML: Final = "text/html; charset=utf-8"


class Headers(dict[str, str]):
    """Of a request, by name in lower case."""

    @classmethod
    def of(cls, scope: Scope) -> Headers:
        return cls(
            (name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"]
        )


class Dashboard:
    """Made when the app has started; holds its pages."""

    def __init__(self, app: App) -> None:
        self._app = app
        self.pages: tuple[Page, ...] = tuple(page(app) for page in pages())
        self._router = Router(self.pages)
        self._signing = signing.Signing(app)

    @property
    def paths(self) -> list[str]:
        """Of the pages that this app has, those without a parameter."""
        return [page.path for page in self.pages if "{" not in page.path and page.present()]

    def open(self, scope: Scope) -> bool:
        """Whether this is for everybody: static files, which hold nothing of the app, and the sign-in."""
        path = _path(scope)
        return path.startswith("/static/") or path in (signing.PATH, signing.OUT)

    def meets(self, scope: Scope) -> bool:
        """Whether the visitor can be shown the sign-in."""
        return scope["method"] in ("GET", "HEAD") and "text/html" in Headers.of(scope).get("accept", "")

    def takes(self, scope: Scope) -> bool:
        """Whether a page answers this request."""
        headers = Headers.of(scope)
        wanted = "text/html" in headers.get("accept", "") or "hx-request" in headers
        found = self._router.find(_path(scope)) if wanted else None
        return found is not None and found[0].present()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._answer(scope, receive, send)
        except TenfoldError as error:  # of what reads the request: nothing was answered yet
            problem = error if isinstance(error, Problem) else problem_of(error)
            await _send(
                scope, send, problem.status, f"{problem.detail or problem.title}\n".encode(), "text/plain", {}
            )

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = _path(scope)
        if path.startswith("/static/"):
            await _static(scope, send, path.rpartition("/")[2])
            return
        if path in (signing.PATH, signing.OUT):
            await self._sign(scope, receive, send, path)
            return
        if scope[VISITOR] is None or "token=" in scope["query_string"].decode("latin-1"):
            await self._meet(scope, send)
            return
        found = self._router.find(path)
        assert found is not None, "takes() said so"
        page, params = found
        headers = Headers.of(scope)
        query = dict(parse_qsl(scope.get("query_string", b"").decode("latin-1")))
        view = View(
            self._app, page, scope[VISITOR],
            root=scope.get("root_path", ""), path=path, params=params, query=query,
        )  # fmt: skip
        if scope["method"] == "POST":
            view.form = decode(await read_body(receive, FORM_MAX_BYTES))
            answer = await actions.act(view, headers, _address(scope))
            await _reply(scope, send, answer.status, answer.body, answer.headers)
        else:
            status, body = await self._shown(view, headers)
            await _reply(scope, send, status, body, {})

    # ── who it is ──

    async def _meet(self, scope: Scope, send: Send) -> None:
        """To the sign-in; who came with a token in the address goes on without it there, known by a cookie."""
        root, visitor = scope.get("root_path", ""), scope[VISITOR]
        query = parse_qsl(scope["query_string"].decode("latin-1"))
        rest = [q for q in query if q[0] != "token"]
        here = signing.safe(_path(scope) + (f"?{urlencode(rest)}" if rest else ""))
        if visitor is None:
            await _go(scope, send, f"{root}{signing.PATH}?{urlencode({'next': here})}")
        else:
            await _go(scope, send, f"{root}{here}", self._cookie(scope, visitor))

    async def _sign(self, scope: Scope, receive: Receive, send: Send, path: str) -> None:
        root, doors = scope.get("root_path", ""), self._app.assembly.ops.doors
        headers, sentence = Headers.of(scope), ""
        query = dict(parse_qsl(scope.get("query_string", b"").decode("latin-1")))
        onward = signing.safe(query.get("next", "/"))
        if not doors.asks:
            await _go(scope, send, f"{root}/")
            return
        if scope["method"] == "POST":
            check_same_origin("POST", headers)
            given = decode(await read_body(receive, FORM_MAX_BYTES))
            if path == signing.OUT:
                secure = scope.get("scheme") == "https"
                await _go(scope, send, f"{root}{signing.PATH}", doors.no_cookie(path=root, secure=secure))
                return
            onward = signing.safe(given.get("next", "/"))
            found = await self._signing.visitor(given, scope)
            actions.signed_in(found, _address(scope))
            if isinstance(found, Visitor):
                await _go(scope, send, f"{root}{onward}", self._cookie(scope, found))
                return
            sentence = found
        body = signing.form(self._app.name, root, onward, self._signing.accounts is not None, sentence)
        shown = shell.around(f"Sign in · {self._app.name}", root, body, _theme(headers))
        await _reply(scope, send, 401 if sentence else 200, shown, {})

    def _cookie(self, scope: Scope, visitor: Visitor) -> str:
        doors, secure = self._app.assembly.ops.doors, scope.get("scheme") == "https"
        return doors.cookie(visitor, path=scope.get("root_path", ""), secure=secure)

    # ── pages ──

    async def _shown(self, view: View, headers: Mapping[str, str]) -> tuple[int, Html]:
        part = view.query.get("part", "")
        try:
            view.check()
            if part in view.page.parts:
                return 200, await getattr(view.page, part)(view)
            body = await view.page.body(view)
            if view.page.windowed:
                body = join(await view.live(view.page.untold), body)
            return 200, self._document(view, body, headers)
        except TenfoldError as error:
            problem = error if isinstance(error, Problem) else problem_of(error)
            status, sentence = problem.status, problem.detail or problem.title
        except Exception as error:  # a page that fails must say so, and be found in the log
            log.exception("page %s failed", view.page.path)
            status, sentence = 500, f"This page failed: {type(error).__name__}. The log says where."
        said = ui.note(sentence, "bad" if status >= 500 else "warn")
        return status, said if part else self._document(view, said, headers)

    def _document(self, view: View, body: Html, headers: Mapping[str, str]) -> Html:
        return shell.document(view, self.pages, body, theme=_theme(headers))


async def _go(scope: Scope, send: Send, to: str, cookie: str = "") -> None:
    extra = {"Location": to, "Cache-Control": "no-store"}
    await _send(scope, send, 303, b"", "text/plain", {**extra, "Set-Cookie": cookie} if cookie else extra)


def _theme(headers: Mapping[str, str]) -> str:
    """What the visitor chose over what their system says; nothing secret, so the page's script keeps it."""
    try:
        found = SimpleCookie(headers.get("cookie", "")).get("tenfold_theme")
    except CookieError:
        return ""
    return found.value if found is not None and found.value in ("light", "dark") else ""


def _path(scope: Scope) -> str:
    """As it came, still escaped, below where the dashboard is mounted."""
    raw = scope.get("raw_path") or scope["path"].encode()
    path: str = bytes(raw).decode("latin-1").partition("?")[0]
    return path.removeprefix(scope.get("root_path", "")) or "/"


def _address(scope: Scope) -> str:
    client: Any = scope.get("client")
    return str(client[0]) if client else ""


async def _static(scope: Scope, send: Send, name: str) -> None:
    found = static.read(name)
    if found is None:
        await _send(
            scope, send, 404, b"There is no such file.\n", "text/plain", {"Cache-Control": "no-store"}
        )
    else:
        await _send(
            scope, send, 200, found[0], found[1], {"Cache-Control": "public, max-age=31536000, immutable"}
        )


async def _reply(scope: Scope, send: Send, status: int, body: Html, extra: Mapping[str, str]) -> None:
    await _send(scope, send, status, body.encode(), _HTML, {"Cache-Control": "no-store", **extra})


async def _send(
    scope: Scope, send: Send, status: int, body: bytes, kind: str, extra: Mapping[str, str]
) -> None:
    headers = [
        (b"content-type", kind.encode()),
        (b"content-length", b"%d" % len(body)),
        *_SAFE,
        *((name.lower().encode(), value.encode("latin-1", "replace")) for name, value in extra.items()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
