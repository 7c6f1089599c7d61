"""A TCP proxy that fails on demand: delay, blackhole, refusal, reset, a cut after so many bytes.

It runs in a thread of its own, so that it goes on while the loop of a test is busy, and the other way round.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager, suppress
from typing import Any, Self, TypeVar

T = TypeVar("T")


class Proxy:
    """Forwards ``127.0.0.1:port`` to ``127.0.0.1:target``. Use it as a context manager."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.accepted = 0
        """Connections so far."""
        self.delay_s = 0.0
        """Added to every piece in either direction."""
        self._cut_after: int | None = None
        self._open = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: asyncio.Server | None = None
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def through(self, url: str) -> str:
        """``url`` with the proxy in place of the server."""
        return url.replace(f"127.0.0.1:{self.target}", self.address)

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._listen())
        self._open.set()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.set()
        self._do(self._shut(reset=True))
        self._do(self._end_tasks())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # ── faults ──

    @contextmanager
    def blackhole(self) -> Generator[None]:
        """Inside, connections are accepted and nothing goes through, as in a network that swallows packets."""
        self._call(self._open.clear)
        try:
            yield
        finally:
            self._call(self._open.set)

    @contextmanager
    def refusing(self) -> Generator[None]:
        """Inside, nobody listens, and the connections that there were are reset."""
        self._do(self._shut(reset=True))
        try:
            yield
        finally:
            self._do(self._listen())

    def reset(self) -> None:
        """Break every open connection with RST; new ones work."""
        self._do(self._break())

    def cut_after(self, bytes_: int | None) -> None:
        """Reset the connection that next receives so many bytes more from the server. None: no more cuts."""
        self._cut_after = bytes_

    # ── inside ──

    def _call(self, fn: Callable[[], None]) -> None:
        async def call() -> None:
            fn()

        self._do(call())

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _shut(self, *, reset: bool) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        if reset:
            await self._break()

    async def _break(self) -> None:
        for pair in list(self._pairs):
            for writer in pair:
                _reset(writer)

    async def _end_tasks(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            await self._open.wait()
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            _reset(writer)
            return
        pair = (writer, far_writer)
        self._pairs.add(pair)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, far_writer, counted=False))
                group.create_task(self._pump(far_reader, writer, counted=True))
        except* OSError:
            pass
        finally:
            self._pairs.discard(pair)
            for end in pair:
                _reset(end)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, counted: bool
    ) -> None:
        while data := await reader.read(65_536):
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            await self._open.wait()
            if counted and self._cut_after is not None:
                if len(data) >= self._cut_after:
                    left, self._cut_after = self._cut_after, None
                    writer.write(data[:left])
                    await writer.drain()
                    raise ConnectionResetError
                self._cut_after -= len(data)
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError  # one side has ended: so does the other


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    if sock is not None:
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
