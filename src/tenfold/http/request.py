"""The request as handlers, dependencies and policies see it, whichever protocol brought it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, MutableMapping
from typing import Any, TypeVar

import msgspec

from tenfold._core.context import Context
from tenfold.errors import BadRequest, MalformedBody
from tenfold.http.memory import FREE_BYTES, BodyMemory
from tenfold.http.wire import BadText, Values, parse_cookies, parse_query, text_of

T = TypeVar("T")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]


class ClientDisconnected(ConnectionError):
    """The client went away before the request was complete; nobody is left to answer."""


class HeaderMap(Mapping[str, str]):
    """Request headers by name, whatever the case. A name that came twice maps to the last; see ``all``."""

    __slots__ = ("_by_name", "_raw")

    def __init__(self, by_name: dict[bytes, bytes], raw: list[tuple[bytes, bytes]]) -> None:
        self._by_name = by_name
        self._raw = raw

    def __getitem__(self, name: str) -> str:
        return self._by_name[name.lower().encode("latin-1")].decode("latin-1")

    def __iter__(self) -> Iterator[str]:
        return (name.decode("latin-1") for name in self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def all(self, name: str) -> list[str]:
        """Every value of a header that may repeat, in the order sent."""
        wanted = name.lower().encode("latin-1")
        return [value.decode("latin-1") for known, value in self._raw if known == wanted]


class Request(msgspec.Struct, eq=False):
    """One request. Cheap to make; what is not asked for is not parsed."""

    method: str
    path: str
    """Percent-decoded path below the app's own mount point."""
    segments: tuple[str, ...]
    """Values of the path parameters, in the order of the template."""
    query_string: bytes
    raw_headers: list[tuple[bytes, bytes]]
    header_bytes: dict[bytes, bytes]
    """Headers by lower-case name; what the generated code looks at."""
    receive: Receive
    scope: Mapping[str, Any]
    """The ASGI scope (of RSGI requests: the same members)."""
    context: Context = msgspec.field(default_factory=Context)
    """Deadline, trace and principal of this request."""
    state: dict[str, Any] = {}
    """Free for middleware and dependencies to leave things for each other."""
    body_max_bytes: int = 1_048_576
    names: tuple[str, ...] = ()
    """Names of the path parameters."""
    reading: bool = False
    """Waiting for a piece of the body right now."""
    body_wait_s: float = 0.0
    """How long the body was waited for so far, counted by the sweeper."""
    body_timeout_s: float = 0.0
    """How long it could be waited for, once that is over."""
    body_bytes: int = 0
    """How much of a body in pieces has come."""
    memory: BodyMemory | None = None
    """What bodies that are kept whole are taken from; None: without a bound on all of them together."""
    held_bytes: int = 0
    """How much was taken; the pipeline gives it back."""
    ended: str = ""
    """Why the sweeper cancelled this request: ``deadline``, ``body`` or ``disconnect``."""
    consumed: bool = False
    """The body was begun to be read."""
    complete: bool = False
    """The last piece of the body was read."""
    standing: Any = None
    """Where it stands in line since its headers came; None once that is taken over, and for most requests always."""
    looks: int = 0
    """How often the sweeper met this request; from the second on, the client's disconnection is awaited."""
    _body: bytes | None = None

    @property
    def root_path(self) -> str:
        """Where this app is mounted, without a trailing slash; empty when it is not."""
        root: str = self.scope.get("root_path", "")
        return root.rstrip("/")

    @property
    def path_params(self) -> dict[str, str]:
        """Values of the template's placeholders, percent-decoded, by name."""
        return dict(zip(self.names, self.segments, strict=False))

    @property
    def headers(self) -> HeaderMap:
        """Headers by name, whatever the case."""
        return HeaderMap(self.header_bytes, self.raw_headers)

    @property
    def cookies(self) -> dict[str, str]:
        """Cookies by name. Raises BadRequest when they are not UTF-8."""
        raw = self.header_bytes.get(b"cookie")
        if raw is None:
            return {}
        # HTTP/2 lets clients send one header per cookie (RFC 9113 § 8.2.3).
        every = [value for name, value in self.raw_headers if name == b"cookie"]
        try:
            return parse_cookies(b"; ".join(every) if len(every) > 1 else raw)
        except BadText as error:
            raise BadRequest(f"The Cookie header {error}") from None

    @property
    def query(self) -> Values:
        """Names and values of the query string; a name that repeats maps to a list."""
        try:
            return parse_query(self.query_string)
        except BadText as error:
            raise BadRequest(f"The query string {error}") from None

    @property
    def principal(self) -> Any:
        """Who asks: what the authenticator made of the credentials, or None."""
        return self.context.principal

    @property
    def client(self) -> tuple[str, int] | None:
        """Address and port of the peer (behind trusted proxies: of the client)."""
        return self.scope.get("client")

    @property
    def scheme(self) -> str:
        """``http`` or ``https``."""
        return str(self.scope.get("scheme", "http"))

    @property
    def content_type(self) -> str:
        """Media type of the body in lower case, without parameters."""
        raw = self.header_bytes.get(b"content-type", b"")
        return raw.partition(b";")[0].strip().lower().decode("latin-1")

    async def hold(self, size: int) -> None:
        """Have room in memory for ``size`` bytes of body, the first 64 KiB of them for nothing. Raises Unavailable."""
        if self.memory is not None and size > FREE_BYTES and size > self.held_bytes:
            self.held_bytes += await self.memory.take(size - self.held_bytes)

    def let_go(self) -> None:
        """Give back what was held."""
        held, self.held_bytes = self.held_bytes, 0
        if self.memory is not None:
            self.memory.give(held)

    async def body(self) -> bytes:
        """The whole body, read once. Raises PayloadTooLarge, RequestTimeout, Unavailable, ClientDisconnected."""
        if self._body is None:
            # Imported late: limits needs this module for its types.
            from tenfold.http.limits import read_body

            self._body = await read_body(self)
        return self._body

    async def stream(self) -> AsyncIterator[bytes]:
        """The body piece by piece, as it arrives, within the operation's limits of size and time."""
        if self._body is not None:
            yield self._body
            return
        from tenfold.http.limits import body_pieces

        async for piece in body_pieces(self):
            yield piece

    async def text(self) -> str:
        """The body as UTF-8 text."""
        try:
            return text_of(await self.body())
        except BadText as error:
            raise MalformedBody(f"The body {error}") from None

    async def json(self, type_: type[T] | Any = Any) -> T | Any:
        """The body as JSON, converted to ``type_``. Prefer a typed parameter of the handler."""
        try:
            return msgspec.json.decode(await self.body(), type=type_)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise MalformedBody(f"The body is not the JSON that is expected: {error}.") from None
