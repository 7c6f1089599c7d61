"""G25: slow, huge, deep and broken input is bounded, and refused in problem documents that name the limit."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from support.hostile import Raw, served
from support.trials import Trials
from tenfold import Request, Response, Service, Stream, Upload, WebSocket, public
from tenfold.http import limits
from tenfold.runtime import connections

pytestmark = pytest.mark.anyio

service = Service("hostile", auth=public)
made: dict[str, int] = {}

HEAD = b"Host: x\r\n"
GET = b"GET /plain HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
JSON = b"Content-Type: application/json\r\n"


@service.get("/plain")
async def plain() -> int:
    return 1


@service.get("/find/{name}")
async def find(name: str, q: str = "") -> str:
    return name + q


@service.post("/echo", status=200)
async def echo(request: Request) -> int:
    return len(await request.body())


@service.post("/tree", status=200)
async def tree(body: dict[str, Any]) -> int:
    return len(body)


@service.post("/upload", status=200)
async def upload(file: Upload) -> int:
    return file.size


@service.get("/large")
async def large(kib: int) -> Response:
    return Response(bytes(1024 * kib))


@service.get("/endless")
async def endless() -> Stream:
    async def pieces() -> AsyncIterator[bytes]:
        made["pieces"], made["ended"] = 0, 0
        try:
            while True:
                made["pieces"] += 1
                yield bytes(16_384)
        finally:
            made["ended"] = 1

    return Stream(pieces())


@service.websocket("/flood", auth=public)
async def flood(socket: WebSocket) -> None:
    made["sent"], made["gone"] = 0, 0
    try:
        while True:
            await socket.send_bytes(bytes(16_384))
            made["sent"] += 1
    finally:
        made["gone"] = 1


@service.websocket("/listen", auth=public)
async def listen(socket: WebSocket) -> None:
    async for _ in socket.messages():
        pass


# ── time ──


async def test_who_does_not_send_a_whole_head_gets_408(tmp_path: Path) -> None:
    """Nothing at all, half a line, a header now and then, empty lines."""
    begun = {
        b"": b"",
        b"GET /plain HT": b"",
        b"GET /plain HTTP/1.1\r\nHost: x\r\n": b"x-a: b\r\n",
        b"\r\n": b"\r\n",
    }
    async with served(tmp_path, service, http__header_timeout_s=0.3) as (port, _):
        slow = [(await Raw.to(port, sent), then) for sent, then in begun.items()]
        asked = asyncio.gather(*(one.problem() for one, _ in slow))
        while not asked.done():
            for one, then in slow:
                one.send(then)
            await asyncio.sleep(0.02)
        said = "The request line and headers did not arrive within 0.3 s (http.header_timeout_s)."
        assert await asked == [(408, said)] * 4
        assert all([await one.ended() for one, _ in slow])


async def test_also_the_second_head_of_a_connection_has_a_deadline(tmp_path: Path) -> None:
    async with served(tmp_path, service, http__header_timeout_s=0.3) as (port, _):
        slow = await Raw.to(port, GET + b"GET /pl")
        assert (await slow.answer())[0] == 200
        assert (await slow.problem())[0] == 408


async def test_a_body_is_waited_for_as_long_as_it_comes_at_the_slowest_rate(tmp_path: Path) -> None:
    slowest: dict[str, Any] = {"http__body_timeout_s": 0.2, "http__bytes_per_s_min": 1000}
    head = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 400\r\n\r\n"
    async with served(tmp_path, service, **slowest) as (port, _):
        steady, slow = await Raw.to(port, head), await Raw.to(port, head + b"x" * 20)
        for _ in range(8):  # longer than body_timeout_s altogether
            steady.send(b"x" * 50)
            await asyncio.sleep(0.05)
        assert (await steady.answer())[::2] == (200, b"400")
        status, detail = await slow.problem()
        assert status == 408
        assert "20 bytes had come" in detail
        assert "http.body_timeout_s" in detail


async def test_the_rest_of_a_body_that_nobody_reads_is_not_waited_for(tmp_path: Path) -> None:
    async with served(tmp_path, service, http__body_timeout_s=0.3) as (port, _):
        slow = await Raw.to(port, b"GET /plain HTTP/1.1\r\nHost: x\r\nContent-Length: 400\r\n\r\n")
        assert (await slow.answer())[0] == 200
        assert await slow.ended()


async def test_who_takes_neither_stream_nor_answer_is_cut_off(tmp_path: Path) -> None:
    async with served(tmp_path, service, http__write_timeout_s=0.4) as (port, listener):
        await Raw.to(port, b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n", receive_buffer=4096)
        await Raw.to(port, b"GET /large?kib=20000 HTTP/1.1\r\nHost: x\r\n\r\n", receive_buffer=4096)
        await Raw.to(
            port,
            b"GET /large?kib=20000 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            receive_buffer=4096,
        )
        while not listener.connections.all:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        while listener.connections.all or not made["ended"]:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        assert listener.connections.unsent_bytes == 0


async def test_a_stream_is_made_no_faster_than_it_is_read(tmp_path: Path) -> None:
    async with served(tmp_path, service) as (port, listener):
        reader = await Raw.to(port, b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n", receive_buffer=4096)
        await reader.reader.readexactly(1000)
        while not listener.connections.unsent:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        stalled = made["pieces"]
        await asyncio.sleep(0.1)
        assert made["pieces"] == stalled
        assert 65_536 < listener.connections.unsent_bytes < 200_000
        families = listener.app.assembly.telemetry.registry.collect()
        shown = {
            family.name: family.samples[0].value
            for family in families
            if family.name.startswith("tenfold_conn")
        }
        assert (shown["tenfold_connections_open"], shown["tenfold_connections_stalled"]) == (1, 1)
        await reader.reader.readexactly(6_000_000)
        assert made["pieces"] > stalled
        reader.abort()
        while not made["ended"]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_clients_that_do_not_read_share_a_bound_and_the_one_that_has_stalled_longest_goes(
    tmp_path: Path,
) -> None:
    async with served(tmp_path, service, http__buffered_max_bytes=25_000_000) as (port, listener):
        asked = b"GET /large?kib=16000 HTTP/1.1\r\nHost: x\r\n\r\n"
        first = await Raw.to(port, asked, receive_buffer=4096)
        while not listener.connections.unsent:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        second = await Raw.to(port, asked, receive_buffer=4096)
        assert await first.cut()
        assert len((await second.answer())[2]) == 16_384_000
        assert listener.connections.unsent_bytes == 0


# ── number ──


async def test_beyond_the_number_of_connections_the_slowest_make_room(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(tmp_path, service, http__connections_max=10) as (port, _):
        silent = [await Raw.to(port) for _ in range(10)]
        await asyncio.sleep(0.6)
        good = []
        for _ in range(20):
            good.append(await Raw.to(port, GET))
            assert (await good[-1].answer())[0] == 200
        assert all([await slow.cut() for slow in silent])
        said = [record.getMessage() for record in caplog.records if "connections_max" in record.getMessage()]
        assert 1 <= len(said) <= 2
        assert "all 10 places are taken (http.connections_max)" in said[0]


async def test_when_all_connections_are_busy_the_newcomer_is_told(tmp_path: Path) -> None:
    async with served(tmp_path, service, http__connections_max=2) as (port, _):
        busy = [
            await Raw.to(port, b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n", receive_buffer=4096)
            for _ in range(2)
        ]
        for one in busy:
            await one.reader.readexactly(100)
        status, detail = await (await Raw.to(port)).problem()
        assert status == 503
        assert "All 2 connections" in detail
        assert "http.connections_max" in detail
        for one in busy:
            one.abort()


async def test_a_flood_of_pipelined_requests_is_held_as_bytes_and_answered_in_order(tmp_path: Path) -> None:
    """A thousand requests of which none can be answered at once; as objects they would be megabytes."""
    asked = b"".join(b"GET /find/%d HTTP/1.1\r\nHost: x\r\n\r\n" % n for n in range(1000))
    async with served(tmp_path, service) as (port, listener):
        client = await Raw.to(port, asked)
        longest = 0
        for n in range(1000):
            assert (await client.answer())[2] == b'"%d"' % n
            longest = max(longest, *(len(each.pipeline) for each in listener.connections.all))  # type: ignore[attr-defined]
        assert 0 < longest <= 200


async def test_a_pipelined_body_arrives_whole_however_much_is_sent_ahead(tmp_path: Path) -> None:
    post = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 30000\r\n\r\n" + b"x" * 30_000
    async with served(tmp_path, service) as (port, _):
        client = await Raw.to(port, (GET + post) * 20 + GET)
        for _ in range(20):
            assert (await client.answer())[2] == b"1"
            assert (await client.answer())[2] == b"30000"
        assert (await client.answer())[2] == b"1"


# ── size ──


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
        while memory.used != 600_000 or memory.waiting != 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
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


# ── WebSockets ──

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
        while not listener.connections.unsent:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        stalled = made["sent"]
        await asyncio.sleep(0.1)
        assert made["sent"] == stalled
        while not made["gone"] or listener.connections.all:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


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


# ── many ──


async def slowloris(port: int, many: int) -> list[Raw]:
    """Heads that never end, bodies that never come, answers that nobody reads: a third each."""
    kinds = (
        b"GET /plain HTTP/1.1\r\nHost: x\r\n",
        b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx",
        b"GET /large?kib=300 HTTP/1.1\r\nHost: x\r\n\r\n",
    )
    return [await Raw.to(port, kinds[n % 3], receive_buffer=4096) for n in range(many)]


async def test_five_hundred_slow_sockets_wake_nobody(tmp_path: Path, trials: Trials) -> None:
    """Judged by what runs: good requests cause as many readings and writings beside them as alone, and no timer is
    theirs."""
    async with served(tmp_path, service) as (port, listener):
        good = await Raw.to(port)
        alone, timers = await io_of(good, 50)
        slow = await slowloris(port, 501)
        while len(listener.connections.all) < 502 or len(listener.connections.fresh) > 167:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        # The last of them may still be on their way in during the first look.
        beside, timers_beside = min([await io_of(good, 50) for _ in range(3)])
        for one in slow:
            one.abort()
    trials("G25", 501, "slow sockets beside good requests")
    assert beside <= alone * 1.2
    assert timers_beside <= timers + 5


async def io_of(client: Raw, many: int) -> tuple[int, int]:
    """How often the loop found a socket ready in so many requests (the median of three), and how many timers it has."""
    loop: Any = asyncio.get_running_loop()
    run, counts = asyncio.Handle._run, []
    for _ in range(3):
        ran = 0

        def counted(handle: asyncio.Handle) -> None:
            nonlocal ran
            ran += getattr(handle._callback, "__name__", "").endswith("_ready")  # type: ignore[attr-defined]
            run(handle)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(asyncio.Handle, "_run", counted)
            for _ in range(many):
                client.send(GET)
                assert (await client.answer())[0] == 200
        counts.append(ran)
    return sorted(counts)[1], sum(not timer.cancelled() for timer in loop._scheduled)


# ── broken variants ──


async def test_a_build_without_a_deadline_for_heads_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "verdict", lambda *_: connections.Verdict.NOTHING)
    async with served(tmp_path, service, http__header_timeout_s=0.1) as (port, _):
        slow = await Raw.to(port, b"GET /plain HT")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await slow.problem()


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
