"""What only a real server and a real socket can show."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import uvicorn

from tenfold._core.sections import HttpSettings
from tenfold.http.asgi import HttpApp
from tenfold.http.operation import Operation, Policies
from tenfold.http.stream import Stream
from tenfold.security.policy import public


def operation(fn: Callable[..., Any], method: str, path: str, **policies: Any) -> Operation[..., Any]:
    return Operation(fn, service="s", method=method, path=path, policies=Policies(auth=public, **policies))


@asynccontextmanager
async def served(app: HttpApp, port: int) -> AsyncIterator[int]:
    config = uvicorn.Config(app, port=port, log_level="critical", lifespan="on")
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn tells by a flag only
        await asyncio.sleep(0.005)
    try:
        yield port
    finally:
        server.should_exit = True
        await task


async def raw(port: int, request: bytes) -> bytes:
    """The whole answer to bytes on a socket of their own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    async with asyncio.timeout(5):
        answer = await reader.read()
    writer.close()
    return answer


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await main()

    asyncio.run(bounded())


async def read(name: str, q: str = "") -> list[str]:
    return [name, q]


async def place(order: dict[str, int]) -> int:
    return len(order)


def test_bytes_that_are_no_text_get_problem_documents(free_port: int) -> None:
    app = HttpApp([operation(read, "GET", "/r/{name}"), operation(place, "POST", "/p")])

    async def main() -> None:
        async with served(app, free_port) as port:
            for target, status in [
                (b"/r/a%2Fb?q=%C3%A9", b"200"), (b"/r/%ff", b"400"), (b"/r/a?q=%ff", b"400"), (b"/r//", b"404"),
                (b"/r/" + b"x" * 9000, b"414"), (b"/r/%00", b"400"),
            ]:  # fmt: skip
                answer = await raw(
                    port, b"GET " + target + b" HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
                )
                assert answer.startswith(b"HTTP/1.1 " + status), (target, answer)
            big = b"".join(b"x-%d: %s\r\n" % (i, b"y" * 1000) for i in range(20))
            answer = await raw(port, b"GET /r/a HTTP/1.1\r\nhost: x\r\nconnection: close\r\n" + big + b"\r\n")
            assert answer.startswith(b"HTTP/1.1 431")

    run(main)


def test_a_client_that_hangs_up_cancels_its_handler_and_its_stream(free_port: int) -> None:
    ended: dict[str, asyncio.Event] = {"handler": asyncio.Event(), "stream": asyncio.Event()}
    begun: dict[str, asyncio.Event] = {"handler": asyncio.Event(), "stream": asyncio.Event()}

    async def slow() -> None:
        begun["handler"].set()
        try:
            await asyncio.sleep(60)
        finally:
            ended["handler"].set()

    async def endless() -> Stream:
        async def pieces() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield b"x"
                    begun["stream"].set()
                    await asyncio.sleep(0.01)
            finally:
                ended["stream"].set()

        return Stream(pieces())

    app = HttpApp([operation(slow, "GET", "/handler"), operation(endless, "GET", "/stream")])

    async def main() -> None:
        async with served(app, free_port) as port:
            for name in ("handler", "stream"):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"GET /" + name.encode() + b" HTTP/1.1\r\nhost: x\r\n\r\n")
                await begun[name].wait()
                writer.close()
                async with asyncio.timeout(5):
                    await ended[name].wait()
            assert not app.sweeper.inflight

    run(main)


def test_a_body_that_comes_too_slowly_is_408_and_a_handler_too_slow_504(free_port: int) -> None:
    async def slow() -> None:
        await asyncio.sleep(60)

    app = HttpApp(
        [operation(place, "POST", "/p"), operation(slow, "GET", "/slow", timeout_s=0.1)],
        settings=HttpSettings(body_timeout_s=0.15),
    )

    async def main() -> None:
        async with served(app, free_port) as port:
            head = b"POST /p HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{"
            assert (await raw(port, head)).startswith(b"HTTP/1.1 408")
            slow = b"GET /slow HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
            assert (await raw(port, slow)).startswith(b"HTTP/1.1 504")

    run(main)
