"""What carries one request out and its answer back: the way without the policies.

Order: none between requests. Loss and duplication: a request is written once, never twice; whether it arrived is not
known after :class:`BrokenOff` or :class:`Slow`, and it did not after :class:`Unreached`. Errors: those below, with a
sentence each, and nothing else.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterable, Sequence

from msgspec import Struct

from tenfold.guard.addresses import Place

Headers = Sequence[tuple[str, str]]


class Outgoing(Struct, frozen=True, kw_only=True):
    """One request. ``Host`` and ``Content-Length`` are the transport's."""

    method: str
    place: Place
    headers: Headers = ()
    content: bytes | AsyncIterable[bytes] = b""
    """In pieces, it is read no faster than the other side takes it; what reading it raises is raised as it is."""
    length: int | None = None
    """Bytes of a content in pieces, where that is known."""
    connect_timeout_s: float
    """From the look-up of the name to the end of the TLS handshake, each of the two halves."""
    read_timeout_s: float
    """Between two pieces of the answer, and for writing."""


_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})


def framing(request: Outgoing) -> list[tuple[bytes, bytes]]:
    """The headers by which the other side finds the end of the body."""
    content, length = request.content, request.length
    if isinstance(content, bytes):
        length = len(content) if content or request.method in _WITH_BODY else None
    elif length is None:
        return [(b"transfer-encoding", b"chunked")]
    return [] if length is None else [(b"content-length", b"%d" % length)]


class Incoming(ABC):
    """The head of an answer; its body comes in pieces. Whoever has one closes it."""

    status: int
    headers: Headers

    @abstractmethod
    def pieces(self) -> AsyncGenerator[bytes]:
        """The body as it is on the wire, once. Raises :class:`Unanswered`."""

    def whole(self) -> bytes | None:
        """The body, where all of it has come already; then nothing is left for :meth:`pieces`. None: ask those."""
        return None

    @abstractmethod
    async def close(self) -> None:
        """Give the connection back, or close it when the body was not read to its end. Again is harmless."""


class Transport(ABC):
    """Sends requests to places that were checked, and connects to judged addresses only. One serves concurrent calls."""

    @abstractmethod
    async def send(self, request: Outgoing) -> Incoming:
        """Send, and wait for the head of the answer. Follows no redirect. Raises :class:`Unanswered`."""

    async def stop(self) -> None:
        """Close what is open."""
        return


class Unanswered(Exception):
    """There is no answer, or no end of one. The message is a sentence."""


class Unreached(Unanswered):
    """Nobody took the connection, or the name is not known: nothing was sent."""


class Forbidden(Unreached):
    """Every address that the name stands for is one where calls out may not go."""


class BrokenOff(Unanswered):
    """The connection ended, or what came was not HTTP."""


class Slow(Unanswered):
    """There was nothing for as long as is waited."""


class Unreachable(Unreached, Slow):
    """The connection was not taken in time."""
