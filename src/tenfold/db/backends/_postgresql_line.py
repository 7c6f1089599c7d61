"""Between asyncpg and the socket: more statements in what it sends, for the round trips that they save.

asyncpg sends one statement and a Sync, and waits. The server answers whatever stands in front of the Sync with one
flush, so a BEGIN in front of a statement, or a COMMIT behind it, costs no round trip of its own, nor does the server
wake up for it. What asyncpg receives is what it would receive for one statement, with more CommandComplete messages:
the last one is what it reports. After an error the server skips to the Sync, so a COMMIT follows only what went well.

What is sent behind the Sync is a query by itself, whose answer nobody waits for, nor asyncpg gets to see: whatever
becomes of it, the statement in front is answered first, and as if it were alone.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from asyncpg.exceptions import InternalClientError  # type: ignore[import-untyped]

_SYNC = b"S\x00\x00\x00\x04"
_NULL = struct.pack("!i", -1)
_LENGTH = struct.Struct("!i")
_READY = ord("Z")


class Line:
    """A transport whose next write may be given a head, a tail and a query behind. All else is the transport's own."""

    __slots__ = ("_aside", "_behind", "_head", "_tail", "_transport", "loaded", "write")

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self.loaded = False
        """Something is to stand around what is written next."""
        self._head = self._tail = self._behind = b""
        self._aside: _Aside | None = None
        """What takes the answer of the last query that was sent behind a statement."""
        self.write: Callable[[Any], None] = transport.write
        """For asyncpg. The transport's own but for a head or a tail: a method around it would be called for every
        statement."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def put_around(self, head: bytes, tail: bytes = b"", behind: bytes = b"") -> None:
        """``head`` goes in front of what is written next, ``tail`` in front of the Sync that it ends with. ``behind``, a
        query of which nobody learns what becomes of it, follows that Sync, where :attr:`takes_behind`."""
        self._head, self._tail, self._behind, self.write = head, tail, behind, self._write_around
        self.loaded = True

    @property
    def takes_behind(self) -> bool:
        """Whether there is room for a query behind: one at a time is under way."""
        return self._aside is None or self._aside.done

    def _write_around(self, data: Any) -> None:
        head, tail, behind = self._head, self._tail, self._behind
        self.forget()
        body = bytes(data)
        if tail:
            if not body.endswith(_SYNC):
                raise InternalClientError("asyncpg sends a statement without a Sync; Tenfold expects one.")
            body = body[: -len(_SYNC)] + tail + _SYNC
        if behind:
            self._aside = _Aside(self._transport)
        self.write(head + body + behind)

    def forget(self) -> None:
        """What was to stand around a statement is written, or is not going to be."""
        self._head = self._tail = self._behind = b""
        self.write = self._transport.write
        self.loaded = False


class _Aside(asyncio.Protocol):
    """In front of asyncpg's protocol until the answer of a query has come that it has not sent: the second one from now.
    What it has asked for itself it gets message by message, and what follows as it comes."""

    def __init__(self, transport: Any) -> None:
        self.done = False
        self._transport = transport
        self._protocol = transport.get_protocol()
        self._first = True
        """The answer that asyncpg waits for has not ended."""
        self._rest = b""
        transport.set_protocol(self)

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        end = 0
        while not self.done and len(data) >= end + 5:
            begin, after = end, end + 1 + _LENGTH.unpack_from(data, end + 1)[0]
            if after > len(data):
                break
            end = after
            if self._first:
                self._first = data[begin] != _READY
                self._protocol.data_received(data[begin:end])
            else:
                self.done = data[begin] == _READY
        self._rest = data[end:]
        if self.done:
            self._transport.set_protocol(self._protocol)
            if self._rest:
                self._protocol.data_received(self._rest)

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.connection_lost(exc)

    def eof_received(self) -> bool | None:
        closes: bool | None = self._protocol.eof_received()
        return closes

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()


class Limit:
    """One timer for all statements of a connection, which run one after another: a timer each costs a twentieth of what
    a small statement does. It is not called off with its statement, and moves on to the next one's end when it rings."""

    __slots__ = ("_at", "_call", "_loop", "_timer", "_until")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._call: tuple[Callable[..., object], tuple[Any, ...]] | None = None
        self._until = self._at = 0.0
        """When the statement has to have ended, and for when the timer is set, on the loop's clock."""
        self._timer: asyncio.TimerHandle | None = None

    def call_later(
        self, delay_s: float, callback: Callable[..., object], *args: Any
    ) -> Limit | asyncio.TimerHandle:
        """As the loop's. Who asks for a second call while one is to come gets a timer."""
        if self._call is not None:
            return self._loop.call_later(delay_s, callback, *args)
        self._call = callback, args
        self._until = until = self._loop.time() + delay_s
        if self._timer is None or until < self._at:
            self._set()
        return self

    def cancel(self) -> None:
        """The statement has ended."""
        self._call = None

    def _set(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._at = self._until
        self._timer = self._loop.call_at(self._at, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._call is None:
            return
        if self._until > self._at:
            self._set()
            return
        (callback, args), self._call = self._call, None
        callback(*args)


class LineLoop:
    """The running event loop as asyncpg is to see it: its connections are lines."""

    def __init__(self) -> None:
        self._loop = loop = asyncio.get_running_loop()
        # Those that asyncpg calls for every statement are found without __getattr__.
        self.create_future, self.call_later = loop.create_future, Limit(loop).call_later

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    async def create_connection(self, factory: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """As the loop's; the protocol gets a line in place of its transport."""
        made = await self._loop.create_connection(lambda: _Introduced(factory()), *args, **kwargs)
        return _introduced(made)

    async def create_unix_connection(self, factory: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """As the loop's; the protocol gets a line in place of its transport."""
        made = await self._loop.create_unix_connection(lambda: _Introduced(factory()), *args, **kwargs)
        return _introduced(made)

    async def start_tls(self, transport: Any, *args: Any, **kwargs: Any) -> Line:
        """As the loop's; the answer is a line."""
        bare = transport._transport if isinstance(transport, Line) else transport
        return Line(await self._loop.start_tls(bare, *args, **kwargs))


class _Introduced(asyncio.Protocol):
    """Introduces a protocol to a line, and leaves the two to each other."""

    def __init__(self, protocol: Any) -> None:
        self.protocol = protocol
        self.line: Line | None = None

    def connection_made(self, transport: Any) -> None:
        self.line = Line(transport)
        transport.set_protocol(self.protocol)
        self.protocol.connection_made(self.line)


def _introduced(made: tuple[Any, Any]) -> tuple[Any, Any]:
    introduced = made[1]
    return introduced.line, introduced.protocol


@lru_cache(64)
def statements(texts: tuple[str, ...]) -> bytes:
    """Parse, Bind and Execute of statements without parameters (PostgreSQL's protocol 3.0, § 55.7)."""
    return b"".join(
        _message(b"P", b"\0" + sql.encode() + b"\0\0\0")
        + _message(b"B", b"\0\0" + bytes(6))
        + _message(b"E", b"\0" + bytes(4))
        for sql in texts
    )


def bound(name: str, args: Sequence[Any]) -> bytes:
    """Bind and Execute of a prepared statement that answers no rows. Its parameters travel as text, which the server
    reads for any type."""
    parts = [b"\0", name.encode(), b"\0\0\0", struct.pack("!h", len(args))]
    for arg in args:
        if arg is None:
            parts.append(_NULL)
        else:
            text = _text(arg).encode()
            parts += (struct.pack("!i", len(text)), text)
    parts.append(b"\0\0")
    return _message(b"B", b"".join(parts)) + _message(b"E", b"\0" + bytes(4))


def query(sql: str) -> bytes:
    """A statement by itself, with its own transaction."""
    return _message(b"Q", sql.encode() + b"\0")


def _text(value: Any) -> str:
    """An argument as the server's input functions read it: texts, numbers, booleans, and lists of them."""
    if isinstance(value, list):
        return "{" + ",".join("NULL" if one is None else _element(_text(one)) for one in value) + "}"
    if isinstance(value, str):
        return value
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _element(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body
