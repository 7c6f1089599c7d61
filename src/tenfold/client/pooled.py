"""Kept connections to places that settings, DNS or the balancer say: what transports without a general client share.

A connection is a protocol of asyncio whose answers httptools parses. The general client (:mod:`tenfold.client.transport`)
spends most of a call on what calls between services have no use for: proxies, HTTP/2, judged addresses. Here any address may
be connected to, since nobody outside says it. What becomes of an answer is up to who inherits.
"""

from __future__ import annotations

import asyncio
import socket
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast

import httptools

from tenfold._core.time_limits import TimeLimits
from tenfold.client.contract import (
    BrokenOff,
    Outgoing,
    Slow,
    Transport,
    Unanswered,
    Unreachable,
    Unreached,
    framing,
)

if TYPE_CHECKING:
    import ssl

    from tenfold.guard.addresses import Place

IDLE_S: Final = 15.0
"""A connection that was not used for so long is closed: less than servers and balancers keep theirs."""

Key = tuple[str, str, int]
C = TypeVar("C", bound="PooledConnection")


class PooledTransport(Transport, Generic[C]):
    """At most ``idle_max`` connections to a place are kept; how many are in use is up to who sends. ``context`` is for places
    that speak TLS; without one, whom the system trusts."""

    def __init__(self, *, idle_max: int, context: ssl.SSLContext | None = None) -> None:
        self._idle_max, self._context = idle_max, context
        self._idle: dict[Key, list[C]] = {}
        self._open: set[C] = set()
        self.silent: TimeLimits[PooledConnection] = TimeLimits(PooledConnection.silent)
        """Who waits for the other side, and for how long."""
        self._stopped = False

    @abstractmethod
    def _made(self, place: Place) -> C:
        """A connection that is to be made to there."""

    async def stop(self) -> None:
        self._stopped = True
        for connection in list(self._open):
            connection.abort()

    async def connection(self, request: Outgoing) -> C:
        """One that is kept, or a new one. Raises :class:`Unreachable`, :class:`Unreached`."""
        return self._kept(request.place) or await self._connected(request.place, request.connect_timeout_s)

    def _kept(self, place: Place) -> C | None:
        idle = self._idle.get((place.scheme, place.host, place.port))
        now = asyncio.get_running_loop().time()
        while idle:
            connection = idle.pop()  # the one that was used last is the least likely to be closed over there
            if connection.usable and now - connection.idle_since < IDLE_S:
                return connection
            connection.abort()
        return None

    async def _connected(self, place: Place, timeout_s: float) -> C:
        loop, where = asyncio.get_running_loop(), place.authority
        tls = self._tls() if place.scheme == "https" else None
        try:
            async with asyncio.timeout(timeout_s):
                _, connection = await loop.create_connection(
                    lambda: self._made(place), place.host.strip("[]"), place.port, ssl=tls
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

    def opened(self, connection: C) -> None:
        self._open.add(connection)

    def free(self, connection: C) -> None:
        """Its answer has come to its end, and it may be used again."""
        connection.idle_since = asyncio.get_running_loop().time()
        idle = self._idle.setdefault(connection.key, [])
        if self._stopped or len(idle) >= self._idle_max:
            connection.abort()
        else:
            idle.append(connection)

    def gone(self, connection: C) -> None:
        self._open.discard(connection)
        idle = self._idle.get(connection.key, [])
        if connection in idle:
            idle.remove(connection)


class PooledConnection(asyncio.Protocol):
    """One exchange after the other. The callbacks of the parser are up to who inherits."""

    def __init__(self, pool: PooledTransport[Any], place: Place) -> None:
        self._pool, self._where = pool, place.authority
        self.key: Key = (place.scheme, place.host, place.port)
        self.idle_since = 0.0
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)

    @property
    def usable(self) -> bool:
        """Whether it may be written to."""
        return self._transport is not None and not self._transport.is_closing()

    def abort(self) -> None:
        """Close it at once. Again is harmless."""
        if self._transport is not None:
            self._transport.abort()

    def silent(self) -> None:
        """Nothing has come, or was taken, for as long as is waited."""
        self._fail(Slow(f"{self._where} sent nothing for as long as is waited."))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # that of uvloop says that it is none
        self._pool.opened(self)

    @abstractmethod
    def _fail(self, error: Unanswered) -> None:
        """Tell whoever waits, and close it."""

    def _broken(self, why: object) -> BrokenOff:
        return BrokenOff(f"{self._where} broke the connection off: {why}")


def head_of(request: Outgoing) -> bytes:
    """The head of a request on the wire. Raises :class:`Unanswered` for headers that would become others."""
    place = request.place
    lines = [f"{request.method} {place.target} HTTP/1.1", f"host: {place.authority}"]
    lines += [f"{name.decode()}: {value.decode()}" for name, value in framing(request)]
    lines += [f"{name}: {value}" for name, value in request.headers]
    text = "\r\n".join(lines)
    if text.count("\n") != len(lines) - 1 or text.count("\r") != len(lines) - 1:
        raise Unanswered("a header has a line break in it, so nothing was sent.")
    return f"{text}\r\n\r\n".encode("latin-1")
