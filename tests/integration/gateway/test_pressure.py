"""Bodies are read no faster than the other side takes them: neither side can fill the gateway's memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from integration.gateway.conftest import Fronts

pytestmark = pytest.mark.anyio

PIECE = b"x" * 65_536
PIECES = 1_600
"""100 MiB: more than the buffers of the system hold on both ways."""
STILL_S = 0.6

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def raw(talk: Talk) -> AsyncGenerator[str]:
    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def pushed(writer: asyncio.StreamWriter) -> int:
    """How many pieces are taken before nothing is any more."""
    for count in range(PIECES):
        writer.write(PIECE)
        try:
            async with asyncio.timeout(STILL_S):
                await writer.drain()
        except TimeoutError:
            return count
    return PIECES


async def test_an_upload_waits_for_the_service(fronts: Fronts) -> None:
    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await gone.wait()
        writer.transport.abort()

    gone = asyncio.Event()
    async with raw(deaf) as url, fronts({"files": url}, {"files": {"body_max_bytes": 2**30}}) as front:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(front.url.rpartition(":")[2]))
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n")
        assert 0 < await pushed(writer) < PIECES
        gone.set()
        assert (await reader.readline()).startswith(b"HTTP/1.1 502")
        writer.transport.abort()


async def test_a_download_waits_for_the_client(fronts: Fronts) -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        taken.set_result(await pushed(writer))
        writer.transport.abort()

    taken: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    async with raw(endless) as url, fronts({"files": url}, {"files": {}}) as front:
        _, writer = await asyncio.open_connection("127.0.0.1", int(front.url.rpartition(":")[2]), limit=1024)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert 0 < await taken < PIECES
        writer.transport.abort()
