"""What a client may do to a connection, bounded: bytes that come to nothing, requests sent ahead, time.

No connection has a timer; :mod:`tenfold.runtime.connections` looks at all of them. What is refused is told in a problem
document, after the answers that are owed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from tenfold.errors import BadRequest, HeadersTooLarge, Problem, RequestTimeout, Unavailable
from tenfold.runtime.connections import Connections, State
from tenfold.runtime.exchange import Exchange
from tenfold.runtime.rendering import rendered

if TYPE_CHECKING:
    from tenfold.app import App

LINGER_MAX_BYTES = 33_554_432
"""So much of what nobody wants is read before the connection is cut."""
SLICE_BYTES = 4096
"""So much is parsed at a time. What was sent ahead is held as bytes until its turn comes near, and not as requests, which
are a hundred times as large."""


class BoundedProtocol(HttpToolsProtocol):
    """A connection of uvicorn's that ends when its client is too slow, sends too much, or something that is not HTTP."""

    served: ClassVar[App]
    watched: ClassVar[Connections]
    head_max: ClassVar[int]
    """Bytes that may come to nothing: an unfinished head, empty lines, chunk extensions, trailers."""
    app: Any
    parser: Any
    cycle: RequestResponseCycle
    answering: RequestResponseCycle | None = None
    """The request that is being answered; :attr:`cycle` is the one read last, which may have to wait for its turn."""
    since: float | None = None
    seen = State.HEAD
    mark = 0
    _refusal: Problem | None = None
    """What came is refused: nothing is read any more, and this follows the answers that are owed."""
    _leaving = False
    """The last answer was given; what still comes is thrown away, so that the client gets to read it."""
    _thrown_bytes = 0
    _new = True
    """It has not sent a whole head yet."""
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

    # ── the connection's life ──

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if not self.watched.add(self, self.connections):
            self._say(
                Unavailable(
                    f"All {self.watched.limits.connections_max:,} connections of this server are in use"
                    " (http.connections_max); try again.",
                    headers={"Retry-After": "1"},
                    limit="http.connections_max",
                    value=self.watched.limits.connections_max,
                )
            )
            transport.close()

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
            self.throw_away(len(data))
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
                    " chunk extensions or trailers are too long (http.header_max_bytes).",
                    limit="http.header_max_bytes",
                    value=self.head_max,
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

    def prove(self) -> None:
        """It has sent a whole head: one of many that say nothing it is not."""
        self._new = False
        self.watched.fresh.pop(self, None)

    def throw_away(self, size: int) -> None:
        """So many bytes came that nobody will read; beyond a measure nobody pretends to."""
        self._thrown_bytes += size
        if self._thrown_bytes > LINGER_MAX_BYTES:
            self.cut()

    def shutdown(self) -> None:
        if self._leaving:
            self.transport.close()
        else:
            super().shutdown()

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
                    " (http.header_timeout_s).",
                    limit="http.header_timeout_s",
                    value=limits.header_timeout_s,
                )
            )
        else:
            self._refuse(
                RequestTimeout(
                    f"The body came more slowly than {limits.bytes_per_s_min:,} bytes a second after"
                    f" {limits.body_timeout_s:g} s (http.bytes_per_s_min, http.body_timeout_s).",
                    limit="http.body_timeout_s",
                    value=limits.body_timeout_s,
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
