"""Sending a body that is made while it is sent, and noticing that nobody listens any more."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from tenfold._core.context import enter as enter_context

if TYPE_CHECKING:
    from tenfold.http.reply import StreamingResponse
    from tenfold.http.request import Request

log = logging.getLogger("tenfold.http")

TURN = 16
"""Chunks that are sent before others have their turn."""

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class CutOff(Exception):
    """The rest of a body will not come. Its end is not sent, and the server closes the connection, so that nobody takes what
    came for all."""


async def run_stream(stream: StreamingResponse, request: Request, send: Send) -> None:
    """Send the head and the chunks of a prepared stream, close it. Ends early, without error, when the client goes
    away, and when a chunk raises :class:`CutOff`. The deadline was that of the head: a stream may last for as long as somebody listens, and each of its statements
    for as long as one without a deadline."""
    request.context.deadline = None
    enter_context(request.context)  # that of a recorded request's span ended with its head
    try:
        await send({"type": "http.response.start", "status": stream.status, "headers": stream.headers})
        if request.method != "HEAD":
            await _send_chunks(stream, request, send)
        if request.ended != "disconnect":
            await send({"type": "http.response.body", "body": b""})
    except CutOff:
        return
    finally:
        await stream.close()


async def _send_chunks(stream: StreamingResponse, request: Request, send: Send) -> None:
    sender = asyncio.current_task()
    assert sender is not None
    watcher = asyncio.create_task(_cancel_when_gone(sender, request))
    try:
        async for chunk in _taking_turns(stream.chunks(request)):
            try:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            except OSError:  # some servers raise when they send to nobody
                request.ended = "disconnect"
                return
    except asyncio.CancelledError:
        if request.ended != "disconnect":
            raise
        sender.uncancel()
    finally:
        watcher.cancel()


async def _taking_turns(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The chunks that are not empty. A source that has everything at hand never waits; neither would what it is sent
    with, nor would anybody else's request run, or the client's leaving be noticed."""
    in_a_row = 0
    async for chunk in chunks:
        if chunk:
            yield chunk
        in_a_row += 1
        if in_a_row == TURN:
            in_a_row = 0
            await asyncio.sleep(0)


async def _cancel_when_gone(sender: asyncio.Task[Any], request: Request) -> None:
    if not request.complete and request.method not in ("GET", "HEAD"):
        return  # the rest of the body is still to come: nobody else may receive
    while (await request.receive())["type"] == "http.request":
        pass
    request.ended = "disconnect"
    sender.cancel()
