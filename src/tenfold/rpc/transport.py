"""HTTP/1.1 to services of ours: the request is one write, the answer is read whole.

Measured, a general client had taken most of a call between services: see docs/decisions/0043-calls-between-processes.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

import httptools

from tenfold.client.contract import Headers, Incoming, Outgoing, Unanswered
from tenfold.client.pooled import PooledConnection, PooledTransport, head_of

if TYPE_CHECKING:
    import ssl

    from tenfold.guard.addresses import Place


class PeerTransport(PooledTransport["_Connection"]):
    """Of an answer whose body is larger than ``body_max_bytes`` no more is read."""

    def __init__(self, *, idle_max: int, body_max_bytes: int, context: ssl.SSLContext | None = None) -> None:
        super().__init__(idle_max=idle_max, context=context)
        self._body_max_bytes = body_max_bytes

    def _made(self, place: Place) -> _Connection:
        return _Connection(self, place, self._body_max_bytes)

    async def send(self, request: Outgoing) -> Incoming:
        """The whole answer. The content has to be whole, too."""
        head = head_of(request)
        connection = await self.connection(request)
        self.silent.add(connection, request.read_timeout_s)
        try:
            return await connection.exchange(head, request.content)
        except BaseException:
            connection.abort()  # what comes of an answer that nobody waits for is not for the next one
            raise
        finally:
            self.silent.remove(connection)


class _Answer(Incoming):
    def __init__(self, status: int, headers: Headers, body: bytes) -> None:
        self.status, self.headers, self._body = status, headers, body

    async def pieces(self) -> AsyncGenerator[bytes]:
        if self._body:
            yield self._body

    async def close(self) -> None:
        return


class _Connection(PooledConnection):
    """Keeps the pieces of one answer until it is whole."""

    def __init__(self, pool: PeerTransport, place: Place, body_max_bytes: int) -> None:
        super().__init__(pool, place)
        self._body_max_bytes = body_max_bytes
        self._answer: asyncio.Future[_Answer] | None = None
        self._headers: list[tuple[str, str]] = []
        self._body: list[bytes] = []
        self._size = 0

    async def exchange(self, head: bytes, content: object) -> _Answer:
        assert isinstance(content, bytes)
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(head + content)
        return await self._answer

    # ── of the protocol ──

    def data_received(self, data: bytes) -> None:
        if self._answer is None:  # nobody has asked
            self.abort()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(self._broken(error))

    def connection_lost(self, exc: Exception | None) -> None:
        self._pool.gone(self)
        self._fail(self._broken(exc or "it ended without an answer"))
        self._transport = None

    # ── of the parser ──

    def on_message_begin(self) -> None:
        if self._answer is None:  # a second answer to one question: it must not become that to the next
            self.abort()
        self._headers, self._body, self._size = [], [], 0

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_body(self, body: bytes) -> None:
        self._body.append(body)
        self._size += len(body)
        if self._size > self._body_max_bytes:
            self._end(reusable=False)  # who reads it refuses it for its size

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() >= 200:  # others are about an answer that is still to come
            self._end(reusable=self._parser.should_keep_alive())

    def _end(self, *, reusable: bool) -> None:
        answer, self._answer = self._answer, None
        if answer is None or answer.done():
            return
        answer.set_result(_Answer(self._parser.get_status_code(), self._headers, b"".join(self._body)))
        if reusable and self.usable:
            self._pool.free(self)
        else:
            self.abort()

    def _fail(self, error: Unanswered) -> None:
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_exception(error)
        self.abort()
