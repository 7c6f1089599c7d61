"""HTTP/1.1 through the connection pool underneath httpx2, to judged addresses only.

Proxies of the environment are not used: they would connect where nobody has looked.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

try:
    import httpcore2
except ImportError:
    from tenfold.errors import MissingExtra

    raise MissingExtra("calls out need httpx2.", remedy='pip install "tenfold[client]"') from None

from tenfold.client.contract import (
    BrokenOff,
    Headers,
    Incoming,
    Outgoing,
    Slow,
    Transport,
    Unanswered,
    Unreachable,
    Unreached,
    framing,
)
from tenfold.client.network import Judged, Lookup, Resolver

if TYPE_CHECKING:
    from collections.abc import Generator

    from tenfold.guard.addresses import Network, Place

IDLE_S = 15.0
"""A connection that was not used for so long is closed: less than most servers keep theirs."""


class HttpTransport(Transport):
    """See the module's docstring. At most ``idle_max`` connections are kept for later calls; how many are in use is up
    to who calls. ``resolver`` is asked for every connection; the system's by default."""

    def __init__(
        self,
        allowed: Sequence[Network],
        *,
        idle_max: int = 100,
        context: ssl.SSLContext | None = None,
        resolver: Resolver | None = None,
    ) -> None:
        self._lookup = Lookup()
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=context or _verifying(),
            max_connections=None,
            max_keepalive_connections=idle_max,
            keepalive_expiry=IDLE_S,
            network_backend=Judged(allowed, resolver or self._lookup),
        )

    async def send(self, request: Outgoing) -> Incoming:
        place = request.place
        headers = [(b"host", place.authority.encode())]
        headers += framing(request)
        headers += [(name.encode("latin-1"), value.encode("latin-1")) for name, value in request.headers]
        with _explained(place):
            response = await self._pool.handle_async_request(
                httpcore2.Request(
                    request.method,
                    httpcore2.URL(scheme=place.scheme, host=place.host, port=place.port, target=place.target),
                    headers=headers,
                    content=request.content,
                    extensions={
                        "timeout": {
                            "connect": request.connect_timeout_s,
                            "read": request.read_timeout_s,
                            "write": request.read_timeout_s,
                        }
                    },
                )
            )
        return _Incoming(response, place)

    async def stop(self) -> None:
        self._lookup.stop()
        await self._pool.aclose()


class _Incoming(Incoming):
    def __init__(self, response: httpcore2.Response, place: Place) -> None:
        self.status = response.status
        self.headers: Headers = [
            (name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in response.headers
        ]
        self._response, self._place = response, place

    async def pieces(self) -> AsyncGenerator[bytes]:
        with _explained(self._place):
            stream: Any = self._response.aiter_stream()
            async with aclosing(stream):
                async for piece in stream:
                    yield piece

    async def close(self) -> None:
        await self._response.aclose()


@lru_cache(maxsize=1)
def _verifying() -> ssl.SSLContext:
    """One for all: reading the certificates of the system takes long."""
    return ssl.create_default_context()


@contextmanager
def _explained(place: Place) -> Generator[None]:
    try:
        yield
    except Unanswered:
        raise
    except (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException, OSError) as error:
        raise _sentence(error, place) from error


def _sentence(error: Exception, place: Place) -> Unanswered:
    match error:
        case socket.gaierror():
            return Unreached(f"The name {place.host} is not known ({error.strerror}).")
        case httpcore2.ConnectTimeout():
            return Unreachable(f"{place.authority} did not take the connection in time.")
        case httpcore2.ConnectError():
            return Unreached(f"{place.authority} could not be connected to: {error}")
        case httpcore2.TimeoutException():
            return Slow(f"{place.authority} sent nothing for as long as is waited.")
        case _:
            return BrokenOff(f"{place.authority} broke the connection off: {error or type(error).__name__}")
