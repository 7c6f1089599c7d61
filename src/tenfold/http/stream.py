"""Bodies made while they are sent: :class:`Stream` of bytes or text, :class:`EventStream` of server-sent events.

When the client goes away, the source is closed: ``aclose`` of an async generator runs its ``finally``. An
error in the source after the head was sent cuts the connection, so that a client sees a body that ends early
as broken and not as complete.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import msgspec

from tenfold.http.adapters import encode_json
from tenfold.http.reply import StreamingResponse

if TYPE_CHECKING:
    from tenfold.http.request import Request

T = TypeVar("T")

HEARTBEAT_S = 15.0


class Stream(StreamingResponse):
    """A body from an async or a plain iterator of bytes or text (sent as UTF-8)::

        return Stream(rows_as_csv(db), "text/csv; charset=utf-8", headers={"Cache-Control": "no-store"})

    A plain iterator is advanced in a thread, piece by piece. The source is read no faster than the client
    takes it.
    """

    __slots__ = ("_source",)

    def __init__(
        self,
        source: AsyncIterable[bytes | str] | Iterable[bytes | str],
        media_type: str = "application/octet-stream",
        status: int = 200,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
    ) -> None:
        super().__init__(status, headers, media_type)
        self._source = source if isinstance(source, AsyncIterable) else _in_thread(iter(source))

    async def chunks(self, request: Request) -> AsyncIterator[bytes]:
        async for piece in self._source:
            yield piece.encode() if isinstance(piece, str) else piece

    async def close(self) -> None:
        await _aclose(self._source)


class Event(msgspec.Struct, frozen=True):
    """One server-sent event (WHATWG HTML § 9.2).

    ``data`` is sent as JSON. ``event`` is its type (browsers call it ``message`` when empty), ``id`` comes
    back as ``Last-Event-ID`` when the client reconnects, ``retry_ms`` tells it how long to wait before that.
    """

    data: Any
    event: str = ""
    id: str = ""
    retry_ms: int | None = None

    def encode(self) -> bytes:
        """The event on the wire. Raises ValueError for a line break in ``event`` or ``id``."""
        lines: list[bytes] = []
        for name, value in (("event", self.event), ("id", self.id)):
            if any(c in value for c in "\r\n\0"):
                raise ValueError(f"the {name} of a server-sent event has a line break in it: {value!r}.")
            if value:
                lines.append(f"{name}: {value}\n".encode())
        if self.retry_ms is not None:
            lines.append(b"retry: %d\n" % self.retry_ms)
        # JSON has its line breaks escaped, so one data line always holds it
        return b"".join(lines) + b"data: " + encode_json(self.data) + b"\n\n"


class EventStream(StreamingResponse, Generic[T]):
    """Server-sent events from an async iterator of :class:`Event` or of plain values (sent as ``data``)::

        async def watch(request: Request) -> EventStream[Progress]:
            return EventStream(progress_since(last_event_id(request)))

    A comment is sent after ``heartbeat_s`` seconds of silence, so that proxies keep the connection and a dead
    client is noticed. One event is made ahead of the client's reading, no more.
    """

    __slots__ = ("_heartbeat_s", "_pump", "_queue", "_source")

    def __init__(
        self,
        source: AsyncIterable[T | Event],
        *,
        heartbeat_s: float = HEARTBEAT_S,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
    ) -> None:
        super().__init__(200, headers, "text/event-stream")
        self._default_header("cache-control", "no-store")
        self._default_header("x-accel-buffering", "no")  # NGINX would hold events back
        self._source = source
        self._heartbeat_s = heartbeat_s
        self._queue: asyncio.Queue[bytes | _End] = asyncio.Queue(maxsize=1)
        self._pump: asyncio.Task[None] | None = None

    async def chunks(self, request: Request) -> AsyncIterator[bytes]:
        self._pump = asyncio.create_task(self._run(), name="event-stream")
        while True:
            try:
                async with asyncio.timeout(self._heartbeat_s):
                    item = await self._queue.get()
            except TimeoutError:
                yield b": \n\n"
                continue
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item

    async def close(self) -> None:
        if self._pump is None:
            await _aclose(self._source)
            return
        self._pump.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._pump

    async def _run(self) -> None:
        # One task runs the source from its start to its aclose: time-outs and task groups that span its
        # yields break when every step runs in a task of its own.
        end = _End()
        try:
            async for item in self._source:
                event = item if isinstance(item, Event) else Event(item)
                await self._queue.put(event.encode())
        except Exception as error:  # handed to the reader, who raises it
            end.error = error
        finally:
            await _aclose(self._source)
        await self._queue.put(end)


class _End:
    """What the pump leaves last: the source is through, or failed."""

    error: Exception | None = None


def last_event_id(request: Request) -> str:
    """The id of the last event that a reconnecting client saw; empty on its first connection."""
    return request.headers.get("last-event-id") or ""


async def _in_thread(source: Iterator[bytes | str]) -> AsyncIterator[bytes | str]:
    done = object()
    try:
        while (piece := await asyncio.to_thread(next, source, done)) is not done:
            yield cast("bytes | str", piece)
    finally:
        close = getattr(source, "close", None)
        if close is not None:
            await asyncio.to_thread(close)


async def _aclose(source: AsyncIterable[Any]) -> None:
    close = getattr(source, "aclose", None)
    if close is not None:
        await close()
