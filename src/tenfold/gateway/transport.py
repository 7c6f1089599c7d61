"""HTTP/1.1 to services, in pieces both ways: neither side is read faster than the other takes it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable
from typing import TYPE_CHECKING, Any, Final

import httptools

from tenfold._core.tasks import end_tasks
from tenfold.client.contract import Headers, Incoming, Outgoing, Unanswered
from tenfold.client.pooled import PooledConnection, PooledTransport, head_of
from tenfold.http.encoding import BODILESS

if TYPE_CHECKING:
    from tenfold.guard.addresses import Place

HEAD_MAX_BYTES: Final = 131_072
"""Of an answer."""
AHEAD_MAX_BYTES: Final = 262_144
"""So much of a body that its client has not taken is held; then the service is not read."""


class PassingTransport(PooledTransport["_Connection"]):
    """Bodies are passed on while they come."""

    def _made(self, place: Place) -> _Connection:
        return _Connection(self, place)

    async def send(self, request: Outgoing) -> Incoming:
        head = head_of(request)
        connection = await self.connection(request)
        try:
            return await connection.exchange(request, head)
        except BaseException:
            connection.abort()  # what comes of an answer that nobody waits for is not for the next one
            raise


class _Answer(Incoming):
    """What is still to come of it, comes to its connection."""

    def __init__(self, connection: _Connection, status: int, headers: Headers) -> None:
        self.status, self.headers = status, headers
        self._connection: _Connection | None = connection

    async def pieces(self) -> AsyncGenerator[bytes]:
        while self._connection is not None and (piece := await self._connection.piece()):
            yield piece

    def whole(self) -> bytes | None:
        return None if self._connection is None else self._connection.whole()

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.leave()


class _Connection(PooledConnection):
    """Passes the pieces of one answer on."""

    def __init__(self, pool: PassingTransport, place: Place) -> None:
        super().__init__(pool, place)
        self._began: asyncio.Future[_Answer] | None = None
        """The head of the answer; None while nobody has asked."""
        self._more: asyncio.Future[None] | None = None
        """Whoever reads the body waits for this."""
        self._room: asyncio.Future[None] | None = None
        """Whoever sends a body waits for this; there while more was written than was taken."""
        self._reset(bodiless=False)

    def _reset(self, *, bodiless: bool) -> None:
        self._bodiless = bodiless
        """The answer has no body, whatever its head says."""
        self._headers: list[tuple[str, str]] = []
        self._pieces: deque[bytes] = deque()
        self._ahead = self._head_size = 0
        self._to_the_end = self._complete = self._reusable = self._paused = False
        self._spoiled = False
        """Not all of the request was sent, so nothing can follow it."""
        self._error: Unanswered | None = None
        self._silence_s = 0.0

    # ── an exchange ──

    async def exchange(self, request: Outgoing, head: bytes) -> _Answer:
        """Send, and wait for the head. Raises :class:`Unanswered`, and what reading the content raises."""
        assert self._transport is not None
        self._reset(bodiless=request.method == "HEAD")
        self._silence_s = request.read_timeout_s
        began: asyncio.Future[_Answer] = asyncio.get_running_loop().create_future()
        self._began = began
        try:
            if isinstance(request.content, bytes):
                self._transport.write(head + request.content)
            else:
                self._transport.write(head)
                await self._sent(request.content, began, chunked=request.length is None)
            self._pool.silent.add(self, self._silence_s)
            return await began
        finally:
            self._pool.silent.remove(self)
            began.cancel()  # where it is not awaited any more

    async def _sent(
        self, content: AsyncIterable[bytes], began: asyncio.Future[_Answer], *, chunked: bool
    ) -> None:
        """Send a content in pieces; no more of it once an answer has come, which then ends the connection."""
        sending = asyncio.create_task(self._send(content, chunked=chunked), name="gateway sends a body")
        try:
            either: list[asyncio.Future[Any]] = [sending, began]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not began.done():
                sending.result()
            elif not sending.done() or sending.exception() is not None:
                self._reusable, self._spoiled = False, True
        finally:
            await end_tasks(sending)

    async def _send(self, content: AsyncIterable[bytes], *, chunked: bool) -> None:
        async for piece in content:
            if piece:
                self._write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
                if self._room is not None:
                    await self._taken(self._room)
        if chunked:
            self._write(b"0\r\n\r\n")

    def _write(self, data: bytes) -> None:
        if self._transport is None or not self.usable:
            raise self._error or self._broken("it ended before it had the body")
        self._transport.write(data)

    async def _taken(self, room: asyncio.Future[None]) -> None:
        self._pool.silent.add(self, self._silence_s)
        try:
            await asyncio.shield(room)
        finally:
            self._pool.silent.remove(self)

    async def piece(self) -> bytes:
        """Of the body; empty at its end. Raises :class:`Unanswered`."""
        while not self._pieces:
            if self._complete:
                return b""
            if self._error is not None:
                raise self._error
            self._more = asyncio.get_running_loop().create_future()
            self._pool.silent.add(self, self._silence_s)
            try:
                await self._more
            finally:
                self._more = None
                self._pool.silent.remove(self)
        piece = self._pieces.popleft()
        self._ahead -= len(piece)
        if self._paused and self._ahead < AHEAD_MAX_BYTES // 2:
            self._resume()
        return piece

    def whole(self) -> bytes | None:
        """The rest of the body, where all of it is here."""
        if not self._complete:
            return None
        found = b"".join(self._pieces)
        self._pieces.clear()
        self._ahead = 0
        return found

    def leave(self) -> None:
        """Nobody reads on."""
        self._began = None
        if self._complete and self._reusable and self.usable:
            self._resume()
            self._pool.free(self)
        else:
            self.abort()

    def _resume(self) -> None:
        if self._paused and self._transport is not None and self.usable:
            self._transport.resume_reading()
        self._paused = False

    # ── of the protocol ──

    def data_received(self, data: bytes) -> None:
        if self._began is None or self._complete:  # nobody has asked for it
            self._reusable = False
            if self._began is None:
                self.abort()
            return
        if not self._began.done():
            self._head_size += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(self._broken(error))
            return
        if self._bodiless and self._complete:  # it would take the next head for the body that was told of
            self._parser = httptools.HttpResponseParser(self)
        if not self._began.done() and self._head_size > HEAD_MAX_BYTES:
            self._fail(self._broken(f"its head has more than {HEAD_MAX_BYTES:,} bytes"))

    def pause_writing(self) -> None:
        self._room = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        room, self._room = self._room, None
        if room is not None and not room.done():
            room.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._pool.gone(self)
        if self._to_the_end and exc is None and not self._complete and self._error is None:
            self._finish(reusable=False)
        else:
            self._fail(self._broken(exc or "it ended before its answer did"))
        self._transport = None

    # ── of the parser ──

    def on_message_begin(self) -> None:
        if self._complete:  # a second answer to one question: it must not become that to the next
            self._reusable, self._spoiled = False, True

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if self._began is None or self._began.done() or 100 <= status < 200:
            return  # others are about an answer that is still to come
        headers = self._headers
        framed = any(name in ("content-length", "transfer-encoding") for name, _ in headers)
        self._bodiless = self._bodiless or status in BODILESS
        self._to_the_end = not framed and not self._bodiless
        self._began.set_result(_Answer(self, status, headers))
        if self._bodiless:
            self._finish(reusable=self._parser.should_keep_alive())

    def on_body(self, body: bytes) -> None:
        if self._complete:  # of an answer that has none
            self._reusable = False
            return
        self._pieces.append(body)
        self._ahead += len(body)
        if self._ahead > AHEAD_MAX_BYTES and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def on_message_complete(self) -> None:
        if self._began is None or not self._began.done():
            self._headers = []  # of an answer like 103
        elif not self._complete:
            self._finish(reusable=self._parser.should_keep_alive())

    def _finish(self, *, reusable: bool) -> None:
        self._complete, self._reusable = True, reusable and not self._spoiled
        self._wake()

    def _wake(self) -> None:
        if self._more is not None and not self._more.done():
            self._more.set_result(None)

    def _fail(self, error: Unanswered) -> None:
        if not self._complete and self._error is None:
            self._error = error
        if self._began is not None and not self._began.done():
            self._began.set_exception(error)
        self._wake()
        self.resume_writing()
        self.abort()
