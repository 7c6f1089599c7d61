"""HTTP/1.1 on uvicorn's connections, with a short way from the parser to the operations.

Uvicorn keeps what a server has to do for a connection: flow control, pipelining, upgrades, keep-alive, shutdown.
A request for one of our operations skips ASGI: no scope, no messages, one write for the whole answer. All else
(mounted applications, WebSockets, ``Expect``, paths with percent-encoding, errors) goes the ordinary way.

:mod:`tenfold.runtime.bounded` bounds what a client may do to a connection.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from tenfold.errors import BadRequest, HeadersTooLarge
from tenfold.http.encoding import PLAIN_TYPE
from tenfold.http.limits import URI_MAX_BYTES, check_headers
from tenfold.http.request import Request
from tenfold.http.wire import PERCENT
from tenfold.runtime.bounded import SLICE_BYTES, BoundedProtocol
from tenfold.runtime.door import RenderedDoor
from tenfold.runtime.exchange import Exchange
from tenfold.runtime.outbox import Outbox
from tenfold.runtime.rendering import lines
from tenfold.security.identity.names import SHOWN

if TYPE_CHECKING:
    from tenfold.app import App
    from tenfold.http.asgi import HttpApp
    from tenfold.http.dispatch import Routed
    from tenfold.runtime.connections import Connections

HANDSHAKE_LINE_MAX_BYTES = 8_000
"""A little less than the WebSocket library reads of a line."""
NO_STATE: dict[str, Any] = {}
"""Of requests that begin with none."""
HASH = ord("#")
REPEAT_TRIES = 16
"""So many heads of a connection are remembered in vain, before no more of them are: its headers change each time."""
_LINE = re.compile(rb"(GET|HEAD) (/[!-\"$&-~]*) HTTP/1\.1")
"""The first line of a request that goes the short way without a body: visible ASCII, without ``#`` and ``%``."""
_UNLIKE_OTHERS = frozenset({b"content-length", b"transfer-encoding", b"upgrade", b"expect"})
"""Who sends one of these has a body, or wants to speak otherwise."""
_VERSIONS = frozenset({"1.1", "1.0"})
_METHODS = {name.encode(): name for name in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")}


def protocol_of(app: App, connections: Connections) -> type[Protocol]:
    """The protocol of one app's connections, for ``uvicorn.Config(http=…)``."""
    http = app.settings.http
    # A head has an address, too, and the separators of its headers, four bytes each.
    head_max = http.header_max_bytes + 2 * URI_MAX_BYTES + 4 * http.headers_max
    bound = {"served": app, "watched": connections, "head_max": head_max, "outbox": Outbox()}
    return type("AppProtocol", (Protocol,), bound)


def _renames_host(by_name: dict[bytes, bytes]) -> bool:
    """Whether a trusted proxy would say another host than the request does."""
    if b"forwarded" in by_name:
        return True
    return b"x-forwarded-host" in by_name and by_name[b"x-forwarded-host"] != by_name.get(b"host")


class Entry:
    """What every connection needs of a started app, looked up once."""

    def __init__(self, http: HttpApp) -> None:
        self.static = http.static
        self.route = http.route
        self.header_max = http.settings.header_max_bytes
        self.headers_max = http.settings.headers_max
        self.trust = http.trust
        self.answering = http.mounts.answering
        self.memory = http.memory
        self.door = (
            None
            if http.wiring.admission is None
            else RenderedDoor(http.wiring.admission, http.dispatcher, http.wiring.callers)
        )
        edge = http.wiring.edge
        self._fixed = (PLAIN_TYPE, *(() if edge is None else edge.headers))
        self.plain_count = len(self._fixed) + 1  # and content-length
        self.plain_last = self._fixed[-1] if len(self._fixed) > 1 else None
        self.dated: list[tuple[bytes, bytes]] = []
        """Uvicorn's own headers (the date): another list every second."""
        self.heads: dict[int, bytes] = {}
        """Status line and headers of plain answers, up to the length's number, by status."""

    def head(self, status: int, dated: list[tuple[bytes, bytes]]) -> bytes:
        """The beginning of a plain answer with this status."""
        if dated is not self.dated:
            self.dated = dated
            self.heads.clear()
        head = self.heads[status] = STATUS_LINE[status] + lines([*dated, *self._fixed]) + b"content-length: "
        return head


def ops_protocol_of(app: App, connections: Connections) -> type[Protocol]:
    """The same for its operations listener: everything goes the ordinary way."""
    return type("OpsProtocol", (protocol_of(app, connections),), {"_enter": lambda _: None})


class Protocol(BoundedProtocol):
    """One connection."""

    entry: ClassVar[Entry | None] = None
    outbox: ClassVar[Outbox]
    peer: dict[str, Any]
    """What an ASGI scope tells of the connection."""
    _block = b""
    """What followed the first line of the request before, to its end; empty for one with a body and the like."""
    _same: tuple[list[tuple[bytes, bytes]], dict[bytes, bytes]]
    """What the parser has understood of it: headers in their order, and by name. Whoever gets them gets copies, which may
    be changed."""
    _plain: dict[bytes, bytes] | None = None
    """The same of a request that is being read."""
    _tries = REPEAT_TRIES

    # ── the same headers again ──

    def data_received(self, data: bytes) -> None:
        """A client says mostly the same from request to request: where what follows the first line is, byte by byte, what
        the parser has just understood, only that line is looked at."""
        block = self._block
        if block and data.endswith(block) and self._answer_again(data, len(data) - len(block)):
            self._tries = REPEAT_TRIES
            return
        self._block, self._plain = b"", None
        super().data_received(data)
        if self._plain is not None:
            self._remember(data, self._plain)

    def _answer_again(self, data: bytes, end: int) -> bool:
        """A request whose first line, the data up to ``end``, is all that is new. False: it is the parser's."""
        entry, line, before = type(self).entry, _LINE.fullmatch(data, 0, end), self.cycle
        if (
            entry is None
            or line is None
            or self._in_head
            or not before.response_complete
            or len(data) > entry.header_max
            or self._ahead
            or self._refusal is not None
            or self._leaving
        ):
            return False
        self.since = None
        self._thrown_bytes = 0
        method, url = line.groups()
        headers, by_name = self._same
        self.headers = headers.copy()
        if not self._answer(entry, _METHODS[method], url, by_name.copy(), keep_alive=True):
            return False
        self.cycle.more_body = False
        return True

    def _remember(self, data: bytes, by_name: dict[bytes, bytes]) -> None:
        """Nothing but one whole request: its first line, a line for each header, and the empty one."""
        self._plain = None
        end = data.find(b"\r\n")
        lines = data.count(b"\r\n")
        if (
            self._head_size == len(data) <= SLICE_BYTES
            and not self._in_head
            and lines == data.count(b"\n") == data.count(b"\r") == len(self.headers) + 2
            and data.endswith(b"\r\n\r\n")
            and _LINE.fullmatch(data, 0, end) is not None
        ):
            self._block, self._same = data[end:], (self.headers.copy(), by_name.copy())
            self._tries -= 1

    # ── the parser's callbacks ──

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self.since = self._plain = None
        self._in_head = True
        self._head_size = self._chunk_size
        self._quiet_size = self._thrown_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # trailers are not headers
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        headers, parser, url = self.headers, self.parser, self.url
        self._in_head = False
        self._quiet_size = 0
        if self._new:
            self.prove()
        by_name = dict(headers)
        version = parser.get_http_version()
        if b"host" not in by_name or len(by_name) != len(headers) or version not in _VERSIONS:
            self._check_head(version)
        if b"transfer-encoding" in by_name:
            self._check_coding(by_name[b"transfer-encoding"], version)
        entry = type(self).entry or self._enter()
        method = parser.get_method()
        if (
            entry is None
            or url[:1] != b"/"
            or not url.isascii()
            or PERCENT in url
            or HASH in url
            or b"expect" in by_name
            or method not in _METHODS
            or self._head_size > entry.header_max
            or len(headers) > entry.headers_max
            or parser.should_upgrade()
        ):
            self._ordinary_way()
            return
        keep_alive = parser.should_keep_alive() and (b"connection" not in by_name or version != "1.0")
        if not self._answer(entry, _METHODS[method], url, by_name, keep_alive=keep_alive):
            self._ordinary_way()
        elif self._tries and keep_alive and version == "1.1" and by_name.keys().isdisjoint(_UNLIKE_OTHERS):
            self._plain = by_name

    def _answer(
        self, entry: Entry, name: str, url: bytes, by_name: dict[bytes, bytes], *, keep_alive: bool
    ) -> bool:
        """Whether the request is one for the short way, and gone that."""
        raw_path, _, query = url.partition(b"?")
        path = raw_path.decode("ascii")
        routed: Routed | None
        if path in entry.static:
            routed = entry.static[path], ()
        else:
            routed = entry.route(path, b"") if len(path) <= URI_MAX_BYTES else None
        state = NO_STATE
        if routed is None and entry.answering is not None and not (entry.trust and _renames_host(by_name)):
            found = entry.answering.direct(name, path, by_name)
            if found is not None:
                routed, state = ({name: found.endpoint}, ()), found.state
        if routed is None or name not in routed[0]:
            return False
        self._direct(entry, name, path, routed, query, by_name, state, keep_alive=keep_alive)
        return True

    def _direct(
        self,
        entry: Entry,
        method: str,
        path: str,
        routed: Routed,
        query: bytes,
        by_name: dict[bytes, bytes],
        state: dict[str, Any],
        *,
        keep_alive: bool,
    ) -> None:
        """The short way: to the endpoint that answers."""
        endpoint, segments, headers = routed[0][method], routed[1], self.headers
        exchange = Exchange(self, endpoint, method)
        exchange.keep_alive = keep_alive
        before, self.cycle = self.cycle, exchange
        turn = before is None or before.response_complete
        if turn and endpoint.quick is not None and not self.flow.write_paused:
            answer = endpoint.quick(segments, query, by_name)
            if answer is not None:
                exchange.finish(answer)
                return
        peer = self.peer if entry.trust is None else entry.trust({**self.peer, "headers": headers})
        door, standing = entry.door, None
        if (
            turn
            and door is not None
            and (door.gate.in_flight >= door.rooms[endpoint.operation.policies.priority] or door.line.size)
        ):
            standing = door.meet(exchange, endpoint, method, by_name, peer)
            if exchange.response_complete:
                return
        exchange.request = Request(
            method, path, segments, query, headers, by_name, exchange.receive, peer,
            body_max_bytes=endpoint.body_max_bytes, names=endpoint.names, memory=entry.memory, standing=standing,
            state=state or {},
        )  # fmt: skip
        if turn:
            self.answering = exchange
            exchange.start()
        else:  # pipelined
            self.flow.pause_reading()
            self.pipeline.appendleft((exchange, self.app))

    def _enter(self) -> Entry | None:
        """The app's entry, from its start on."""
        if not self.served.started:
            return None
        entry = type(self).entry = Entry(self.served.assembly.http)
        return entry

    def _ordinary_way(self) -> None:
        """ASGI, as uvicorn does it."""
        url, headers = self.url, self.headers
        if self.parser.should_upgrade():
            self._check_handshake()
        super().on_message_begin()
        if SHOWN in self.peer:
            cast("dict[str, Any]", self.scope)[SHOWN] = self.peer[SHOWN]
        self.url = url
        for name, value in headers:
            super().on_header(name, value)
        super().on_headers_complete()

    def _check_head(self, version: str) -> None:
        """RFC 9112 § 3.2: one Host, no less and no more. Raising in a callback answers 400 and closes."""
        if version not in _VERSIONS:
            self._refusal = BadRequest(f"This server speaks HTTP/1.1 and 1.0, not {version}.")
            raise ValueError
        hosts = sum([name == b"host" for name, _ in self.headers])
        if hosts > 1 or (hosts == 0 and version == "1.1"):
            self._refusal = BadRequest(f"A request has exactly one Host header; this one has {hosts}.")
            raise ValueError

    def _check_handshake(self) -> None:
        """The headers of WebSockets, which another parser reads again."""
        http = self.served.settings.http
        longest = max(len(name) + len(value) for name, value in self.headers)
        try:
            check_headers(self.headers, http.header_max_bytes, http.headers_max)
        except HeadersTooLarge as error:
            self._refusal = error
            raise
        if longest > HANDSHAKE_LINE_MAX_BYTES:
            self._refusal = HeadersTooLarge(
                f"A header of {longest:,} bytes came; for a WebSocket it may have {HANDSHAKE_LINE_MAX_BYTES:,}."
            )
            raise ValueError

    def _check_coding(self, coding: bytes, version: str) -> None:
        """RFC 9112 § 6.1: what others in between might read differently is not read at all."""
        if coding.lower() != b"chunked" or version != "1.1":
            self._refusal = BadRequest("Transfer-Encoding may be chunked, in HTTP/1.1, and nothing else.")
            raise ValueError

    def on_body(self, body: bytes) -> None:
        self._quiet_size = 0
        cycle = self.cycle
        if type(cycle) is not Exchange:
            self._body_bytes += len(body)
            super().on_body(body)
        elif cycle.response_complete:
            self.throw_away(len(body))
        else:
            cycle.add(body)

    def on_message_complete(self) -> None:
        cycle = self.cycle
        if self._in_head:
            raise ValueError("a request without a version has no headers")  # HTTP/0.9
        if type(cycle) is not Exchange:
            super().on_message_complete()
            if cycle is not None:
                cycle.more_body = False
        else:
            cycle.more_body = False
            if cycle.event is not None:
                cycle.event.set()

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.peer = {
            "type": "http", "http_version": "1.1", "scheme": self.scheme, "server": self.server,
            "client": self.client, "root_path": "",
        }  # fmt: skip
        if (connection := transport.get_extra_info("ssl_object")) is not None:
            from tenfold.security.identity.tls import peer_of

            self.peer[SHOWN] = peer_of(connection)
