"""``HttpClient``: calls out to one other side. Made by ``Service.http``.

What a call promises: it ends within its time (``timeout_s``, or the deadline of the work that makes it, whichever is
nearer). It is sent once, and again only where that is harmless: GET, HEAD, OPTIONS, PUT, DELETE, anything with an
idempotency key, and what never left. It connects to public addresses only, and those that settings allow. An answer
that is larger than allowed, or does not fit the type that was asked for, is an error with a sentence. Errors are
:class:`~tenfold.errors.CallError` and its kinds.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from msgspec.structs import replace

from tenfold._core.backoff import retry_after_s
from tenfold._core.context import current
from tenfold.client import requests
from tenfold.client.answer import Answer, Download, Headers
from tenfold.client.calling import answer_status, done
from tenfold.client.options import Options
from tenfold.client.streaming import pieces_of
from tenfold.client.trying import Call, Open
from tenfold.errors import (
    CallError,
    DeadlineExceeded,
    DeclarationError,
    DependencyFailed,
    DependencyTimeout,
    DependencyUnavailable,
    NotBound,
)

if TYPE_CHECKING:
    from tenfold.client.contract import Transport
    from tenfold.client.state import State
    from tenfold.client.urls import Query

T = TypeVar("T")


class HttpClient:
    """Calls to one other side: ``payments = service.http("payments", "https://api.example/v1")``.

    A path may have blanks, which are filled in percent-encoded: ``await payments.get("/charges/{id}", id=charge)``. With
    ``type=``, what is not a success is an error, and the body is decoded. Without, the :class:`Answer` comes back
    whatever its status. Without a URL, a client takes whole URLs, of any public host.

    Every method takes: ``type``, ``query`` (a mapping; lists repeat, None is left out), ``headers``, ``timeout_s`` (this
    call's own), and what fills the path's blanks. Those with a body take one of ``json`` (whatever msgspec encodes, or a
    Pydantic model), ``form`` (a mapping) and ``content`` (bytes), and ``idempotency_key``, which makes a second try
    harmless where the other side knows such keys.
    """

    def __init__(
        self,
        service: str,
        name: str,
        url: str = "",
        *,
        options: Options | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        if not name.replace("-", "_").isidentifier() or name != name.lower():
            raise DeclarationError(
                f"{name!r} is not a name of a client.",
                where=f"service {service}",
                remedy="Use lower-case letters, digits, '-' and '_', beginning with a letter.",
            )
        self.service, self.name, self.url = service, name, url
        self.declared = options or Options()
        """The options as they were declared."""
        try:
            self.headers = requests.checked_headers(headers or {}, f"client {name}")
        except ValueError as error:
            raise DeclarationError(str(error), where=f"service {service}") from None
        self._state: State | None = None

    def __repr__(self) -> str:
        return f"<HttpClient {self.name}: {self.url or 'any host'}>"

    # ── calls ──

    @overload
    async def get(
        self, path: str, *, type: type[T], query: Query | None = None, headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None, **values: object,
    ) -> T: ...  # fmt: skip

    @overload
    async def get(
        self, path: str, *, type: None = None, query: Query | None = None,
        headers: Mapping[str, str] | None = None, timeout_s: float | None = None, **values: object,
    ) -> Answer: ...  # fmt: skip

    async def get(self, path: str, *, type: Any = None, **given: Any) -> Any:
        """``GET``."""
        return await self.request("GET", path, type=type, **given)

    async def head(self, path: str, **given: Any) -> Answer:
        """``HEAD``: the status and headers that GET would have."""
        answer: Answer = await self.request("HEAD", path, **given)
        return answer

    @overload
    async def post(
        self, path: str, *, type: type[T], json: Any = ..., form: Mapping[str, object] | None = None,
        content: bytes | None = None, idempotency_key: str = "", query: Query | None = None,
        headers: Mapping[str, str] | None = None, timeout_s: float | None = None, **values: object,
    ) -> T: ...  # fmt: skip

    @overload
    async def post(
        self, path: str, *, type: None = None, json: Any = ..., form: Mapping[str, object] | None = None,
        content: bytes | None = None, idempotency_key: str = "", query: Query | None = None,
        headers: Mapping[str, str] | None = None, timeout_s: float | None = None, **values: object,
    ) -> Answer: ...  # fmt: skip

    async def post(self, path: str, *, type: Any = None, **given: Any) -> Any:
        """``POST``; sent once, unless it has an ``idempotency_key``."""
        return await self.request("POST", path, type=type, **given)

    async def put(self, path: str, *, type: Any = None, **given: Any) -> Any:
        """``PUT``."""
        return await self.request("PUT", path, type=type, **given)

    async def patch(self, path: str, *, type: Any = None, **given: Any) -> Any:
        """``PATCH``; sent once, unless it has an ``idempotency_key``."""
        return await self.request("PATCH", path, type=type, **given)

    async def delete(self, path: str, *, type: Any = None, **given: Any) -> Any:
        """``DELETE``."""
        return await self.request("DELETE", path, type=type, **given)

    async def request(self, method: str, path: str, *, type: Any = None, **given: Any) -> Any:
        """Any method. Raises ValueError for a request that cannot be made, and CallError."""
        state = self._bound
        answer = await done(state, self._call(state, method, path, given))
        assert isinstance(answer, Answer)
        if type is None:
            return answer
        if not answer.ok:
            raise _failed(state, answer)
        return answer.json(type)

    @asynccontextmanager
    async def stream(self, method: str, path: str, **given: Any) -> AsyncGenerator[Download]:
        """An answer whose body is read piece by piece, and may be large: ``async with client.stream("GET", …) as answer``.

        ``timeout_s`` is for the head of the answer. The body may take until the deadline of the work in hand, be silent
        for ``read_timeout_s`` at a time, and have ``download_max_bytes``. Its place among the calls under way is held
        until the end of the block.
        """
        state = self._bound
        call = self._call(state, method, path, given, streams=True)
        answer = await done(state, call)
        headers = Headers(answer.headers.pairs if isinstance(answer, Answer) else answer.incoming.headers)
        pieces = pieces_of(state, call, answer, headers)
        try:
            yield Download(answer_status(answer), headers, pieces)
        finally:
            await pieces.aclose()
            if isinstance(answer, Open):
                await answer.close()

    def _call(
        self, state: State, method: str, path: str, given: dict[str, Any], *, streams: bool = False
    ) -> Call:
        now = state.clock.monotonic()
        timeout_s = given.pop("timeout_s", None) or state.options.timeout_s
        deadline = current().deadline
        if deadline is not None:
            timeout_s = min(timeout_s, deadline - now)
        if timeout_s <= 0:
            raise DeadlineExceeded(
                f"No time was left for {state.request(method, path)}; it was not made.",
                dependency=self.name,
            )
        return requests.call_of(
            state, method.upper(), path, given, now=now, timeout_s=timeout_s, streams=streams
        )

    # ── life and run time ──

    def check(self) -> None:
        """Raises :class:`~tenfold.errors.MissingExtra` when what sends is not installed, without loading it."""
        if find_spec("httpcore2") is None:
            from tenfold.errors import MissingExtra

            raise MissingExtra(
                "it needs the library 'httpcore2', which is not installed.",
                where=f"client {self.name}",
                remedy="Run: pip install 'tenfold[client]'",
            )

    def bind(self, state: State) -> None:
        """Called by the app at start."""
        self._state = state

    async def stop(self) -> None:
        """Called by the app at its end."""
        state, self._state = self._state, None
        if state is not None:
            await state.transport.stop()

    @property
    def options(self) -> Options:
        """What holds now. Raises :class:`NotBound` before the app has started."""
        return self._bound.options

    def change(self, **changes: Any) -> Options:
        """Let other options hold from now on, for this process: ``payments.change(timeout_s=1.0)``.

        Raises DeclarationError for a value that could not work, TypeError for a name that there is not.
        """
        state = self._bound
        state.change(replace(state.options, **changes))
        return state.options

    def force(self, host: str, breaker: Literal["open", "closed"] | None) -> None:
        """Hold the breaker of a host (``"api.example"``) open or closed, or leave it to its rules again (None)."""
        self._bound.hosts.of(host).breaker.forced = breaker

    def force_all(self, breaker: Literal["open", "closed"] | None) -> None:
        """The same for every host that it calls, also those that come later."""
        self._bound.hosts.force(breaker)

    def view(self) -> dict[str, Any]:
        """What there is to see now: calls under way, the budget, and each host with its breaker."""
        state = self._bound
        now = state.clock.monotonic()
        return {
            "client": self.name,
            "in_flight": state.places.in_flight,
            "waiting": state.places.waiting,
            "retry_budget": round(state.budget.saved, 1),
            "hosts": {
                host.name: {
                    "breaker": host.breaker.state(now),
                    "forced": host.breaker.forced is not None,
                    "opened": host.breaker.opened,
                    "refused": host.breaker.refused,
                    "in_flight": state.places.by_host.get(host.name, 0),
                    "p50_s": host.latency.quantile_s(0.5),
                    "p95_s": host.latency.quantile_s(0.95),
                }
                for host in state.hosts.all()
            },
        }

    @contextmanager
    def through(self, transport: Transport | None) -> Generator[None]:
        """Inside the block, which is one of a test, send through another transport (None: the same), and do not wait
        before second tries: the clock of a test stands still."""
        state = self._bound
        before = state.transport, state.sleep
        state.transport, state.sleep = transport or state.transport, _at_once
        try:
            yield
        finally:
            state.transport, state.sleep = before

    def forget(self) -> None:
        """What was learned of the other side, for the next test."""
        self._bound.forget()

    @property
    def base_path(self) -> str:
        """Where the paths of calls begin, as the other side sees it."""
        base = self._bound.base
        return "" if base is None else base.target.rstrip("/")

    @property
    def _bound(self) -> State:
        if self._state is None:
            raise NotBound(f"client {self.name!r} was used before its app started; start the app first.")
        return self._state


async def _at_once(_seconds: float) -> None:
    await asyncio.sleep(0)


def _failed(state: State, answer: Answer) -> CallError:
    said = f": {answer.shown}" if answer.shown else ""
    message = f"{answer.request} answered {answer.status}{said}"
    if answer.status in (429, 503):
        wait_s = retry_after_s(answer.headers.get("retry-after", ""), state.clock.now())
        return DependencyUnavailable(
            message, dependency=state.name, reason="status", retry_after_s=wait_s or 1.0
        )
    if answer.status == 504:
        return DependencyTimeout(message, dependency=state.name)
    return DependencyFailed(message, dependency=state.name, code=answer.status, answer=answer)
