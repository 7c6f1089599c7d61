"""Load on one server from one task per connection: closed (as fast as answers come) or open (arrivals do not wait).

Bare sockets, since what makes the load must not be what is measured: a request is bytes that were made before.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ended:
    """One request: what it was, its status (0: no answer in time), when it was meant to start (monotonic), and seconds from
    then to its end."""

    kind: str
    status: int
    due: float
    took_s: float


Requests = Iterator[tuple[str, bytes]]
"""Endless: kind and bytes of the next request."""


class Load:
    """``patience_s`` is how long a client waits for its answer."""

    def __init__(self, port: int, *, patience_s: float = 2.0) -> None:
        self._port, self._patience_s = port, patience_s
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def closed(self, requests: Requests, *, connections: int, seconds: float) -> list[Ended]:
        """Each connection sends its next request when the last one is answered."""
        ended: list[Ended] = []
        end = time.monotonic() + seconds

        async def client() -> None:
            while (now := time.monotonic()) < end:
                ended.append(await self._send(*next(requests), now))

        await asyncio.gather(*(client() for _ in range(connections)))
        return ended

    async def open(self, requests: Requests, *, rate: float, seconds: float) -> list[Ended]:
        """``rate`` requests a second, whatever becomes of them."""
        begun = time.monotonic()
        tasks: list[asyncio.Task[Ended]] = []
        for number in range(int(rate * seconds)):
            due = begun + number / rate
            if (ahead := due - time.monotonic()) > 0:
                await asyncio.sleep(ahead)
            tasks.append(asyncio.create_task(self._send(*next(requests), due)))
        return await asyncio.gather(*tasks)

    def stop(self) -> None:
        """Close what is open."""
        for _, writer in self._idle:
            writer.close()
        self._idle.clear()

    async def _send(self, kind: str, request: bytes, due: float) -> Ended:
        status = 0
        with suppress(TimeoutError, OSError, EOFError):
            async with asyncio.timeout(self._patience_s - (time.monotonic() - due)):
                status = await self._exchange(request)
        return Ended(kind, status, due, time.monotonic() - due)

    async def _exchange(self, request: bytes) -> int:
        if self._idle:
            reader, writer = self._idle.pop()
        else:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
        except BaseException:
            writer.close()
            raise
        if b"connection: close" in head:
            writer.close()
        else:
            self._idle.append((reader, writer))
        return int(head[9:12])
