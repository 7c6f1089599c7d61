"""A link to Redis under a server that answers in pieces, late, half, or closes: each call gets its own reply or none."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import hiredis
import pytest

from tenfold._core.clock import SystemClock
from tenfold.cache.backends._redis_link import Address, RedisLink
from tenfold.cache.backends._store import StoreAway

pytestmark = pytest.mark.anyio

TIMEOUT_S = 0.05
ROUNDS, CALLS = 12, 25


class Server:
    """Answers a command with its last argument. What else happens is drawn from ``rng``."""

    def __init__(
        self, rng: random.Random, *, cut: float = 0.0, late: float = 0.0, dropped: float = 0.0
    ) -> None:
        self._rng = rng
        self._cut, self._late, self._dropped = cut, late, dropped
        self.cuts = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parser, greeted = hiredis.Reader(notEnoughData=None), False
        while data := await reader.read(65_536):
            parser.feed(data)
            while (command := parser.gets()) is not None:
                if not await self._answer(writer, command[-1], faulty=greeted):
                    writer.transport.abort()
                    return
                greeted = True
        writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, value: bytes, *, faulty: bool) -> bool:
        """False when the connection is to be cut, in the middle of the reply as often as not."""
        reply, rng = b"$%d\r\n%s\r\n" % (len(value), value), self._rng
        if faulty and rng.random() < self._dropped:
            return True
        if faulty and rng.random() < self._late:
            await asyncio.sleep(1.5 * TIMEOUT_S)
        if faulty and rng.random() < self._cut:
            self.cuts += 1
            writer.write(reply[: rng.randrange(len(reply))])
            await asyncio.sleep(0)
            return False
        middle = rng.randrange(len(reply))
        for piece in (reply[:middle], reply[middle:]):
            writer.write(piece)
            await asyncio.sleep(0)
        return True


@asynccontextmanager
async def linked(fake: Server, *, timeout_s: float = 5.0) -> AsyncGenerator[RedisLink]:
    server = await asyncio.start_server(fake.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    link = RedisLink(
        Address(f"redis://127.0.0.1:{port}", "cache.url"), SystemClock(), timeout_s=timeout_s, greeting=(),
        heartbeat_s=60.0, on_push=lambda _: None, on_up=lambda: None, serves="cache",
    )  # fmt: skip
    await link.start()
    try:
        yield link
    finally:
        await link.stop()
        server.close()


async def up(link: RedisLink) -> None:
    async with asyncio.timeout(10):
        while link.state != "up":  # noqa: ASYNC110 - it tells one listener only
            await asyncio.sleep(0.005)


async def rounds(link: RedisLink) -> tuple[int, int, int]:
    """How many calls got their own reply, none, and somebody else's."""
    own = none = others = 0
    for turn in range(ROUNDS):
        await up(link)
        names = [f"{turn}-{n}".encode() for n in range(CALLS)]
        calls = [link.call("ECHO", name) for name in names]
        async with asyncio.timeout(4):  # nobody waits for long, whatever the server does
            replies = await asyncio.gather(*calls, return_exceptions=True)
        for name, reply in zip(names, replies, strict=True):
            if isinstance(reply, BaseException):
                assert isinstance(reply, StoreAway), reply
                none += 1
            else:
                own, others = own + (reply == name), others + (reply != name)
    return own, none, others


async def test_replies_in_pieces_reach_who_asked() -> None:
    async with linked(Server(random.Random(1))) as link:
        assert await rounds(link) == (ROUNDS * CALLS, 0, 0)
        assert link.connections == 1


@pytest.mark.parametrize("seed", range(4))
async def test_a_connection_that_is_cut_gives_nobody_half_a_reply(seed: int) -> None:
    fake = Server(random.Random(seed), cut=0.02)
    async with linked(fake) as link:
        own, none, others = await rounds(link)
        assert others == 0
        assert own > 0
        assert none > 0
        await up(link)
        assert link.connections > fake.cuts > 0


@pytest.mark.parametrize("seed", range(2))
async def test_late_replies_reach_nobody_else(seed: int) -> None:
    async with linked(Server(random.Random(seed), late=0.02), timeout_s=TIMEOUT_S) as link:
        own, none, others = await rounds(link)
        assert others == 0
        assert own > 0
        assert none > 0
        assert link.stalls > 0


async def test_a_reply_that_is_left_out_is_found_out() -> None:
    """This is what the tests above look for; no server that speaks the protocol does it."""
    async with linked(Server(random.Random(1), dropped=0.05), timeout_s=TIMEOUT_S) as link:
        names = [f"{n}".encode() for n in range(200)]
        replies = await asyncio.gather(*(link.call("ECHO", name) for name in names), return_exceptions=True)
        assert any(isinstance(r, bytes) and r != name for name, r in zip(names, replies, strict=True))
