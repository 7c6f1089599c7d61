"""Sending by HTTP/1.1, through the connection pool underneath httpx2.

The pool asks us for every new connection; that is where the name is looked up, the addresses are judged, and a
connection is made to the very address that was judged. TLS then verifies the certificate against the name.
Proxies of the environment are not used: they would connect where nobody has looked.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

try:
    import httpcore2
except ImportError:
    from tenfold.errors import MissingExtra

    raise MissingExtra("sending webhooks needs httpx2.", remedy='pip install "tenfold[webhooks]"') from None

from tenfold.guard.addresses import IPAddress, Network, Place, networks, refusal
from tenfold.webhooks.contract import Answer, Sender

if TYPE_CHECKING:
    from tenfold._core.clock import Clock
    from tenfold._core.sections import WebhookSettings

CONNECTIONS_MAX = 100
IDLE_S = 15.0
BODY_KEPT = 1000
"""Characters of an answer that are kept for the log."""
ADDRESSES_MAX = 4
"""How many of a name's addresses are tried."""

_NO_ANSWER: tuple[type[Exception], ...] = (
    httpcore2.NetworkError,
    httpcore2.ProtocolError,
    httpcore2.TimeoutException,
    OSError,
)


class HttpSender(Sender):
    """See the module's docstring."""

    def __init__(
        self, settings: WebhookSettings, clock: Clock, *, context: ssl.SSLContext | None = None
    ) -> None:
        self._settings, self._clock = settings, clock
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=context or ssl.create_default_context(),
            max_connections=CONNECTIONS_MAX,
            max_keepalive_connections=CONNECTIONS_MAX,
            keepalive_expiry=IDLE_S,
            network_backend=Judged(networks(settings.allow)),
        )

    async def post(self, place: Place, headers: Mapping[str, str], body: bytes) -> Answer:
        begun = self._clock.monotonic()
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                answer = await self._post(place, headers, body)
        except TimeoutError:
            answer = Answer(error=f"There was no answer within {self._settings.timeout_s:g} s.")
        except _NO_ANSWER as error:
            answer = Answer(error=_sentence(error, place))
        took_ms = (self._clock.monotonic() - begun) * 1000
        return Answer(
            status=answer.status,
            error=answer.error,
            retry_after=answer.retry_after,
            body=answer.body,
            duration_ms=round(took_ms, 1),
        )

    async def stop(self) -> None:
        await self._pool.aclose()

    async def _post(self, place: Place, headers: Mapping[str, str], body: bytes) -> Answer:
        url = httpcore2.URL(scheme=place.scheme, host=place.host, port=place.port, target=place.target)
        sent = [(b"host", place.authority.encode()), (b"content-length", b"%d" % len(body))]
        sent += [(name.encode(), value.encode()) for name, value in headers.items()]
        async with self._pool.stream("POST", url, headers=sent, content=body) as response:
            given = {name.lower(): value for name, value in response.headers}
            return Answer(
                status=response.status,
                retry_after=given.get(b"retry-after", b"").decode("latin-1")[:100],
                body=await self._beginning(response),
            )

    async def _beginning(self, response: httpcore2.Response) -> str:
        """What fits of the answer; the connection is closed when there is more."""
        kept, read = bytearray(), 0
        async for piece in response.aiter_stream():
            kept += piece[: BODY_KEPT * 4 - len(kept)]
            read += len(piece)
            if read > self._settings.answer_max_bytes:
                break
        text = kept.decode("utf-8", "replace")[:BODY_KEPT]
        return "".join(char if char.isprintable() else " " for char in text).strip()


class Judged(httpcore2.AsyncNetworkBackend):
    """Connections to judged addresses only."""

    def __init__(self, allowed: Sequence[Network]) -> None:
        self._allowed = allowed
        self._plain: Any = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the signature of the pool
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        failure: Exception | None = None
        for address in self._fit(await look_up(host, port), host):
            try:
                stream: httpcore2.AsyncNetworkStream = await self._plain.connect_tcp(
                    str(address), port, timeout, local_address, socket_options
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
        reason = refusal(found[0], self._allowed) if found else "no address is known for it."
        raise httpcore2.ConnectError(f"{host}: {reason}")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


async def look_up(host: str, port: int) -> list[IPAddress]:
    """The addresses that a name stands for now. Raises OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [ipaddress.ip_address(str(address[0]).partition("%")[0]) for *_, address in found]
    return list(dict.fromkeys(addresses))


def _sentence(error: Exception, place: Place) -> str:
    match error:
        case socket.gaierror():
            return f"The name {place.host} is not known ({error.strerror})."
        case httpcore2.ConnectTimeout():
            return f"{place.authority} did not take the connection in time."
        case httpcore2.ConnectError() | OSError():
            return f"{place.authority} could not be connected to: {error}"
        case _:
            return f"{place.authority} broke the connection off: {error or type(error).__name__}"
