"""How a gateway sends to a service: whatever comes back is an answer, or an error with a sentence; and what may be used again is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from tenfold.client.contract import BrokenOff, Outgoing, Slow, Unanswered, Unreached
from tenfold.gateway.transport import AHEAD_MAX_BYTES, HEAD_MAX_BYTES, PassingTransport
from tenfold.guard.addresses import Place

pytestmark = pytest.mark.anyio

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Service:
    """Answers each request with ``answer`` once ``until`` has come; then ends the connection if ``ends``."""

    def __init__(self, answer: bytes = OK, *, until: bytes = b"\r\n\r\n", ends: bool = False) -> None:
        self.answer, self.until, self.ends = answer, until, ends
        self.got = bytearray()
        self.connections = 0
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                self.got += await reader.readuntil(self.until)
                writer.write(self.answer)
                await writer.drain()
                if self.ends:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()


@asynccontextmanager
async def between(service: Service) -> AsyncGenerator[Callable[..., Outgoing]]:
    server = await asyncio.start_server(service.serve, "127.0.0.1", 0)
    service.port = server.sockets[0].getsockname()[1]
    place = Place("http", "127.0.0.1", service.port, "/a")

    def asked(method: str = "GET", **more: object) -> Outgoing:
        said = {"connect_timeout_s": 5.0, "read_timeout_s": 5.0, **more}
        return Outgoing(method=method, place=place, **said)  # type: ignore[arg-type]

    try:
        yield asked
    finally:
        server.close()


async def answered(transport: PassingTransport, request: Outgoing) -> tuple[int, bytes]:
    incoming = await transport.send(request)
    try:
        return incoming.status, b"".join([piece async for piece in incoming.pieces()])
    finally:
        await incoming.close()


@pytest.mark.parametrize(
    ("method", "answer", "ends", "expected", "connections"),
    [
        ("GET", OK, False, (200, b"ok"), 1),
        ("GET", b"HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n" + OK, False, (200, b"ok"), 1),
        ("GET", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n", False, (200, b"ok"), 1),
        ("GET", b"HTTP/1.1 200 OK\r\n\r\nto the end", True, (200, b"to the end"), 2),
        ("GET", b"HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\n\r\n", False, (304, b""), 1),
        ("HEAD", b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n", False, (200, b""), 1),
        ("GET", b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok", False, (200, b"ok"), 2),
        ("HEAD", OK, False, (200, b""), 2),  # what nobody asked for is not the next answer
        ("GET", OK + b"HTTP/1.1 500 Mine\r\ncontent-length: 0\r\n\r\n", False, (200, b"ok"), 2),
    ],
)  # fmt: skip
async def test_an_answer_is_read_to_its_end_and_the_connection_used_again_where_it_may_be(
    method: str, answer: bytes, ends: bool, expected: tuple[int, bytes], connections: int
) -> None:
    service, transport = Service(answer, ends=ends), PassingTransport(idle_max=4)
    async with between(service) as asked:
        assert [await answered(transport, asked(method)) for _ in range(2)] == [expected, expected]
        assert service.connections == connections
        await transport.stop()


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        (b"", BrokenOff, "ended before its answer"),
        (b"220 smtp.example ready\r\n", BrokenOff, "broke the connection off"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok", BrokenOff, "ended before its answer"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n", BrokenOff, "ended before its answer"),
        (b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", BrokenOff, "broke the"),
        (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * (HEAD_MAX_BYTES // 6), BrokenOff, "its head has more than 131,072"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok", BrokenOff, "broke the connection"),
    ],
)  # fmt: skip
async def test_what_is_no_answer_is_an_error_with_a_sentence(
    answer: bytes, error: type[Unanswered], said: str
) -> None:
    transport = PassingTransport(idle_max=4)
    async with between(Service(answer, ends=True)) as asked:
        with pytest.raises(error, match=said):
            await answered(transport, asked())
    with pytest.raises(Unreached, match="could not be connected to"):
        await answered(transport, asked())


async def test_a_body_is_no_longer_sent_once_there_is_an_answer_and_the_connection_not_used_again() -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield b"x" * 1000
            await asyncio.sleep(0)

    service, transport = Service(OK.replace(b"200 OK", b"413 No")), PassingTransport(idle_max=4)
    async with between(service) as asked, asyncio.timeout(10):
        assert await answered(transport, asked("POST", content=endless())) == (413, b"ok")
        after = sent
        await asyncio.sleep(0.02)
        assert sent == after
        assert await answered(transport, asked("POST", content=b"a")) == (413, b"ok")
        assert service.connections == 2
        await transport.stop()


async def test_a_body_of_known_length_and_one_in_pieces_arrive_whole_and_their_reader_is_heard() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"ab"
        yield b""
        yield b"END"

    async def fails() -> AsyncIterator[bytes]:
        yield b"a"
        raise LookupError("the client went away")

    service, transport = Service(until=b"END"), PassingTransport(idle_max=4)
    async with between(service) as asked, asyncio.timeout(10):
        assert await answered(transport, asked("PUT", content=pieces(), length=5)) == (200, b"ok")
        assert service.got.endswith(b"content-length: 5\r\n\r\nabEND")
        assert await answered(transport, asked("PUT", content=pieces())) == (200, b"ok")
        assert service.got.endswith(b"transfer-encoding: chunked\r\n\r\n2\r\nab\r\n3\r\nEND")
        with pytest.raises(LookupError):
            await answered(transport, asked("PUT", content=fails()))
        await transport.stop()


async def test_a_service_that_says_nothing_and_headers_that_would_be_two_are_told() -> None:
    transport = PassingTransport(idle_max=4)
    async with between(Service(until=b"never")) as asked:
        with pytest.raises(Slow, match="sent nothing for as long as is waited"):
            await answered(transport, asked(read_timeout_s=0.05))
        with pytest.raises(Unanswered, match="line break"):
            await answered(transport, asked(headers=[("a", "b\r\nc: d")]))
        await transport.stop()


async def test_a_service_is_not_read_faster_than_its_answer_is() -> None:
    size = 40 * AHEAD_MAX_BYTES
    service = Service(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size + b"x" * size)
    transport = PassingTransport(idle_max=4)
    async with between(service) as asked, asyncio.timeout(20):
        incoming = await transport.send(asked())
        held = incoming._connection  # type: ignore[attr-defined]
        for _ in range(20):
            await asyncio.sleep(0.005)
        assert held._ahead < 2 * AHEAD_MAX_BYTES
        assert sum([len(piece) async for piece in incoming.pieces()]) == size
        await incoming.close()
        assert await answered(transport, asked()) != (0, b"")
        assert service.connections == 1
        await transport.stop()
