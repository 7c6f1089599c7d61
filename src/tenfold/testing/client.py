"""A client that calls an ASGI application directly: no socket, no server, the whole pipeline."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import msgspec

Asgi = Callable[..., Awaitable[None]]
Message = MutableMapping[str, Any]

TIMEOUT_S = 30.0
"""Of real time, for one request: a test that hangs should say where."""


class Answer:
    """What came back."""

    def __init__(self, request: str, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        self.request = request
        """Method and path, for messages."""
        self.status = status
        self.headers = Headers(headers)
        self.content = content

    def __repr__(self) -> str:
        text = self.text if len(self.text) <= 300 else f"{self.text[:300]}…"
        return f"<Answer {self.status} to {self.request}: {text}>"

    @property
    def text(self) -> str:
        return self.content.decode(errors="replace")

    def json(self, type_: Any = Any) -> Any:
        """The body as ``type_``; raises msgspec.DecodeError or ValidationError."""
        return msgspec.json.decode(self.content, type=type_)

    def expect(self, status: int) -> Answer:
        """Itself; raises AssertionError, with the body, when the status is another."""
        if self.status != status:
            raise AssertionError(
                f"{self.request} answered {self.status} instead of {status}:\n{self.text[:2000]}"
            )
        return self


class Headers(Mapping[str, str]):
    """Response headers; names in any case. A name that repeats gives its first value, :meth:`all` every one."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self.pairs = pairs

    def __getitem__(self, name: str) -> str:
        found = self.all(name)
        if not found:
            raise KeyError(name)
        return found[0]

    def __iter__(self) -> Any:
        return iter(dict(self.pairs))

    def __len__(self) -> int:
        return len(dict(self.pairs))

    def all(self, name: str) -> list[str]:
        """Every value of a name."""
        return [value for key, value in self.pairs if key == name.lower()]


class Client:
    """Requests to an ASGI app. Cookies that it sets are kept; ``headers`` go with every request.

    ``after`` is awaited after each request: a TestApp runs the jobs that the request enqueued.
    """

    def __init__(self, app: Asgi, *, after: Callable[[Answer], Awaitable[None]] | None = None) -> None:
        self.headers: dict[str, str] = {}
        self.cookies: dict[str, str] = {}
        self._app = app
        self._after = after

    async def get(self, path: str, **options: Any) -> Answer:
        """Options: see :meth:`request`."""
        return await self.request("GET", path, **options)

    async def post(self, path: str, **options: Any) -> Answer:
        """Options: see :meth:`request`."""
        return await self.request("POST", path, **options)

    async def put(self, path: str, **options: Any) -> Answer:
        """Options: see :meth:`request`."""
        return await self.request("PUT", path, **options)

    async def patch(self, path: str, **options: Any) -> Answer:
        """Options: see :meth:`request`."""
        return await self.request("PATCH", path, **options)

    async def delete(self, path: str, **options: Any) -> Answer:
        """Options: see :meth:`request`."""
        return await self.request("DELETE", path, **options)

    async def request(
        self,
        method: str,
        path: str,
        *,
        json: Any = msgspec.UNSET,
        form: Mapping[str, Any] | None = None,
        content: bytes = b"",
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request and wait for the whole answer.

        The body is ``json`` (anything msgspec encodes), ``form`` fields, or ``content`` as it is. ``query`` is
        added to the path's own; lists repeat the name. Streams are read to their end. Raises what the app
        raises outside of its pipeline, and TimeoutError after 30 s.
        """
        sent = {**self.headers, **{name.lower(): value for name, value in (headers or {}).items()}}
        body = _body(json, form, content, sent)
        if self.cookies:
            sent.setdefault("cookie", "; ".join(f"{name}={value}" for name, value in self.cookies.items()))
        exchange = _Exchange(body)
        scope = _scope(method, path, query, sent)
        # A task of its own, in an empty context: what a request leaves in context variables is not the test's.
        task = asyncio.get_running_loop().create_task(
            _call(self._app, scope, exchange), context=contextvars.Context()
        )
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await task
        except TimeoutError:
            raise TimeoutError(f"{method} {path} did not answer within {TIMEOUT_S:g} s.") from None
        answer = exchange.answer(f"{method} {path}")
        self._keep_cookies(answer)
        if self._after is not None:
            await self._after(answer)
        return answer

    def _keep_cookies(self, answer: Answer) -> None:
        for line in answer.headers.all("set-cookie"):
            for name, morsel in SimpleCookie(line).items():
                if morsel["max-age"] == "0" or not morsel.value:
                    self.cookies.pop(name, None)
                else:
                    self.cookies[name] = morsel.value


class _Exchange:
    """The two channels of one request."""

    def __init__(self, body: bytes) -> None:
        self._body: bytes | None = body
        self._ended = asyncio.Event()
        self._messages: list[Message] = []

    async def receive(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._ended.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self._messages.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self._ended.set()

    def answer(self, request: str) -> Answer:
        if not self._messages or not self._ended.is_set():
            raise RuntimeError(f"{request}: the app ended without a whole answer.")
        start, *rest = self._messages
        headers = [
            (name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in start["headers"]
        ]
        content = b"".join(message.get("body", b"") for message in rest)
        return Answer(request, start["status"], headers, content)


async def _call(app: Asgi, scope: Message, exchange: _Exchange) -> None:
    await app(scope, exchange.receive, exchange.send)


def _body(json: Any, form: Mapping[str, Any] | None, content: bytes, headers: dict[str, str]) -> bytes:
    if json is not msgspec.UNSET:
        headers.setdefault("content-type", "application/json")
        content = msgspec.json.encode(json)
    elif form is not None:
        headers.setdefault("content-type", "application/x-www-form-urlencoded")
        content = urlencode(form, doseq=True).encode()
    if content:
        headers.setdefault("content-length", str(len(content)))
    return content


def _scope(method: str, path: str, query: Mapping[str, Any] | None, headers: Mapping[str, str]) -> Message:
    parts = urlsplit(path)
    search = "&".join(text for text in (parts.query, urlencode(query or {}, doseq=True)) if text)
    raw_path = quote(parts.path, safe="/%:@!$&'()*+,;=~-._")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": _unquoted(raw_path),
        "raw_path": raw_path.encode(),
        "query_string": search.encode(),
        "root_path": "",
        "headers": [
            (name.encode("latin-1"), value.encode("latin-1"))
            for name, value in {"host": "testserver", **headers}.items()
        ],
        "client": ("127.0.0.1", 50_000),
        "server": ("testserver", 80),
    }


def _unquoted(raw_path: str) -> str:
    from urllib.parse import unquote

    return unquote(raw_path)
