"""Our HTTP/1.1 protocol on real sockets: what the short way to the operations must not change."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from support.listening import listening
from tenfold import App, Reply, Request, Response, Service, Stream, public
from tenfold.http.stream import EventStream
from tenfold.runtime.exchange import Exchange

pytestmark = pytest.mark.anyio

service = Service("wire", auth=public)
seen: dict[str, Any] = {}


@service.get("/plain")
async def plain(n: int = 1) -> dict[str, int]:
    return {"n": n}


@service.get("/things/{name}")
async def thing(name: str) -> str:
    return name


@service.post("/echo", status=200)
async def echo(request: Request) -> Response:
    body = await request.body()
    return Response(body, headers={"x-length": str(len(body))})


@service.get("/pieces")
async def pieces() -> Stream:
    async def make() -> AsyncIterator[bytes]:
        for piece in (b"one ", b"two ", b"three"):
            await asyncio.sleep(0)
            yield piece

    return Stream(make())


@service.get("/slow")
async def slow() -> str:
    seen["slow"] = "started"
    try:
        await asyncio.sleep(30)
    except asyncio.CancelledError:
        seen["slow"] = "cancelled"
        raise
    return "never"


@service.get("/turn/{n}")
async def turn(n: int) -> int:
    await asyncio.sleep(0.02 if n == 1 else 0)
    return n


@service.get("/peer")
async def peer(request: Request) -> dict[str, Any]:
    return {"client": request.client, "scheme": request.scheme, "root": request.root_path}


@service.get("/odd/{kind}")
async def odd(kind: str) -> Response:
    return {
        "204": Response(b"smuggled", status=204),
        "304": Response(b"smuggled", status=304),
        "length": Response(b"whole", headers={"Content-Length": "1"}),
        "chunked": Response(b"0\r\n\r\nsmuggled", headers={"Transfer-Encoding": "chunked"}),
        "close": Response(b"bye", headers={"Connection": "Close, x"}),
    }[kind]


@service.get("/reply")
async def reply() -> Reply[str]:
    return Reply("whole", headers={"Content-Length": "1"})


@service.post("/late", status=200)
async def late() -> str:
    await asyncio.sleep(0.1)
    return "done"


@service.get("/endless")
async def endless() -> EventStream[int]:
    async def make() -> AsyncIterator[int]:
        seen["endless"] = "started"
        try:
            while True:
                yield 1
                await asyncio.sleep(0.01)
        finally:
            seen["endless"] = "ended"

    return EventStream(make())


def served(tmp_path: Path, **settings: Any) -> AbstractAsyncContextManager[int]:
    return listening(App("wire", [service]), tmp_path, **settings)


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def to(cls, port: int) -> Client:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self, *, head_only: bool = False) -> tuple[int, dict[str, str], bytes]:
        head = await self.reader.readuntil(b"\r\n\r\n")
        first, *rest = head.decode("latin-1").strip().split("\r\n")
        headers = dict(line.split(": ", 1) for line in rest)
        body = b""
        if not head_only and headers.get("transfer-encoding") == "chunked":
            while size := int(await self.reader.readuntil(b"\r\n"), 16):
                body += (await self.reader.readexactly(size + 2))[:-2]
            await self.reader.readexactly(2)
        elif not head_only:
            body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return int(first.split(" ")[1]), headers, body

    async def closed(self) -> bool:
        async with asyncio.timeout(5):
            return await self.reader.read() == b""


async def test_one_connection_serves_many_requests(tmp_path: Path) -> None:
    async with served(tmp_path) as port:
        client = await Client.to(port)
        for n in range(3):
            client.send(b"GET /plain?n=%d HTTP/1.1\r\nHost: x\r\n\r\n" % n)
            status, headers, body = await client.answer()
            assert (status, json.loads(body)) == (200, {"n": n})
            assert headers["content-type"] == "application/json"
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["date"].endswith("GMT")


async def test_pipelined_requests_are_answered_in_their_order(tmp_path: Path) -> None:
    """The first takes longest; a mounted-like path (404) in between goes the ordinary way."""
    async with served(tmp_path) as port:
        client = await Client.to(port)
        client.send(
            b"".join(
                b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path
                for path in (b"/turn/1", b"/turn/2", b"/nothing", b"/turn/3")
            )
        )
        answers = [await client.answer() for _ in range(4)]
        assert [status for status, _, _ in answers] == [200, 200, 404, 200]
        assert [body for status, _, body in answers if status == 200] == [b"1", b"2", b"3"]


@pytest.mark.parametrize("size", [0, 10, 70_000, 900_000])
async def test_bodies_arrive_whole_however_they_are_cut(tmp_path: Path, size: int) -> None:
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    async with served(tmp_path) as port:
        client = await Client.to(port)
        head = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size
        client.send(head[:20])
        await asyncio.sleep(0.01)
        client.send(head[20:])
        for start in range(0, size, 50_000):
            client.send(body[start : start + 50_000])
            await client.writer.drain()
        assert (await client.answer())[2] == body
        client.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        for start in range(0, size, 60_000):
            piece = body[start : start + 60_000]
            client.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        client.send(b"0\r\n\r\n")
        assert (await client.answer())[2] == body


async def test_a_stream_comes_in_pieces_and_leaves_the_connection_usable(tmp_path: Path) -> None:
    async with served(tmp_path) as port:
        client = await Client.to(port)
        for _ in range(2):
            client.send(b"GET /pieces HTTP/1.1\r\nHost: x\r\n\r\n")
            status, headers, body = await client.answer()
            assert (status, headers["transfer-encoding"], body) == (200, "chunked", b"one two three")
        client.send(b"GET /plain HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await client.answer())[0] == 200


async def test_head_has_no_body(tmp_path: Path) -> None:
    async with served(tmp_path) as port:
        client = await Client.to(port)
        client.send(b"HEAD /plain HTTP/1.1\r\nHost: x\r\n\r\n")
        status, headers, _ = await client.answer(head_only=True)
        assert (status, headers["content-length"]) == (200, "7")
        client.send(b"GET /plain HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await client.answer())[2] == b'{"n":1}'


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.0\r\n",
        b"HTTP/1.1\r\nHost: x\r\nConnection: close\r\n",
        b"HTTP/1.0\r\nConnection: keep-alive\r\n",
    ],
)
async def test_who_does_not_keep_the_connection_sees_it_closed(tmp_path: Path, head: bytes) -> None:
    async with served(tmp_path) as port:
        client = await Client.to(port)
        client.send(b"GET /plain " + head + b"\r\n")
        status, headers, _ = await client.answer()
        assert (status, headers["connection"]) == (200, "close")
        assert await client.closed()


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /plain HTTP/1.1\r\n\r\n",
        b"GET /plain HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        b"GET /plain HTTP/1.1\r\nHost: x\r\nbad header\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"nonsense\r\n\r\n",
    ],
)
async def test_what_is_not_http_gets_a_problem_document_and_the_door(tmp_path: Path, sent: bytes) -> None:
    async with served(tmp_path) as port:
        client = await Client.to(port)
        client.send(sent)
        status, headers, body = await client.answer()
        assert (status, headers["content-type"]) == (400, "application/problem+json")
        assert "Host" in json.loads(body)["detail"]
        assert await client.closed()


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/things/a%20b", 200),
        ("/things/%ff", 400),
        ("/nothing", 404),
        ("/things/" + "x" * 9000, 414),
        ("*", 404),
    ],
)
async def test_unusual_targets_are_answered_as_over_asgi(tmp_path: Path, target: str, status: int) -> None:
    async with served(tmp_path) as port:
        client = await Client.to(port)
        client.send(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert (await client.answer())[0] == status


async def test_too_large_headers_are_refused_in_one_piece_and_in_many(tmp_path: Path) -> None:
    async with served(tmp_path, http__header_max_bytes=2000) as port:
        for pause in (False, True):
            client = await Client.to(port)
            client.send(b"GET /plain HTTP/1.1\r\nHost: x\r\n")
            for n in range(5):
                client.send(b"x-%d: %b\r\n" % (n, b"y" * 500))
                if pause:
                    await client.writer.drain()
                    await asyncio.sleep(0.005)
            client.send(b"\r\n")
            assert (await client.answer())[0] == 431
        client = await Client.to(port)
        for _ in range(20):  # many small ones on one connection stay welcome
            client.send(b"GET /plain HTTP/1.1\r\nHost: x\r\nx-a: %b\r\n\r\n" % (b"y" * 500))
            assert (await client.answer())[0] == 200


async def test_expect_continue_is_answered_before_the_body_is_sent(tmp_path: Path) -> None:
    async with served(tmp_path) as port:
        client = await Client.to(port)
        client.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"ok")
        assert (await client.answer())[2] == b"ok"


async def test_work_whose_client_is_gone_is_cancelled(tmp_path: Path) -> None:
    async with served(tmp_path) as port:
        client = await Client.to(port)
        client.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        while seen.get("slow") != "started":  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        client.writer.transport.abort()
        while seen["slow"] != "cancelled":  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("path", [b"/odd/204", b"/odd/304", b"/odd/length", b"/odd/chunked", b"/reply"])
async def test_whatever_a_handler_says_of_its_length_the_next_answer_is_the_next(
    tmp_path: Path, path: bytes
) -> None:
    async with served(tmp_path) as port:
        client = await Client.to(port)
        client.send(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\nGET /plain HTTP/1.1\r\nHost: x\r\n\r\n" % path)
        assert "transfer-encoding" not in (await client.answer())[1]
        assert (await client.answer())[2] == b'{"n":1}'


async def test_a_handler_may_end_the_connection_in_any_spelling(tmp_path: Path) -> None:
    async with served(tmp_path) as port:
        client = await Client.to(port)
        client.send(b"GET /odd/close HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await client.answer())[2] == b"bye"
        assert await client.closed()


@pytest.mark.parametrize("after", [b"nonsense\r\n\r\n", b"GET /plain HTTP/1.1\r\n\r\n"])
async def test_what_is_not_http_is_refused_in_its_turn(tmp_path: Path, after: bytes) -> None:
    """The order before it was placed; a 400 in its place would say the opposite."""
    async with served(tmp_path) as port:
        client = await Client.to(port)
        client.send(b"POST /late HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n" + after)
        assert (await client.answer())[::2] == (200, b'"done"')
        assert (await client.answer())[0] == 400
        assert await client.closed()


async def test_a_broken_body_is_refused_and_what_came_before_it_is_answered(tmp_path: Path) -> None:
    broken = b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
    async with served(tmp_path) as port:
        client = await Client.to(port)
        client.send(b"POST /late HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n" + broken)
        assert [(await client.answer())[0] for _ in range(2)] == [200, 400]
        assert await client.closed()
        client = await Client.to(port)
        client.send(broken)
        assert (await client.answer())[0] == 400
        assert await client.closed()


async def test_an_endless_stream_ends_with_its_client_also_when_more_was_asked(tmp_path: Path) -> None:
    async with served(tmp_path) as port:
        client = await Client.to(port)
        client.send(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\nGET /plain HTTP/1.1\r\nHost: x\r\n\r\n")
        await client.reader.readuntil(b"data: 1")
        client.writer.transport.abort()
        while seen["endless"] != "ended":  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_idle_connections_are_closed_and_busy_ones_are_not(tmp_path: Path) -> None:
    async with served(tmp_path, http__keep_alive_s=0.3) as port:
        client, started = await Client.to(port), asyncio.get_running_loop().time()
        for _ in range(5):
            client.send(b"GET /plain HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await client.answer())[0] == 200
            await asyncio.sleep(0.1)
        assert await client.closed()
        assert asyncio.get_running_loop().time() - started > 0.65


async def test_the_peer_is_known_and_proxies_are_believed_where_trusted(tmp_path: Path) -> None:
    asked = b"GET /peer HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Proto: https\r\n\r\n"
    async with served(tmp_path) as port:
        client = await Client.to(port)
        client.send(asked)
        own = client.writer.get_extra_info("sockname")
        assert json.loads((await client.answer())[2]) == {"client": [*own], "scheme": "http", "root": ""}
    async with served(tmp_path, http__trusted_proxies=["127.0.0.0/8"]) as port:
        client = await Client.to(port)
        client.send(asked)
        found = json.loads((await client.answer())[2])
        assert (found["client"][0], found["scheme"]) == ("9.9.9.9", "https")


async def test_a_reader_that_is_slow_holds_up_nobody_and_loses_nothing(tmp_path: Path) -> None:
    """Thousands of pipelined answers to a client that does not read: the server stops reading from it."""
    async with served(tmp_path) as port:
        sock = socket.create_connection(("127.0.0.1", port))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader, writer = await asyncio.open_connection(sock=sock, limit=2**16)
        many = 5000
        writer.write(b"GET /plain HTTP/1.1\r\nHost: x\r\n\r\n" * many)
        other = await Client.to(port)
        other.send(b"GET /plain HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await other.answer())[0] == 200
        client = Client(reader, writer)
        for _ in range(many):
            assert (await client.answer())[0] == 200


async def test_an_answered_request_leaves_nothing_to_the_collector(tmp_path: Path) -> None:
    """A circle of references per request costs a third of the throughput in collections."""
    async with served(tmp_path) as port:
        client = await Client.to(port)
        gc.collect()
        gc.disable()
        before = {
            id(found): found for found in exchanges_and_requests()
        }  # errors in other tests' marks keep some
        try:
            for path in (b"/plain", b"/things/a", b"/pieces") * 10:
                client.send(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path)
                assert (await client.answer())[0] == 200
            client.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nok")
            assert (await client.answer())[2] == b"ok"
            alive = [found for found in exchanges_and_requests() if id(found) not in before]
        finally:
            gc.enable()
        assert len(alive) <= 1, alive  # the connection keeps its last exchange


def exchanges_and_requests() -> list[object]:
    """All there are in this process, whoever made them."""
    return [found for found in gc.get_objects() if isinstance(found, Exchange | Request)]
