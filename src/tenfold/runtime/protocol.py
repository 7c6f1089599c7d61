"""HTTP/1.1 on uvicorn's connections, with a short way from the parser to the operations.

Uvicorn keeps what a server has to do for a connection: flow control, pipelining, upgrades, keep-alive, shutdown.
A request for one of our operations skips ASGI: no scope, no messages, one write for the whole answer. All else
(mounted applications, WebSockets, ``Expect``, paths with percent-encoding, errors) goes the ordinary way.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ClassVar

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from tenfold.errors import BadRequest
from tenfold.http.encoding import PLAIN_TYPE
from tenfold.http.limits import URI_MAX_BYTES
from tenfold.http.request import Request
from tenfold.runtime.exchange import Exchange
from tenfold.runtime.rendering import lines, rendered

if TYPE_CHECKING:
    from tenfold.app import App
    from tenfold.http.asgi import HttpApp
    from tenfold.http.dispatch import Routed

_METHODS = {name.encode(): name for name in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")}


def protocol_of(app: App) -> type[Protocol]:
    """The protocol of one app's connections, for ``uvicorn.Config(http=…)``."""
    return type("AppProtocol", (Protocol,), {"served": app})


class Entry:
    """What every connection needs of a started app, looked up once."""

    def __init__(self, http: HttpApp) -> None:
        self.static = http.static
        self.route = http.route
        self.header_max = http.settings.header_max_bytes
        self.trust = http.trust
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


class Protocol(HttpToolsProtocol):
    """One connection."""

    served: ClassVar[App]
    entry: ClassVar[Entry | None] = None
    app: Any
    parser: Any
    cycle: RequestResponseCycle
    idle_since: float | None = None
    """When the last answer was complete, on the loop's clock; None while a request is in progress."""
    peer: dict[str, Any]
    """What an ASGI scope tells of the connection."""
    answering: RequestResponseCycle | None = None
    """The request that is being answered; :attr:`cycle` is the one read last, which may have to wait for its turn."""
    _refused = False
    """What came is not HTTP: nothing is read any more, and 400 follows the answers that are owed."""
    _chunk_size = 0
    _head_size = 0
    """Bytes since the message's beginning, or more; as long as few came, nobody has to count its headers."""

    # ── the parser's callbacks ──

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self._head_size = self._chunk_size

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        headers, parser, url = self.headers, self.parser, self.url
        by_name = dict(headers)
        if b"host" not in by_name or len(by_name) != len(headers):
            self._check_host()
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
        exchange.request = Request(
            method, path, segments, query, headers, by_name, exchange.receive,
            self.peer if entry.trust is None else entry.trust({**self.peer, "headers": headers}),
            body_max_bytes=endpoint.body_max_bytes, names=endpoint.names,
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

    def _check_host(self) -> None:
        """RFC 9112 § 3.2: one Host, no less and no more. Raising in a callback answers 400 and closes."""
        hosts = sum([name == b"host" for name, _ in self.headers])
        if hosts > 1 or (hosts == 0 and self.parser.get_http_version() == "1.1"):
            raise ValueError("a request has exactly one Host header")

    def on_body(self, body: bytes) -> None:
        cycle = self.cycle
        if type(cycle) is not Exchange:
            super().on_body(body)
        elif not cycle.response_complete:
            cycle.add(body)

    def on_message_complete(self) -> None:
        cycle = self.cycle
        if type(cycle) is not Exchange:
            super().on_message_complete()
        elif not cycle.response_complete:
            cycle.more_body = False
            if cycle.event is not None:
                cycle.event.set()

    # ── the connection's life ──

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.peer = {
            "type": "http", "http_version": "1.1", "scheme": self.scheme, "server": self.server,
            "client": self.client, "root_path": "",
        }  # fmt: skip

    def connection_lost(self, exc: Exception | None) -> None:
        # Uvicorn tells the request that was read last; the one being answered goes on for nobody, maybe for ever.
        answering = self.answering
        if answering is not None and not answering.response_complete:
            answering.disconnected = True
            answering.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self.idle_since = None
        self._chunk_size = size = len(data)
        self._head_size += size
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self._refuse()
        except httptools.HttpParserUpgrade:
            if self._should_upgrade():
                self.handle_websocket_upgrade()

    def _refuse(self) -> None:
        """Answer 400, in its turn: sent now, a client would take it for the answer to what it asked before."""
        self._refused = True
        cycle = self.cycle
        if (
            cycle is not None and cycle.more_body and not cycle.response_complete
        ):  # it is its body that is broken
            if not self.pipeline:
                cycle.disconnected = True
                cycle.message_event.set()
                self._say_400(cycle)
                return
            self.pipeline.popleft()
        if self.answering is None or self.answering.response_complete:
            self.send_400_response("")

    def _say_400(self, cycle: RequestResponseCycle) -> None:
        """Instead of an answer, unless that has begun: then the connection is cut, so that it is not taken for whole."""
        if cycle.response_started:
            self.transport.close()
        else:
            self.send_400_response("")

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self.answering = cycle
        if type(cycle) is Exchange:
            cycle.start()
        else:
            super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self.flow.read_paused:
            self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            return
        if self._refused:
            self.send_400_response("")
            return
        self.idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._watch_idleness(self.timeout_keep_alive)

    # One timer for the whole connection, that looks whether it is still needed, instead of one per request.

    def _unset_keepalive_if_required(self) -> None:
        """Uvicorn would begin anew with every request."""

    def _watch_idleness(self, after_s: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(after_s, self.timeout_keep_alive_handler)

    def timeout_keep_alive_handler(self) -> None:
        """Close what was idle for long enough; look again when it was not."""
        self.timeout_keep_alive_task = None
        if self.transport.is_closing():
            return
        if self.idle_since is None:
            return  # the end of the request in progress sets the next timer
        left_s = self.idle_since + self.timeout_keep_alive - self.loop.time()
        if left_s <= 0:
            self.transport.close()
        else:
            self._watch_idleness(left_s)

    def send_400_response(self, msg: str) -> None:
        """What the parser does not understand is told as a problem document, like every other error."""
        problem = BadRequest("The request is not valid HTTP/1.1; check its first line, headers and Host.")
        answer = self.served.assembly.http.dispatcher.problem(problem, "", [])
        self.transport.write(rendered(answer, "GET", [*self.server_state.default_headers], keep_alive=False))
        self.transport.close()
