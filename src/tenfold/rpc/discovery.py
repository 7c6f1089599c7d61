"""Where a service is: from settings, from addresses of a name (A, AAAA), from SRV records.

Settings are read at start. Names are looked up when they are first needed, and again ``FRESH_S`` after that, beside
the calls that go on: nobody waits for a second look-up. When one fails, what was found last goes on being used: a name
server that is away must not take the services with it.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from tenfold._core.tasks import end_tasks
from tenfold.errors import ConfigError, DependencyUnavailable, MissingExtra

if TYPE_CHECKING:
    from tenfold._core.clock import Clock
    from tenfold._core.sections import PeerSettings

log = logging.getLogger("tenfold.rpc")

FRESH_S: Final = 5.0
LOOKUP_TIMEOUT_S: Final = 3.0
PLACES_MAX: Final = 64
"""Places of one service that are used; more are left out."""

Lookup = Callable[[str], Awaitable[Sequence[str]]]
"""From a URL whose scheme says how to look up (``dns+http``, ``srv+http``) to base URLs. Raises OSError."""


class Places(ABC):
    """Knows where services are. Order: none. Errors: DependencyUnavailable, with a sentence, when nothing is known."""

    @abstractmethod
    async def places(self, service: str) -> Sequence[str]:
        """Base URLs of the service's instances, one at least: ``http://10.0.0.7:8101``."""

    async def stop(self) -> None:
        """Let go of what looks."""
        return


class SettledPlaces(Places):
    """What ``[services.NAME] url`` says. Raises ConfigError when it is made, for what is no such URL."""

    def __init__(
        self, peers: Mapping[str, PeerSettings], clock: Clock, *, lookups: Mapping[str, Lookup] | None = None
    ) -> None:
        self._clock = clock
        self._urls = {name: urls_of(name, peer) for name, peer in peers.items()}
        self._lookups: Mapping[str, Lookup] = {"dns": addresses, "srv": services, **(lookups or {})}
        self._found: dict[str, tuple[float, Sequence[str]]] = {}
        self._looking: dict[str, asyncio.Task[Sequence[str]]] = {}

    async def places(self, service: str) -> Sequence[str]:
        urls = self._urls.get(service)
        if not urls:
            raise DependencyUnavailable(
                f"{service} is not served by this process, and [services.{service}] url does not say where it is.",
                dependency=service,
                reason="place",
            )
        found = [place for url in urls for place in await self._of(service, url)]
        return found[:PLACES_MAX]

    async def stop(self) -> None:
        await end_tasks(*self._looking.values())
        self._looking.clear()

    async def _of(self, service: str, url: str) -> Sequence[str]:
        kind, plus, _ = url.partition("+")
        if not plus:
            return [url]
        at, known = self._found.get(url, (float("-inf"), ()))
        if self._clock.monotonic() - at < FRESH_S:
            return known
        task = self._looking.get(url)
        if task is None:
            task = self._looking[url] = asyncio.create_task(self._look(kind, url), name="tenfold places")
            task.add_done_callback(lambda _: self._looking.pop(url, None))
        if known:
            return known
        try:
            return await asyncio.shield(task)
        except OSError as error:
            raise DependencyUnavailable(
                f"{service}: {url} cannot be looked up: {error}.", dependency=service, reason="place"
            ) from None

    async def _look(self, kind: str, url: str) -> Sequence[str]:
        known = self._found.get(url, (0.0, ()))[1]
        try:
            async with asyncio.timeout(LOOKUP_TIMEOUT_S):
                found = await self._lookups[kind](url)
        except OSError as error:  # TimeoutError is one
            if not known:
                raise OSError(str(error) or "no answer in time") from None
            log.warning("%s could not be looked up again, its last places are used: %s", url, error)
            found = known
        self._found[url] = self._clock.monotonic(), found or known
        if not found and not known:
            del self._found[url]
            raise OSError("nothing is known under this name")
        return found or known


def urls_of(service: str, peer: PeerSettings) -> Sequence[str]:
    """The URLs of a service, checked. Raises ConfigError, and MissingExtra where a library is needed to look up."""
    said = peer.url.split(",") if isinstance(peer.url, str) else peer.url
    urls = [url.strip().rstrip("/") for url in said if url.strip()]
    for url in urls:
        _check(url, f"services.{service}.url")
    return urls


def _check(url: str, where: str) -> None:
    kind, plus, rest = url.partition("+")
    try:
        parts = urlsplit(rest if plus else url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    remedy = 'Write "http://10.0.0.7:8101", "dns+http://name:port" or "srv+http://name".'
    if parts.scheme not in ("http", "https") or not parts.hostname or (plus and kind not in ("dns", "srv")):
        raise ConfigError(f"{url!r} does not say where a service is.", where=where, remedy=remedy)
    if parts.path or parts.query or parts.fragment or "@" in parts.netloc:
        raise ConfigError(f"{url!r} has more than a host and a port.", where=where, remedy=remedy)
    if kind == "dns" and plus and parts.scheme == "https":
        raise ConfigError(
            f"{url!r}: certificates are for names, and these places would be addresses.",
            where=where,
            remedy=f'Write "{rest}", or "srv+{rest}" where SRV records name the places.',
        )
    if kind == "srv" and plus:
        if port is not None:
            raise ConfigError(f"{url!r}: SRV records say the port.", where=where, remedy="Leave it out.")
        _need_dnspython(where)


def _need_dnspython(where: str) -> None:
    from importlib.util import find_spec

    if find_spec("dns") is None:
        raise MissingExtra(
            "SRV records need the library 'dnspython', which is not installed.",
            where=where,
            remedy="Run: pip install 'tenfold[dns]'",
        )


async def addresses(url: str) -> Sequence[str]:
    """Every address of the name in ``dns+http://name:port``."""
    parts = urlsplit(url.partition("+")[2])
    assert parts.hostname is not None
    port = parts.port or 80
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    hosts = dict.fromkeys(str(address[0]) for *_, address in found)
    return [f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port}" for host in hosts]


async def services(url: str) -> Sequence[str]:
    """Hosts and ports of the SRV records (RFC 2782) of the name in ``srv+http://name``, those of the best priority only.
    Weights are left aside: calls go to whoever has the fewest."""
    import dns.asyncresolver
    import dns.exception

    parts = urlsplit(url.partition("+")[2])
    assert parts.hostname is not None
    try:
        records = list(await dns.asyncresolver.resolve(parts.hostname, "SRV"))
    except dns.exception.DNSException as error:
        raise OSError(str(error)) from None
    best = min((record.priority for record in records), default=0)
    return [
        f"{parts.scheme}://{str(record.target).removesuffix('.')}:{record.port}"
        for record in records
        if record.priority == best
    ]
