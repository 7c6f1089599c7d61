"""HTTP/1.1 to services of ours: one request at a time over kept connections, parsed by httptools.

A general client (:mod:`tenfold.client.transport`) spends most of a call between services on what such calls have no use
for: bodies in pieces, proxies, HTTP/2, judged addresses. Here the request is one write, the answer is read whole, and a
connection is a protocol of asyncio. The addresses are those that settings, DNS or the balancer say, so any may be connected
to.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Final, cast

import httptools

from tenfold.client.contract import (
    BrokenOff,
    Headers,
    Incoming,
    Outgoing,
    Slow,
    Transport,
    Unanswered,
    Unreachable,
    Unreached,
)
from tenfold.queue.limits import TimeLimits

if TYPE_CHECKING:
    import ssl

    from tenfold.guard.addresses import Place

IDLE_S: Final = 15.0
"""A connection that was not used for so long is closed: less than servers and balancers keep theirs."""

Key = tuple[str, str, int]


class PeerTransport(Transport):
    """At most ``idle_max`` connections to a place are kept; how many are in use is up to who calls. Of an answer whose body
    is larger than ``body_max_bytes`` no more is read. ``context`` is for places that speak TLS."""

    def __init__(self, *, idle_max: int, body_max_bytes: int, context: ssl.SSLContext | None = None) -> None:
        self._idle_max, self._body_max_bytes, self._context = idle_max, body_max_bytes, context
        self._idle: dict[Key, list[_Connection]] = {}
        self._open: set[_Connection] = set()
        self._silent: TimeLimits[_Connection] = TimeLimits(_Connection.silent)
        self._stopped = False

    async def send(self, request: Outgoing) -> Incoming:
        """The whole answer. The content has to be whole, too."""
        place = request.place
        connection = self._kept(place) or await self._connected(place, request.connect_timeout_s)
        self._silent.add(connection, request.read_timeout_s)
        try:
            return await connection.exchange(_head(request), request.content)
        except BaseException:
            connection.close()  # what comes of an answer that nobody waits for is not for the next one
            raise
        finally:
            self._silent.remove(connection)

    async def stop(self) -> None:
        self._stopped = True
        for connection in list(self._open):
            connection.close()

    # ── connections ──

    def _kept(self, place: Place) -> _Connection | None:
        idle = self._idle.get((place.scheme, place.host, place.port))
        now = asyncio.get_running_loop().time()
        while idle:
            connection = idle.pop()  # the one that was used last is the least likely to be closed over there
            if connection.usable and now - connection.idle_since < IDLE_S:
                return connection
            connection.close()
        return None

    async def _connected(self, place: Place, timeout_s: float) -> _Connection:
        loop, where = asyncio.get_running_loop(), place.authority
        tls = self._tls() if place.scheme == "https" else None
        try:
            async with asyncio.timeout(timeout_s):
                _, connection = await loop.create_connection(
                    lambda: _Connection(self, place), place.host.strip("[]"), place.port, ssl=tls
                )
        except TimeoutError:
            raise Unreachable(f"{where} did not take the connection in time.") from None
        except socket.gaierror as error:
            raise Unreached(f"The name {place.host} is not known ({error.strerror}).") from error
        except OSError as error:  # those of TLS are some
            raise Unreached(f"{where} could not be connected to: {error}") from error
        return connection

    def _tls(self) -> ssl.SSLContext:
        if self._context is None:
            import ssl

            self._context = ssl.create_default_context()
        return self._context

    # ── for connections ──

    @property
    def body_max_bytes(self) -> int:
        return self._body_max_bytes

    def made(self, connection: _Connection) -> None:
        self._open.add(connection)

    def free(self, connection: _Connection) -> None:
        """It has answered, and may be used again."""
        idle = self._idle.setdefault(connection.key, [])
        if self._stopped or len(idle) >= self._idle_max:
            connection.close()
        else:
            idle.append(connection)

    def gone(self, connection: _Connection) -> None:
        self._open.discard(connection)
        idle = self._idle.get(connection.key, [])
        if connection in idle:
            idle.remove(connection)


def _head(request: Outgoing) -> bytes:
    place, content = request.place, request.content
    assert isinstance(content, bytes)
    lines = [
        f"{request.method} {place.target} HTTP/1.1",
        f"host: {place.authority}",
        f"content-length: {len(content)}",
    ]
    lines += [f"{name}: {value}" for name, value in request.headers]
    if any("\r" in line or "\n" in line for line in lines):
        raise Unanswered("a header of the call has a line break in it, so nothing was sent.")
    return "\r\n".join((*lines, "", "")).encode("latin-1")


class _Answer(Incoming):
    def __init__(self, status: int, headers: Headers, body: bytes) -> None:
        self.status, self.headers, self._body = status, headers, body

    async def pieces(self) -> AsyncGenerator[bytes]:
        if self._body:
            yield self._body

    async def close(self) -> None:
        return


class _Connection(asyncio.Protocol):
    """One exchange after the other."""

    def __init__(self, owner: PeerTransport, place: Place) -> None:
        self._owner, self._where = owner, place.authority
        self.key: Key = (place.scheme, place.host, place.port)
        self.idle_since = 0.0
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._answer: asyncio.Future[_Answer] | None = None
        self._headers: list[tuple[str, str]] = []
        self._body: list[bytes] = []
        self._size = 0

    @property
    def usable(self) -> bool:
        """Whether it may be written to."""
        return self._transport is not None and not self._transport.is_closing()

    async def exchange(self, head: bytes, content: object) -> _Answer:
        assert isinstance(content, bytes)
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(head + content)
        return await self._answer

    def close(self) -> None:
        """At once. Again is harmless."""
        if self._transport is not None:
            self._transport.abort()

    def silent(self) -> None:
        """Nothing has come for as long as is waited."""
        self._fail(Slow(f"{self._where} sent nothing for as long as is waited."))

    # ── of the protocol ──

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # that of uvloop says that it is none
        self._owner.made(self)

    def data_received(self, data: bytes) -> None:
        if self._answer is None:  # nobody has asked
            self.close()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(self._broken(error))

    def connection_lost(self, exc: Exception | None) -> None:
        self._owner.gone(self)
        self._fail(self._broken(exc or "it ended without an answer"))
        self._transport = None

    # ── of the parser ──

    def on_message_begin(self) -> None:
        if self._answer is None:  # a second answer to one question: it must not become that to the next
            self.close()
        self._headers, self._body, self._size = [], [], 0

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_body(self, body: bytes) -> None:
        self._body.append(body)
        self._size += len(body)
        if self._size > self._owner.body_max_bytes:
            self._end(reusable=False)  # who reads it refuses it for its size

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() >= 200:  # others are about an answer that is still to come
            self._end(reusable=self._parser.should_keep_alive())

    def _end(self, *, reusable: bool) -> None:
        answer, self._answer = self._answer, None
        if answer is None or answer.done():
            return
        answer.set_result(_Answer(self._parser.get_status_code(), self._headers, b"".join(self._body)))
        self.idle_since = asyncio.get_running_loop().time()
        if reusable and self.usable:
            self._owner.free(self)
        else:
            self.close()

    def _broken(self, why: object) -> BrokenOff:
        return BrokenOff(f"{self._where} broke the connection off: {why}")

    def _fail(self, error: Unanswered) -> None:
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_exception(error)
        self.close()
