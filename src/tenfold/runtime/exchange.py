"""One request to an operation and its answer, on a connection of :mod:`tenfold.runtime.protocol`."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, cast

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from tenfold.http.encoding import PLAIN_TYPE
from tenfold.http.reply import WrittenHeader
from tenfold.http.streaming import run_stream
from tenfold.runtime.rendering import closes, lines, rendered

if TYPE_CHECKING:
    from tenfold.http.compiler import Endpoint
    from tenfold.http.mounts import Send
    from tenfold.http.reply import Answer
    from tenfold.http.request import Request
    from tenfold.runtime.protocol import Protocol

log = logging.getLogger("tenfold.http")


class Exchange(RequestResponseCycle):
    """One request and its answer. What few requests change stands on the class, not in each of them."""

    access_log = False
    disconnected = False
    waiting_for_100_continue = False
    more_body = True
    body: Any = b""
    response_started = False
    response_complete = False
    chunked_encoding = None
    expected_content_length = 0
    event: asyncio.Event | None = None
    """Somebody waits for news of the client."""
    request: Request
    _told_end = False
    _task: asyncio.Task[None]

    def __init__(self, protocol: Protocol, endpoint: Endpoint, method: str) -> None:
        self._protocol = protocol
        self._endpoint = endpoint
        self._method = method

    # What uvicorn's half asks for, when a stream is sent.

    @property
    def transport(self) -> Any:  # type: ignore[override]
        return self._protocol.transport

    @property
    def flow(self) -> Any:  # type: ignore[override]
        return self._protocol.flow

    @property
    def default_headers(self) -> Any:  # type: ignore[override]
        return self._protocol.server_state.default_headers

    @property
    def logger(self) -> Any:  # type: ignore[override]
        return log

    @property
    def scope(self) -> Any:  # type: ignore[override]
        return {"method": self._method}

    @property
    def message_event(self) -> asyncio.Event:  # type: ignore[override]
        if self.event is None:
            self.event = asyncio.Event()
        return self.event

    def on_response(self) -> None:
        self._protocol.on_response_complete()

    async def send(self, message: Any) -> None:
        """ASGI's next message, of a stream. Raises ConnectionResetError when nobody is there."""
        if self.disconnected or self.transport.is_closing():
            raise ConnectionResetError("the client has gone")
        await super().send(message)

    # ── its course ──

    def start(self) -> None:
        """Answer in a task of its own."""
        protocol = self._protocol
        protocol.outbox.begin()
        task = self._task = protocol.loop.create_task(self._run())
        protocol.tasks.add(task)

    async def _run(self) -> None:
        outbox = self._protocol.outbox
        outbox.beginning -= 1
        try:
            answer = await self._endpoint.call(self.request)
            if answer[3] is not None:
                await run_stream(answer[3], self.request, cast("Send", self.send))
                if not self.response_complete and not self.disconnected:
                    self.transport.close()
            else:
                if self._protocol.flow.write_paused:
                    await self._protocol.flow.drain()
                outbox.put(self, answer)
        except BaseException as error:
            await self._failed(error)
        finally:
            self._protocol.tasks.discard(self._task)
            standing = self.request.standing
            if standing is not None:  # its endpoint has failed before it could take its place in line over
                standing.gate.give_up(standing.place)
            # The request knows us (its ``receive``), and the task does: circles, which only the collector would free.
            del self.request, self._task

    def finish_or_fail(self, answer: Answer) -> None:
        """As :meth:`finish`, when nobody is left who could be told that it failed."""
        try:
            self.finish(answer)
        except Exception as error:
            protocol = self._protocol
            task = protocol.loop.create_task(self._failed(error))
            protocol.tasks.add(task)
            task.add_done_callback(protocol.tasks.discard)

    def finish(self, answer: Answer) -> None:
        """Send a whole answer in one piece."""
        protocol = self._protocol
        entry = protocol.entry
        status, headers, body, _ = answer
        if self.disconnected:
            return
        dated = protocol.server_state.default_headers
        if (
            entry is not None
            and headers
            and headers[0] is PLAIN_TYPE
            and (len(headers) == entry.plain_count or headers[-1] is entry.plain_last)
            and self.keep_alive
            and self._method != "HEAD"
        ):
            known = dated is entry.dated and status in entry.heads
            head = entry.heads[status] if known else entry.head(status, dated)
            more = len(headers) - entry.plain_count
            if not more:
                added = b""
            elif more == 2 and type(headers[3]) is WrittenHeader:  # those of a limit
                added = headers[3].lines
            else:
                added = lines(headers[2 : 2 + more])
            protocol.transport.write(b"%b%d\r\n%b\r\n%b" % (head, len(body), added, body))
        else:
            if closes(headers):
                self.keep_alive = False
            protocol.transport.write(rendered(answer, self._method, dated, keep_alive=self.keep_alive))
        self.response_started = self.response_complete = True
        if self.event is not None:
            self.event.set()
        if not self.keep_alive:
            if self.more_body:
                protocol.leave()
            else:
                protocol.transport.close()
        protocol.on_response_complete()

    def refuse(self, whole: bytes) -> None:
        """Send a prepared answer on a connection that stays open; nothing was begun."""
        protocol = self._protocol
        protocol.transport.write(whole)
        self.response_started = self.response_complete = True
        protocol.on_response_complete()

    async def _failed(self, error: BaseException) -> None:
        """Operations turn their errors into answers; what comes here is an answer that could not be sent."""
        if not self.disconnected:
            log.error("an answer of %s failed", self._endpoint.operation.name, exc_info=error)
            if self.response_started:
                self.transport.close()
            else:
                await self.send_500_response()
        if not isinstance(error, Exception):
            raise error

    # ── its body ──

    def add(self, body: bytes) -> None:
        """A piece of the body arrived."""
        if not self.body:
            self.body = body
        else:
            if type(self.body) is bytes:
                self.body = bytearray(self.body)
            self.body += body
        if len(self.body) > HIGH_WATER_LIMIT:
            self._protocol.flow.pause_reading()
        if self.event is not None:
            self.event.set()

    async def receive(self) -> Any:
        """ASGI's next message: a piece of the body, its end, or the client's disconnection."""
        while not (self.body or self.disconnected or self.response_complete):
            if not self.more_body and not self._told_end:
                break
            self._protocol.flow.resume_reading()
            event = self.message_event
            await event.wait()
            event.clear()
        if self.disconnected or self.response_complete:
            return {"type": "http.disconnect"}
        body, self.body = bytes(self.body), b""
        self._told_end = not self.more_body
        return {"type": "http.request", "body": body, "more_body": self.more_body}
