"""Requests whose headers are those of the one before are not parsed again: nobody must be able to tell."""

from __future__ import annotations

import asyncio
import random
import re
import socket
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path
from typing import Any

import pytest

from support.listening import listening
from tenfold import App, Request, Service, public
from tenfold.runtime import protocol

pytestmark = pytest.mark.anyio

service = Service("again", auth=public)


@service.get("/seen/{name}")
async def seen(request: Request, name: str, q: str = "") -> dict[str, Any]:
    if q == "slow":
        await asyncio.sleep(0.01)
    told = {
        "name": name, "q": q, "method": request.method, "headers": [f"{n!r} {v!r}" for n, v in request.raw_headers],
        "by_name": sorted(map(repr, request.header_bytes.items())), "body": (await request.body()).decode("latin-1"),
    }  # fmt: skip
    request.raw_headers.append((b"x-left", b"behind"))
    request.header_bytes[b"x-left"] = b"behind"
    return told


@service.get("/mute/{name}")
async def mute(name: str) -> str:
    """Leaves a body alone."""
    return name


@service.post("/seen/{name}", status=200)
async def posted(request: Request, name: str) -> dict[str, Any]:
    return {"name": name, "body": (await request.body()).decode("latin-1")}


def served(tmp_path: Path) -> AbstractAsyncContextManager[int]:
    return listening(App("again", [service]), tmp_path, http__header_max_bytes=4_000)


async def said(port: int, pieces: list[bytes]) -> list[bytes]:
    """What the server says to them, each in a packet of its own, until the connection ends; without what tells of the
    moment."""
    loop, answer = asyncio.get_running_loop(), bytearray()
    with socket.socket() as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, ("127.0.0.1", port))

        async def read() -> None:
            with suppress(OSError):
                while data := await loop.sock_recv(sock, 65_536):
                    answer.extend(data)

        reading = asyncio.create_task(read())
        with suppress(OSError):  # the server may have closed
            for piece in pieces:
                await loop.sock_sendall(sock, piece)
                await asyncio.sleep(0.004)
            size = -1
            while size != len(answer):  # until all that it owes is here
                size = len(answer)
                await asyncio.sleep(0.25)
            sock.shutdown(socket.SHUT_WR)
        await reading
    plain = re.sub(
        rb'(?i)date: [^\r]*|content-length: [0-9]+|"request_id":"[^"]*"|x-request-id: [^\r]*',
        b"",
        bytes(answer),
    )
    return plain.split(b"HTTP/1.1 ")


HOST = b"Host: a\r\n"
BLOCKS = [
    HOST, HOST + b"Authorization: Bearer " + b"x" * 300 + b"\r\n", HOST + b"Connection: keep-alive\r\nAccept: */*\r\n",
    HOST + b"Cookie: a=1\r\nCookie: b=2\r\n", b"hOsT: a\r\nX-Empty:\r\nX-Space:  y \r\n", HOST + b"Content-Length: 0\r\n",
    HOST + b"Content-Length: 3\r\n", HOST + b"Transfer-Encoding: chunked\r\n", HOST + b"Connection: close\r\n", b"",
    HOST + HOST, HOST + b"Upgrade: websocket\r\nConnection: Upgrade\r\n", HOST + b"Expect: 100-continue\r\n",
    HOST + b"X-Fold: a\r\n b\r\n", HOST + b"X-Bare: a\n", HOST + b"X-Nul: \0\r\n", HOST + b"X-Long: " + b"y" * 4_050 + b"\r\n",
    HOST + b"X: GET /seen/smuggled HTTP/1.1\r\n",
]  # fmt: skip
USUAL = 5
"""The first of them are such as may be repeated."""
WITH_BODY = BLOCKS[USUAL : USUAL + 3]
LINES = [
    b"GET /seen/%d HTTP/1.1", b"GET /seen/%d?q=v%d HTTP/1.1", b"HEAD /seen/%d HTTP/1.1", b"GET /seen/%d?q=slow HTTP/1.1", b"GET /mute/%d HTTP/1.1", b"GET /seen/%d\"<>|{}^` HTTP/1.1",
    b"GET /seen/%d%20x HTTP/1.1", b"GET /seen/%d#x HTTP/1.1", b"GET /seen/%d HTTP/1.0", b"GET /seen/%d HTTP/1.2",
    b"GET  /seen/%d HTTP/1.1", b"GET /seen/%d  HTTP/1.1", b"GET /seen/%d HTTP/1.1 ", b"GET\t/seen/%d HTTP/1.1", b"get /seen/%d HTTP/1.1",
    b"POST /seen/%d HTTP/1.1", b"DELETE /seen/%d HTTP/1.1", b"OPTIONS /seen/%d HTTP/1.1", b"GET http://a/seen/%d HTTP/1.1", b"GET /none/%d HTTP/1.1",
    b"GET /seen/%d\xc3\xa4 HTTP/1.1", b"GET /seen/%d\r HTTP/1.1", b"GET /seen/%d\n HTTP/1.1", b"GET /seen/%d", b"GET * HTTP/1.1",
    b"GET /seen/%d HTTP/1.1\r\nX-First: 1", b"\r\nGET /seen/%d HTTP/1.1", b"GET /seen/%d\0 HTTP/1.1", b"GET /a/../seen/%d HTTP/1.1",
    b"GET //seen/%d HTTP/1.1", b"GET /seen/%d/ HTTP/1.1", b"GET /seen/%d;p?x HTTP/1.1", b"G", b"",
]  # fmt: skip


def line_of(rng: random.Random, number: int, *, odd: bool) -> bytes:
    chosen = rng.choice(LINES if odd else LINES[:6])
    return chosen.replace(b"%d", b"%d" % number)


def conversation(rng: random.Random) -> list[bytes]:
    """What repeats itself, then something else, mostly with the same headers, and that again."""
    pieces: list[bytes] = []
    block = rng.choice(BLOCKS[:USUAL])
    for number in range(rng.randrange(4, 10)):
        if rng.random() < 0.15:
            block = rng.choice(rng.choice([BLOCKS, WITH_BODY]))
        odd = number > 2 and rng.random() < 0.5
        message = line_of(rng, number, odd=odd) + b"\r\n" + block + b"\r\n"
        match rng.randrange(3, 6) if not odd else rng.randrange(8):
            case 0:
                message += line_of(rng, 90, odd=odd) + b"\r\n" + block + b"\r\n"  # two in one packet
            case 1:
                cut = rng.randrange(len(message))
                pieces.append(message[:cut])
                message = message[cut:]
            case 2:
                message += rng.choice([b"abc", b"3\r\nabc\r\n0\r\n\r\n", b"\r\n", b"\0"])
        pieces.append(message)
    if any(
        b"slow" in piece for piece in pieces
    ):  # whether a handshake overtakes an answer is a matter of time
        pieces = [piece.replace(b"Upgrade: websocket", b"X-Not: websocket") for piece in pieces]
    return pieces


async def compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> tuple[int, list[list[bytes]]]:
    """How many requests of some conversations were not parsed, and in which of these somebody could tell, each time."""
    rng = random.Random(seed)
    different = [conversation(rng) for _ in range(60)]
    hits = 0
    answer_again = protocol.Protocol._answer_again

    def counted(it: protocol.Protocol, data: bytes, end: int) -> bool:
        nonlocal hits
        found = answer_again(it, data, end)
        hits += found
        return found

    monkeypatch.setattr(protocol.Protocol, "_answer_again", counted)
    async with served(tmp_path) as port:
        for _ in range(3):  # a machine that stops joins packets, which may be two other requests then
            with monkeypatch.context() as patch:
                patch.setattr(protocol.Protocol, "_tries", 0)
                always_parsed = await asyncio.gather(*(said(port, pieces) for pieces in different))
            repeated = await asyncio.gather(*(said(port, pieces) for pieces in different))
            told = zip(different, always_parsed, repeated, strict=True)
            different = [pieces for pieces, one, other in told if one != other]
            if not different:
                break
    return hits, different


@pytest.mark.parametrize("seed", range(6))
async def test_a_server_that_parses_everything_says_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    hits, different = await compared(tmp_path, monkeypatch, seed)
    assert different == []
    assert hits  # how many depends on how the system joins packets


async def answered(port: int, requests: list[bytes]) -> list[tuple[int, bytes]]:
    """Status and body of each, which is sent when the one before has been answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answers: list[tuple[int, bytes]] = []
    for request in requests:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        answers.append((int(head[9:12]), await reader.readexactly(length)))
    writer.close()
    return answers


ANNOUNCED = b"GET /mute/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"
ENCODED = b"GET /mute/%41 HTTP/1.1\r\nHost: a\r\n\r\n"
TELLING = [
    ("_UNLIKE_OTHERS", frozenset[bytes](), [ANNOUNCED, ANNOUNCED], (400, 200)),
    ("_LINE", re.compile(rb"(GET|HEAD) (/[^\r]*) HTTP/1\.1"), [ENCODED.replace(b"%41", b"1"), ENCODED], (b'"A"', b'"%41"')),
]  # fmt: skip


@pytest.mark.parametrize(("name", "broken", "requests", "told"), TELLING, ids=("bodies", "targets"))
async def test_who_remembers_bodies_or_takes_any_target_is_convicted(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    broken: object,
    requests: list[bytes],
    told: Any,
) -> None:
    right, wrong = told
    async with served(tmp_path) as port:
        assert right in (await answered(port, requests))[-1]
        monkeypatch.setattr(protocol, name, broken)
        assert wrong in (await answered(port, requests))[-1]


async def test_who_waits_for_each_answer_is_parsed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[bytes] = []
    on_url = protocol.Protocol.on_url

    def counted(it: protocol.Protocol, url: bytes) -> None:
        parsed.append(url)
        on_url(it, url)

    monkeypatch.setattr(protocol.Protocol, "on_url", counted)
    head = b" HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer x\r\n\r\n"
    async with served(tmp_path) as port:
        answers = await answered(port, [b"GET /mute/%d" % number + head for number in range(20)])
    assert answers == [(200, b'"%d"' % number) for number in range(20)]
    assert parsed == [b"/mute/0"]


async def test_headers_that_change_each_time_are_soon_remembered_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remembered: list[int] = []
    remember = protocol.Protocol._remember

    def counted(it: protocol.Protocol, data: bytes, by_name: dict[bytes, bytes]) -> None:
        remembered.append(len(data))
        remember(it, data, by_name)

    monkeypatch.setattr(protocol.Protocol, "_remember", counted)
    async with served(tmp_path) as port:
        head = b"GET /mute/%d HTTP/1.1\r\nHost: a\r\nX: %d\r\n\r\n"
        answers = await answered(port, [head % (number, number) for number in range(50)])
    assert [status for status, _ in answers] == [200] * 50
    assert len(remembered) == protocol.REPEAT_TRIES
