"""One connection to an AMQP 0-9-1 server, and channels on it: what the RabbitMQ backend stands on.

aio-pika and aiormq await each publication by itself and make a task per delivery. Here a batch leaves in one piece, and
confirmations and deliveries are plain calls.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import pamqp.commands as spec
import pamqp.frame
import pamqp.header
from pamqp.exceptions import UnmarshalingException
from pamqp.heartbeat import Heartbeat

from tenfold.events.backends import _amqp_frames as frames

if TYPE_CHECKING:
    from tenfold.events.backends._amqp_address import Address

GREETING = b"AMQP\0\0\x09\x01"
FRAME_MAX = 131_072
_HEAD = struct.Struct(">BHI").unpack_from
_REFUSALS = (403, 530)
"""ACCESS_REFUSED, NOT_ALLOWED: what no second attempt changes."""


class Lost(Exception):
    """The connection or channel has ended; the text says why."""


class Refused(Lost):
    """The server does not let us in."""


class Delivered(NamedTuple):
    """A message, as it came."""

    tag: int
    routing_key: str
    properties: Any
    body: bytes


class Channel:
    """One channel. What concerns it is called back; ``lost`` says why it ended."""

    def __init__(self, link: Link, number: int) -> None:
        self.link, self.number = link, number
        self.lost: Exception | None = None
        self.on_confirm: Callable[[int, bool, bool], None] = lambda tag, multiple, taken: None
        self.on_return: Callable[[Delivered, str], None] = lambda message, why: None
        self.on_delivery: Callable[[Delivered], None] = lambda message: None
        self.on_lost: Callable[[], None] = lambda: None
        self._replies: deque[asyncio.Future[Any]] = deque()
        self._method: Any = None
        self._header: Any = None
        self._body: list[bytes] = []

    def ask(self, frame: Any) -> asyncio.Future[Any]:
        """Send a method that is answered; the future has the answer, or raises :class:`Lost`. Several may be under
        way: they are answered in order."""
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self.lost is not None:
            reply.set_exception(self.lost)
            return reply
        self._replies.append(reply)
        self.send(frame)
        return reply

    def send(self, frame: Any) -> None:
        """Send a method that is not answered."""
        self.link.write(pamqp.frame.marshal(frame, self.number))

    async def close(self) -> None:
        """Let go of it on both sides."""
        if self.lost is None:
            reply = self.ask(spec.Channel.Close(reply_code=200, reply_text="", class_id=0, method_id=0))
            try:
                async with asyncio.timeout(1.0):
                    await reply
            except (TimeoutError, Lost):
                self.link.abort("the channel could not be closed")
        self.end(Lost("it was closed"))

    def end(self, why: Exception) -> None:
        """Everybody who waits is told."""
        if self.lost is not None:
            return
        self.lost = why
        self.link.channels.pop(self.number, None)
        for reply in self._replies:
            if not reply.done():
                reply.set_exception(why)
        self.on_lost()

    # ── what the link hands in ──

    def method(self, frame: Any) -> None:
        if isinstance(frame, spec.Basic.Deliver | spec.Basic.Return):
            self._method = frame
        elif isinstance(frame, spec.Basic.Cancel):
            self.end(Lost("the server has ended the subscription: its queue is gone, or has moved"))
        elif isinstance(frame, spec.Channel.Close):
            self.send(spec.Channel.CloseOk())
            self.end(Lost(f"{frame.reply_code} {frame.reply_text}"))
        elif self._replies:
            reply = self._replies.popleft()
            if not reply.done():
                reply.set_result(frame)

    def header(self, header: Any) -> None:
        self._header, self._body = header, []
        if not header.body_size:
            self._complete()

    def body(self, piece: bytes) -> None:
        self._body.append(piece)
        if sum(map(len, self._body)) >= self._header.body_size:
            self._complete()

    def _complete(self) -> None:
        method, properties, body = self._method, self._header.properties, b"".join(self._body)
        if isinstance(method, spec.Basic.Deliver):
            key = str(method.routing_key or "")
            self.on_delivery(Delivered(int(method.delivery_tag or 0), key, properties, body))
        else:
            message = Delivered(0, str(method.routing_key or ""), properties, body)
            self.on_return(message, f"{method.reply_code} {method.reply_text}")


class Link(asyncio.Protocol):
    """A connection, from :meth:`connect` until ``lost`` says why it ended."""

    def __init__(self) -> None:
        self.lost: Exception | None = None
        self.channels: dict[int, Channel] = {}
        self.frame_max = FRAME_MAX
        self.blocked = ""
        """Why the server takes nothing for now."""
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._answers: asyncio.Queue[Any] = asyncio.Queue()
        self._out: list[bytes] = []
        self._beat: asyncio.TimerHandle | None = None
        self._heard = 0.0
        self._numbers = 0

    @classmethod
    async def connect(cls, address: Address, *, heartbeat_s: int, timeout_s: float) -> Link:
        """Raises Lost, Refused, OSError or TimeoutError."""
        loop = asyncio.get_running_loop()
        link = cls()
        try:
            async with asyncio.timeout(timeout_s):
                await loop.create_connection(lambda: link, address.host, address.port, ssl=address.tls)
                await link._greet(address, heartbeat_s)
        except BaseException:
            link.abort("the connection could not be made")
            raise
        return link

    async def _greet(self, address: Address, heartbeat_s: int) -> None:
        self.write(GREETING)
        await self._expect(spec.Connection.Start)
        able = {"publisher_confirms": True, "consumer_cancel_notify": True, "connection.blocked": True}
        able["authentication_failure_close"] = True
        properties: dict[str, Any] = {"product": "tenfold", "capabilities": able}
        self._method(
            spec.Connection.StartOk(
                client_properties=properties,
                mechanism="PLAIN",
                response=f"\0{address.user}\0{address.password}",
                locale="en_US",
            )
        )
        tune = await self._expect(spec.Connection.Tune)
        self.frame_max = min(tune.frame_max or FRAME_MAX, FRAME_MAX)
        beat = min(tune.heartbeat or heartbeat_s, heartbeat_s)
        self._method(
            spec.Connection.TuneOk(channel_max=tune.channel_max, frame_max=self.frame_max, heartbeat=beat)
        )
        self._method(spec.Connection.Open(virtual_host=address.vhost))
        await self._expect(spec.Connection.OpenOk)
        self._keep_alive(beat / 2)

    async def _expect(self, kind: type[Any]) -> Any:
        answer = await self._answers.get()
        if isinstance(answer, kind):
            return answer
        if isinstance(answer, Exception):
            raise answer
        raise Lost(f"it answered {type(answer).__name__} to a greeting")

    def _keep_alive(self, every_s: float) -> None:
        loop = asyncio.get_running_loop()
        self._heard = loop.time()

        def beat() -> None:
            if loop.time() - self._heard > 4 * every_s:
                # What arrived while this process was busy itself is not late: let the loop read it first.
                loop.call_soon(loop.call_soon, self._silent, 4 * every_s)
            self.write(pamqp.frame.marshal(Heartbeat(), 0))
            self._beat = loop.call_later(every_s, beat)

        self._beat = loop.call_later(every_s, beat)

    def _silent(self, seconds: float) -> None:
        if asyncio.get_running_loop().time() - self._heard > seconds:
            self.abort(f"it was silent for {seconds:g} s")

    async def channel(self) -> Channel:
        """A new one. Raises :class:`Lost`."""
        if self.lost is not None:
            raise self.lost
        self._numbers = self._numbers % 2_000 + 1
        while self._numbers in self.channels:
            self._numbers = self._numbers % 2_000 + 1
        made = self.channels[self._numbers] = Channel(self, self._numbers)
        await made.ask(spec.Channel.Open())
        return made

    def write(self, *data: bytes) -> None:
        """Send in the loop's next round, with everything else that is sent until then."""
        if not self._out:
            asyncio.get_running_loop().call_soon(self._flush)
        self._out += data

    def _method(self, frame: Any) -> None:
        self.write(pamqp.frame.marshal(frame, 0))

    def _flush(self) -> None:
        out, self._out = self._out, []
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(out))

    async def close(self) -> None:
        """Say goodbye, and do not wait long for the answer."""
        if self.lost is None:
            self._method(spec.Connection.Close(reply_code=200, reply_text="", class_id=0, method_id=0))
            try:
                async with asyncio.timeout(0.5):
                    while self.lost is None:
                        await self._answers.get()
            except TimeoutError:
                pass
        self.abort("it was closed")

    def abort(self, why: str) -> None:
        """End it now."""
        self._end(Lost(why))
        if self._transport is not None:
            self._transport.abort()

    def _end(self, why: Exception) -> None:
        if self.lost is not None:
            return
        self.lost = why
        if self._beat is not None:
            self._beat.cancel()
        self._answers.put_nowait(why)
        for channel in list(self.channels.values()):
            channel.end(why)

    # ── asyncio.Protocol ──

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(Lost(str(exc) if exc else "it closed the connection"))

    def data_received(self, data: bytes) -> None:
        self._heard = asyncio.get_running_loop().time()
        buffer = self._buffer
        buffer += data
        start, size = 0, len(buffer)
        if buffer.startswith(b"AMQP"):
            self.abort("it speaks another version of AMQP")
            return
        while size - start >= 7:
            kind, number, length = _HEAD(buffer, start)
            end = start + length + 8
            if end > size:
                break
            self._take(kind, number, bytes(buffer[start:end]))
            start = end
        del buffer[:start]

    def _take(self, kind: int, number: int, frame: bytes) -> None:
        channel = self.channels.get(number)
        if kind == frames.BODY:
            if channel is not None:
                channel.body(frame[7:-1])
            return
        if kind == frames.METHOD and channel is not None and frame[7:11] in (frames.ACK, frames.NACK):
            tag, multiple = frames.confirmed(frame[7:-1])
            channel.on_confirm(tag, multiple, frame[7:11] == frames.ACK)
            return
        try:
            _, _, decoded = pamqp.frame.unmarshal(frame)
        except UnmarshalingException as error:
            if kind == frames.HEADER and channel is not None:
                # What another producer wrote there is no text. Refused, the message would come again for ever.
                channel.header(pamqp.header.ContentHeader(0, frames.body_size(frame)))
            else:
                self.abort(f"it sent a frame that is none: {error}")
            return
        if number == 0:
            self._control(decoded)
        elif channel is not None:
            if isinstance(decoded, pamqp.header.ContentHeader):
                channel.header(decoded)
            else:
                channel.method(decoded)

    def _control(self, frame: Any) -> None:
        if isinstance(frame, spec.Connection.Close):
            self._method(spec.Connection.CloseOk())
            kind = Refused if frame.reply_code in _REFUSALS else Lost
            self._end(kind(f"{frame.reply_code} {frame.reply_text}"))
        elif isinstance(frame, spec.Connection.CloseOk):
            self._end(Lost("it was closed"))
        elif isinstance(frame, spec.Connection.Blocked):
            self.blocked = frame.reason or "it is short of memory or disk"
        elif isinstance(frame, spec.Connection.Unblocked):
            self.blocked = ""
        elif not isinstance(frame, Heartbeat):
            self._answers.put_nowait(frame)
