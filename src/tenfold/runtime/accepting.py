"""Connections that wait are accepted together.

libuv accepts one connection in a turn of the event loop. While turns are long because requests compute, new clients would
come in one by one, in order of arrival, and hear after seconds that the server is full.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Any

ACCEPTS = 256
"""In one turn at most: more than come in a turn that is as long as a sudden overload makes it, and refusing them all takes
about as long as one request that computes."""


class Accepting:
    """Makes the protocols of a listening socket, as ``make`` does. Who comes first brings in those who wait behind him;
    where nobody does, that is one system call a connection."""

    def __init__(
        self,
        make: Callable[..., asyncio.Protocol],
        sock: socket.socket,
        tls: Callable[[], ssl.SSLContext | None],
    ) -> None:
        self._make, self._sock, self._tls = make, sock, tls
        self._entering: set[asyncio.Task[None]] = set()

    def __call__(self, **given: Any) -> asyncio.Protocol:
        for _ in range(ACCEPTS - 1):
            try:
                client, _ = self._sock.accept()
            except OSError:  # nobody else, no file left for one, or closed meanwhile
                break
            task = asyncio.get_running_loop().create_task(self._enter(client, given))
            self._entering.add(task)
            task.add_done_callback(self._entering.discard)
        return self._make(**given)

    async def _enter(self, client: socket.socket, given: dict[str, Any]) -> None:
        client.setblocking(False)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: self._make(**given), client, ssl=self._tls()
            )
        except OSError:  # it has gone, or cannot agree on TLS
            client.close()
