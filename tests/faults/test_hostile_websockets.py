"""G25: WebSockets are bounded like requests."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from support.cluster import eventually
from support.hostile import Raw, served
from support.hostile_app import made, service

pytestmark = pytest.mark.anyio

UPGRADE = (
    b"GET %b HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n%b\r\n"
)


async def opened(port: int, path: bytes, **options: Any) -> Raw:
    socket = await Raw.to(port, UPGRADE % (path, b""), **options)
    assert b"101" in await socket.reader.readuntil(b"\r\n\r\n")
    return socket


def frame(opcode: int, payload: bytes, *, last: bool = True) -> bytes:
    """A masked frame (RFC 6455 § 5.2); the mask is zero."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else b"\xff" + size.to_bytes(8, "big")
    return bytes([opcode | (0x80 if last else 0)]) + length + bytes(4) + payload


async def test_a_websocket_is_written_no_faster_than_it_is_read_and_cut_off_when_it_is_not(
    tmp_path: Path,
) -> None:
    async with served(tmp_path, service, http__write_timeout_s=0.6) as (port, listener):
        await opened(port, b"/flood", receive_buffer=4096)
        await eventually(lambda: bool(listener.connections.unsent))
        stalled = made["sent"]
        await asyncio.sleep(0.1)
        assert made["sent"] == stalled
        await eventually(lambda: bool(made["gone"]) and not listener.connections.all)


async def test_a_message_that_is_too_large_closes_with_1009(tmp_path: Path) -> None:
    """In one piece, in fragments, and in nothing but fragments."""
    async with served(tmp_path, service) as (port, _):
        for sent in (
            frame(1, b"[" + b" " * 2_000_000 + b"]"),
            frame(1, b"[" + b" " * 700_000, last=False) + frame(0, b" " * 700_000),
            frame(1, b"[", last=False) + frame(0, b"", last=False) * 1500,
        ):
            socket = await opened(port, b"/listen")
            socket.send(sent)
            async with asyncio.timeout(10):
                close = await socket.reader.readexactly(4)
            assert (close[0], int.from_bytes(close[2:4], "big")) == (0x88, 1009)
            socket.abort()


async def test_a_handshake_with_too_many_or_too_long_headers_is_431(tmp_path: Path) -> None:
    async with served(tmp_path, service) as (port, _):
        for extra in (b"a: b\r\n" * 101, b"a: %b\r\n" % (b"x" * 9000), b"a: %b\r\n" % (b"x" * 17_000)):
            assert (await (await Raw.to(port, UPGRADE % (b"/listen", extra))).problem())[0] == 431
