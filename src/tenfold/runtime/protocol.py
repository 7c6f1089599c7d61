"""HTTP/1.1 on uvicorn's connections, with a short way from the parser to the operations.

Uvicorn keeps what a server has to do for a connection: flow control, pipelining, upgrades, keep-alive, shutdown.
A request for one of our operations skips ASGI: no scope, no messages, one write for the whole answer. All else
(mounted applications, WebSockets, ``Expect``, paths with percent-encoding, errors) goes the ordinary way.

What a client may do to a connection is bounded: bytes that come to nothing, requests sent ahead, time. No connection has a
timer; :mod:`tenfold.runtime.connections` looks at all of them.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ClassVar

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from tenfold.errors import BadRequest, HeadersTooLarge, Problem, RequestTimeout, Unavailable
from tenfold.http.encoding import PLAIN_TYPE
from tenfold.http.limits import URI_MAX_BYTES
from tenfold.http.request import Request
from tenfold.runtime.connections import Connections, State
from tenfold.runtime.door import RenderedDoor
from tenfold.runtime.exchange import Exchange
from tenfold.runtime.rendering import lines, rendered

if TYPE_CHECKING:
    from tenfold.app import App
    from tenfold.http.asgi import HttpApp
    from tenfold.http.dispatch import Routed

SLICE_BYTES = 4096
"""So much is parsed at a time. What was sent ahead is held as bytes until its turn comes near, and not as requests, which
are a hundred times as large."""
_VERSIONS = frozenset({"1.1", "1.0"})
_METHODS = {name.encode(): name for name in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")}


def protocol_of(app: App, connections: Connections) -> type[Protocol]:
    """The protocol of one app's connections, for ``uvicorn.Config(http=…)``."""
    http = app.settings.http
    # A head has an address, too, and the separators of its headers, four bytes each.
    head_max = http.header_max_bytes + 2 * URI_MAX_BYTES + 4 * http.headers_max
    return type("AppProtocol", (Protocol,), {"served": app, "watched": connections, "head_max": head_max})


class Entry:
    """What every connection needs of a started app, looked up once."""

    def __init__(self, http: HttpApp) -> None:
        self.static = http.static
        self.route = http.route
        self.header_max = http.settings.header_max_bytes
        self.headers_max = http.settings.headers_max
        self.trust = http.trust
        self.memory = http.memory
        gate = http.wiring.admission
        self.door = None if gate is None else RenderedDoor(gate, http.dispatcher)
        edge = http.wiring.edge
        self._fixed = (PLAIN_TYPE, *(() if edge is None else edge.headers))
        self.plain_count = len(self._fixed) + 1  # and content-length
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


class Protocol(HttpToolsProtocol):
    """One connection."""

    served: ClassVar[App]
    watched: ClassVar[Connections]
    head_max: ClassVar[int]
    """Bytes that may come to nothing: an unfinished head, empty lines, chunk extensions, trailers."""
    entry: ClassVar[Entry | None] = None
    app: Any
    parser: Any
    cycle: RequestResponseCycle
    peer: dict[str, Any]
    """What an ASGI scope tells of the connection."""
    answering: RequestResponseCycle | None = None
    """The request that is being answered; :attr:`cycle` is the one read last, which may have to wait for its turn."""
    since: float | None = None
    seen = State.HEAD
    mark = 0
    _refusal: Problem | None = None
    """What came is refused: nothing is read any more, and this follows the answers that are owed."""
    _leaving = False
    """The last answer was given; what still comes is thrown away, so that the client gets to read it."""
    _in_head = True
    """A head is to come, or has begun to."""
    _ahead = b""
    """What came after the requests that wait for their turn, not parsed yet."""
    _parsing = False
    _body_bytes = 0
    """Bytes of bodies that came for mounted applications."""
    _chunk_size = 0
    _head_size = 0
    """Bytes since the message's beginning, or more; as long as few came, nobody has to count its headers."""
    _quiet_size = 0
    """Bytes since the parser last understood something."""

    # ── the parser's callbacks ──

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self.since = None
        self._in_head = True
        self._head_size = self._chunk_size
        self._quiet_size = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # trailers are not headers
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        headers, parser, url = self.headers, self.parser, self.url
        self._in_head = False
        self._quiet_size = 0
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
            or b"%" in url
            or b"#" in url
            or b"expect" in by_name
            or method not in _METHODS
            or self._head_size > entry.header_max
            or len(headers) > entry.headers_max
            or parser.should_upgrade()
        ):
            self._ordinary_way()
            return
        raw_path, _, query = url.partition(b"?")
        path = raw_path.decode("ascii")
        routed: Routed | None
        if path in entry.static:
            routed = entry.static[path], ()
        else:
            routed = entry.route(path, b"") if len(path) <= URI_MAX_BYTES else None
        if routed is None or _METHODS[method] not in routed[0]:
            self._ordinary_way()
        else:
            self._direct(entry, _METHODS[method], path, routed, query, by_name)

    def _direct(
        self,
        entry: Entry,
        method: str,
        path: str,
        routed: Routed,
        query: bytes,
        by_name: dict[bytes, bytes],
    ) -> None:
        """The short way: to the endpoint that answers."""
        endpoint, segments, headers = routed[0][method], routed[1], self.headers
        exchange = Exchange(self, endpoint, method)
        exchange.keep_alive = self.parser.should_keep_alive() and (
            b"connection" not in by_name or self.parser.get_http_version() != "1.0"
        )
        before, self.cycle = self.cycle, exchange
        turn = before is None or before.response_complete
        if turn and endpoint.quick is not None and not self.flow.write_paused:
            answer = endpoint.quick(segments, query, by_name)
            if answer is not None:
                exchange.finish(answer)
                return
        door = entry.door
        if (
            turn
            and door is not None
            and (door.gate.in_flight >= door.rooms[endpoint.operation.policies.priority] or door.line.size)
            and door.refuses(exchange, endpoint, method, by_name)
        ):
            return
        exchange.request = Request(
            method, path, segments, query, headers, by_name, exchange.receive,
            self.peer if entry.trust is None else entry.trust({**self.peer, "headers": headers}),
            body_max_bytes=endpoint.body_max_bytes, names=endpoint.names, memory=entry.memory,
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
        super().on_message_begin()
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
        elif not cycle.response_complete:
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

    # ── the connection's life ──

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if not self.watched.add(self, self.connections):
            self._say(
                Unavailable(
                    f"All {self.watched.limits.connections_max:,} connections of this server are in use"
                    " (http.connections_max); try again.",
                    headers={"Retry-After": "1"},
                )
            )
            transport.close()
        self.peer = {
            "type": "http", "http_version": "1.1", "scheme": self.scheme, "server": self.server,
            "client": self.client, "root_path": "",
        }  # fmt: skip

    def connection_lost(self, exc: Exception | None) -> None:
        self.watched.discard(self)
        self._ahead = b""
        # Uvicorn tells the request that was read last; the one being answered goes on for nobody, maybe for ever.
        answering = self.answering
        if answering is not None and not answering.response_complete:
            answering.disconnected = True
            answering.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refusal is not None or self._leaving:
            return
        if self._ahead or self.pipeline:
            self._ahead += data
        elif len(data) <= SLICE_BYTES:
            self._parse(data)
        else:
            self._parse_on(data)

    def _parse_on(self, data: bytes) -> None:
        """In slices, as long as no request waits for its turn; the rest when it is through."""
        self._parsing, self._ahead = True, b""
        view, at = memoryview(data), 0
        while at < len(data) and not self.pipeline and self._refusal is None and not self._leaving:
            if not self._parse(view[at : at + SLICE_BYTES]):
                break
            at += SLICE_BYTES
        else:
            if self.pipeline:
                self._ahead = data[at:]
        self._parsing = False

    def _parse(self, data: bytes | memoryview) -> bool:
        """Whether the connection stays HTTP."""
        self._chunk_size = size = len(data)
        self._head_size += size
        self._quiet_size += size
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self._refuse()
            return False
        except httptools.HttpParserUpgrade:
            if self._should_upgrade():
                self.watched.discard(self)
                self.handle_websocket_upgrade()
                return False
        if self._quiet_size > self.head_max and self._refusal is None:
            self._refuse(
                HeadersTooLarge(
                    f"More than {self.head_max:,} bytes came that are not yet a request: its address, headers,"
                    " chunk extensions or trailers are too long (http.header_max_bytes)."
                )
            )
        return True

    def _refuse(self, problem: Problem | None = None) -> None:
        """Answer 400, in its turn: sent now, a client would take it for the answer to what it asked before."""
        if self._refusal is None:
            self._refusal = problem or BadRequest(
                "The request is not valid HTTP/1.1; check its first line, headers and Host."
            )
        cycle = self.cycle
        if (
            cycle is not None and cycle.more_body and not cycle.response_complete
        ):  # it is its body that is broken
            if not self.pipeline:
                cycle.disconnected = True
                cycle.message_event.set()
                self._say_instead(cycle, self._refusal)
                return
            self.pipeline.popleft()
        if self.answering is None or self.answering.response_complete:
            self._say(self._refusal)

    def _say_instead(self, cycle: RequestResponseCycle, problem: Problem) -> None:
        """Instead of an answer, unless that has begun: then the connection is cut, so that it is not taken for whole."""
        if cycle.response_started:
            self.transport.close()
        else:
            self._say(problem)

    def _say(self, problem: Problem) -> None:
        """What a connection ends with: a problem document, like every other error."""
        if self.transport.is_closing() or self._leaving:
            return
        answer = self.served.assembly.http.dispatcher.problem(problem, "", [])
        self.transport.write(rendered(answer, "GET", [*self.server_state.default_headers], keep_alive=False))
        self.leave()

    def leave(self) -> None:
        """Close so that the client can read the last answer. A socket that is closed with bytes in it that nobody has
        read takes back what was sent, so they are read, for a while."""
        if self.transport.is_closing() or self._leaving:
            return
        if not self.transport.can_write_eof():
            self.transport.close()
            return
        self._leaving, self.since, self._ahead = True, None, b""
        self.transport.write_eof()
        self.flow.resume_reading()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self.answering = cycle
        if type(cycle) is Exchange:
            cycle.start()
        else:
            super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        self.since = None
        if self.transport.is_closing():
            return
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._refusal is not None:
            self._say(self._refusal)
        if not self.pipeline:
            if self._ahead and not self._parsing:
                self._parse_on(self._ahead)
            if self.flow.read_paused and not self._ahead and not self.pipeline:
                self.flow.resume_reading()

    # ── what the watch asks and does ──

    @property
    def state(self) -> State:
        """What it is doing, for :class:`tenfold.runtime.connections.Connections`."""
        if self.flow.write_paused or self.transport.is_closing():
            return State.SENDING
        if self._leaving:
            return State.LEAVING
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            waits = cycle.more_body and not cycle.response_started and not self.flow.read_paused
            return State.BODY if waits and type(cycle) is not Exchange else State.BUSY
        if self._in_head:
            return State.HEAD
        return State.REST if cycle is not None and cycle.more_body else State.IDLE

    @property
    def moved(self) -> int:
        """Bytes of a body that came, or those that the client has not taken."""
        closing = self.flow.write_paused or self.transport.is_closing()
        return self.transport.get_write_buffer_size() if closing else self._body_bytes

    def refuse_late(self, state: State) -> None:
        """Answer 408."""
        limits = self.watched.limits
        if state is State.HEAD:
            self._refuse(
                RequestTimeout(
                    f"The request line and headers did not arrive within {limits.header_timeout_s:g} s"
                    " (http.header_timeout_s)."
                )
            )
        else:
            self._refuse(
                RequestTimeout(
                    f"The body came more slowly than {limits.bytes_per_s_min:,} bytes a second after"
                    f" {limits.body_timeout_s:g} s (http.bytes_per_s_min, http.body_timeout_s)."
                )
            )

    def close(self) -> None:
        """Close; what was written is still sent."""
        self.transport.close()

    def cut(self) -> None:
        """Close at once, whatever was not taken."""
        self.transport.abort()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.watched.stalls(self, self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        super().resume_writing()
        self.since = None
        self.watched.flows(self)

    # Uvicorn has a timer for every pause between two requests; the watch sees those.

    def _unset_keepalive_if_required(self) -> None:
        """There is none."""
