"""Connections to judged addresses only, for the pool underneath httpx2.

The pool asks us for every new connection; that is where the name is looked up, the addresses are judged, and a
connection is made to the very address that was judged. There is no second look-up that could answer otherwise (DNS
rebinding). TLS then verifies the certificate against the name.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpcore2

from tenfold.client.contract import Forbidden
from tenfold.guard.addresses import IPAddress, Network, refusal

ADDRESSES_MAX = 4
"""How many of a name's addresses are tried."""
LOOKUPS_MAX = 4
"""Names looked up at a time by one client. Each has a thread, which a name server that is away holds for long."""

Resolver = Callable[[str, int], Awaitable[Sequence[IPAddress]]]
"""The addresses that a name stands for now. Raises OSError."""


class Lookup:
    """Asks the system, in threads of its own: those of the event loop are for others."""

    def __init__(self) -> None:
        self._threads: ThreadPoolExecutor | None = None
        self._asked: dict[tuple[str, int], asyncio.Future[Sequence[IPAddress]]] = {}
        """Who asks for the same name at the same time gets the same answer; nobody gets an older one."""

    async def __call__(self, host: str, port: int) -> Sequence[IPAddress]:
        try:
            return [ipaddress.ip_address(host)]
        except ValueError:
            pass
        asked = self._asked.get((host, port))
        if asked is None:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(LOOKUPS_MAX, thread_name_prefix="tenfold-lookup")
            asked = asyncio.get_running_loop().run_in_executor(self._threads, _addresses, host, port)
            self._asked[host, port] = asked
            asked.add_done_callback(lambda _: self._asked.pop((host, port), None))
        return await asyncio.shield(asked)

    def stop(self) -> None:
        """Wait for no look-up that hangs."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None


def _addresses(host: str, port: int) -> Sequence[IPAddress]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [ipaddress.ip_address(str(address[0]).partition("%")[0]) for *_, address in found]
    return list(dict.fromkeys(addresses))


class Judged(httpcore2.AsyncNetworkBackend):
    """See the module's docstring. ``allowed`` are the networks that are fit although they are not public."""

    def __init__(self, allowed: Sequence[Network], resolver: Resolver) -> None:
        self._allowed, self._resolver = allowed, resolver
        self._plain: Any = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the signature of the pool
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        try:
            async with asyncio.timeout(timeout):
                fit = self._fit(await self._resolver(host, port), host)
                return await self._first(fit, port, timeout, local_address, socket_options)
        except TimeoutError:
            raise httpcore2.ConnectTimeout from None

    async def _first(
        self, fit: Sequence[IPAddress], port: int, seconds: float | None, *more: Any
    ) -> httpcore2.AsyncNetworkStream:
        """The first that takes the connection. Each but the last may use up half of the time that there was for it, so
        that one that swallows packets does not keep the next from being tried."""
        failure: Exception | None = None
        for address in fit:
            if seconds is not None and address is not fit[-1]:
                seconds /= 2
            try:
                stream: httpcore2.AsyncNetworkStream = await self._plain.connect_tcp(
                    str(address), port, seconds, *more
                )
                return stream
            except (httpcore2.NetworkError, httpcore2.TimeoutException) as error:
                failure = error
        assert failure is not None
        raise failure

    def _fit(self, found: Sequence[IPAddress], host: str) -> Sequence[IPAddress]:
        fit = [address for address in found if not refusal(address, self._allowed)]
        if fit:
            return fit[:ADDRESSES_MAX]
        if not found:
            raise httpcore2.ConnectError("no address is known for it.")
        raise Forbidden(f"{host}: {refusal(found[0], self._allowed)}")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
