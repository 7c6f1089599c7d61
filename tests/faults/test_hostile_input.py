"""G25: huge, deep and broken input is bounded, and refused in problem documents that name the limit."""

from __future__ import annotations

import asyncio
import gzip
from pathlib import Path

import pytest

from support.cluster import eventually
from support.hostile import Raw, served
from support.hostile_app import CHUNKED, GET, HEAD, JSON, service
from support.trials import Trials
from tenfold import Request
from tenfold.http import limits

pytestmark = pytest.mark.anyio

TOO_LONG = [
    (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n" + HEAD + b"\r\n", b"", 414, "8,192"),
    (b"GET /find/a?q=" + b"x" * 9000 + b" HTTP/1.1\r\n" + HEAD + b"\r\n", b"", 414, "8,192"),
    (b"GET /plain HTTP/1.1\r\n" + HEAD + b"a: b\r\n" * 101 + b"\r\n", b"", 431, "http.headers_max"),
    (
        b"GET /plain HTTP/1.1\r\n" + HEAD + b"a: %b\r\n\r\n" % (b"x" * 17_000),
        b"",
        431,
        "http.header_max_bytes",
    ),
    (b"GET /plain HTTP/1.1\r\n" + HEAD, b"a: b\r\n" * 100, 431, "http.header_max_bytes"),
    (b"GET /plain HTTP/1.1\r\n" + HEAD + b"a: ", b"x" * 600, 431, "http.header_max_bytes"),
    (b"GET /", b"x" * 600, 431, "address"),
    (b"", b"\r\n" * 300, 431, "not yet a request"),
    (CHUNKED + b"1;", b"x" * 600, 431, "chunk"),
    (CHUNKED + b"1\r\na\r\n0\r\n", b"a: b\r\n" * 100, 431, "trailers"),
]


async def test_what_is_too_long_is_refused_by_name(tmp_path: Path) -> None:
    """Path, query, headers, one of them, any of that without an end, empty lines, chunk extensions, trailers."""
    async with served(tmp_path, service) as (port, _):
        for sent, endless, status, named in TOO_LONG:
            client = await Raw.to(port, sent)
            asked = asyncio.create_task(client.problem())
            for _ in range(5000):
                if asked.done() or not endless:
                    break
                client.send(endless)
                await asyncio.sleep(0)
            found, detail = await asked
            assert (found, named in detail) == (status, True), (sent[:40], endless[:4], detail)


async def test_a_gibibyte_is_refused_before_it_is_sent_and_while_it_comes(tmp_path: Path) -> None:
    async with served(tmp_path, service) as (port, _):
        path = b"/tree"
        announced = await Raw.to(
            port, b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 1073741824\r\n\r\n" % path
        )
        assert await announced.problem() == (
            413, "The body is larger than 1,048,576 bytes, the most that this operation accepts.",
        )  # fmt: skip
        assert await sent_until_refused(port, 2**30) < 2**24


async def test_a_client_that_sends_all_before_it_reads_still_reads_why_it_was_refused(tmp_path: Path) -> None:
    """A socket closed with unread bytes in it takes back the answer."""
    async with served(tmp_path, service) as (port, _):
        client = await Raw.to(port, b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 20000000\r\n\r\n")
        for _ in range(20):
            client.send(bytes(1_000_000))
            await client.writer.drain()
        assert (await client.problem())[0] == 413
        assert await client.ended()


async def test_bodies_together_are_bounded_and_wait_for_each_other(tmp_path: Path) -> None:
    """Three of 600 kB where there is room for one and a half: they are read one after the other."""
    head = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 600000\r\n\r\n"
    async with served(tmp_path, service, http__buffered_max_bytes=1_000_000) as (port, listener):
        memory = listener.app.assembly.http.memory
        clients = [await Raw.to(port, head + b"x" * 1000) for _ in range(3)]
        await eventually(lambda: memory.used == 600_000 and memory.waiting == 2)
        for client in clients:
            client.send(b"x" * 599_000)
        for client in clients:
            assert (await client.answer())[2] == b"600000"
        assert memory.used == 0


async def test_json_that_is_too_deep_is_refused(tmp_path: Path) -> None:
    deep = b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    async with served(tmp_path, service) as (port, _):
        head = b"POST /tree HTTP/1.1\r\nHost: x\r\n" + JSON + b"Content-Length: %d\r\n\r\n" % len(deep)
        status, detail = await (await Raw.to(port, head + deep)).problem()
        assert (status, "at most 32" in detail) == (400, True)


UNREADABLE = [
    (b"GET /find/%ff HTTP/1.1\r\n", b"", 400, "path"),
    (b"GET /find/a?q=%ff HTTP/1.1\r\n", b"", 400, "query"),
    (b"POST /tree HTTP/1.1\r\n" + JSON, b'{"a":"\xff"}', 400, "UTF-8"),
    (
        b"POST /tree HTTP/1.1\r\nContent-Encoding: gzip\r\n" + JSON,
        gzip.compress(bytes(10**7), mtime=0),
        415,
        "gzip",
    ),
    (
        b"POST /upload HTTP/1.1\r\nContent-Encoding: gzip\r\nContent-Type: multipart/form-data; boundary=b\r\n",
        gzip.compress(bytes(10**7), mtime=0),
        415,
        "gzip",
    ),
    (b"GET /find/a?%b HTTP/1.1\r\n" % (b"q=1&" * 300), b"", 400, "200"),
]


async def test_what_cannot_be_read_is_refused_by_name(tmp_path: Path) -> None:
    """Text that is none in path, query and JSON; gzip bombs; too many query parameters."""
    async with served(tmp_path, service) as (port, _):
        for head, body, status, named in UNREADABLE:
            client = await Raw.to(port, head + HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            found, detail = await client.problem()
            assert (found, named in detail) == (status, True), (head, detail)


SMUGGLED = [
    b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n0\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
    b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 1\r\n\r\na",
    b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\na",
    b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length : 1\r\n\r\na",
    b"POST /echo HTTP/1.1\nHost: x\nContent-Length: 1\n\na",
    b"POST /echo HTTP/1.1\r\nHost: x\nContent-Length: 1\r\n\r\na",
    b"POST /echo HTTP/1.1\r\nHost: x\rContent-Length: 1\r\n\r\na",
    b"POST /echo HTTP/1.1\r\nHost: x\r\nX-A: a\r\n b\r\nContent-Length: 1\r\n\r\na",
    b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    b"POST /echo HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n",
    CHUNKED + b"0x1\r\na\r\n0\r\n\r\n",
    CHUNKED + b"fffffffffffffffff\r\na\r\n0\r\n\r\n",
    CHUNKED + b"1\na\n0\n\n",
    CHUNKED + b"1;a\nb\r\na\r\n0\r\n\r\n",
    CHUNKED + b"1\r\nab0\r\n\r\n",
    b"GET /plain HTTP/2.0\r\nHost: x\r\n\r\n",
    b"GET /plain\r\n\r\n",
    b"GET /plain HTTP/1.1\r\n Host: x\r\n\r\n",
    b"GET /plain HTTP/1.1\r\nHost: x\r\nX-\0: a\r\n\r\n",
    b"GET /plain HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n",
    b"GET /plain HTTP/1.1\r\n\r\n",
]


async def test_what_two_servers_may_read_differently_is_400_and_the_connection_ends(
    tmp_path: Path, trials: Trials
) -> None:
    """Forms of request smuggling: the request that would hide in the body is never answered."""
    async with served(tmp_path, service) as (port, _):
        for sent in SMUGGLED:
            for before in (b"", GET):
                client = await Raw.to(port, before + sent + GET)
                if before:
                    assert (await client.answer())[0] == 200
                assert (await client.problem())[0] == 400, sent
                assert await client.ended(), sent
                client.abort()
    trials("G25", 2 * len(SMUGGLED), "forms of request smuggling")


async def test_trailers_are_not_headers(tmp_path: Path) -> None:
    async with served(tmp_path, service) as (port, _):
        client = await Raw.to(port, CHUNKED + b"1\r\na\r\n0\r\nIdempotency-Key: x\r\n\r\n" + GET)
        assert (await client.answer())[2] == b"1"
        assert (await client.answer())[2] == b"1"


# ── a broken variant ──


async def test_a_build_that_buffers_the_body_first_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def all_of_it(request: Request) -> bytes:
        pieces: list[bytes] = []
        more = True
        while more:
            message = await request.receive()
            pieces.append(message.get("body", b""))
            more = message.get("more_body", False)
        whole = b"".join(pieces)
        if len(whole) > request.body_max_bytes:
            raise limits.too_large(request.body_max_bytes)
        return whole

    async with served(tmp_path, service) as (port, _):
        assert await sent_until_refused(port, 2**24) < 2**23
    monkeypatch.setattr(limits, "read_body", all_of_it)
    async with served(tmp_path, service) as (port, _):
        assert await sent_until_refused(port, 2**24) >= 2**24


async def sent_until_refused(port: int, most: int) -> int:
    """Bytes of a body in chunks that the server took before it refused it, at most so many."""
    client = await Raw.to(port, CHUNKED)
    asked = asyncio.create_task(client.problem())
    sent = 0
    while not asked.done() and sent < most:
        client.send(b"10000\r\n" + bytes(65_536) + b"\r\n")
        sent += 65_536
        await client.writer.drain()
        await asyncio.sleep(0)
    if not asked.done():
        client.send(b"0\r\n\r\n")
    assert (await asked)[0] == 413
    client.abort()
    return sent
