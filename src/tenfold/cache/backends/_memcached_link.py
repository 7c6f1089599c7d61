"""The connections to Memcached: commands, one at a time on each, and whether anybody should wait for them."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import logging
import math
import re
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import suppress
from typing import Any, TypeVar
from urllib.parse import unquote

import emcache

from tenfold._core.clock import Clock
from tenfold.cache.backends._store import StoreAway
from tenfold.errors import ConfigError

log = logging.getLogger("tenfold.cache")
logging.getLogger("emcache").setLevel(logging.CRITICAL)  # it warns once per connection of what we say once
T = TypeVar("T")

PORT = 11211
CONNECT_S = 1.0
CLOSE_S = 0.5
CONNECTIONS = 4
PROBE_FIRST_S, PROBE_LAST_S = 0.1, 2.0
ATTEMPTS = 20
"""Tries to change a value that others change at the same time."""
_MONTH_S = 2_592_000
_FAILURES = (OSError, TimeoutError, emcache.CommandError, emcache.ClusterNoAvailableNodes)


class MemcachedLink:
    """Every command raises StoreAway: at once while the store is known to be away, at the latest after
    ``timeout_s`` otherwise. One task finds out when it is back, and calls ``on_up`` before anybody else asks."""

    def __init__(
        self, url: str, where: str, clock: Clock, *, timeout_s: float, counter: str, on_up: Callable[[], None]
    ) -> None:
        self._hosts, self._login = _parse(url, where)
        self._clock, self._timeout_s, self._on_up = clock, timeout_s, on_up
        self._counter = _raw(counter)
        self._client: Any = None
        self._away = asyncio.Event()
        self._places = asyncio.Semaphore(CONNECTIONS)
        self._hung: set[asyncio.Future[Any]] = set()
        self.is_up = False
        self.trips = 0

    # ── life ──

    async def start(self, spawn: Callable[[Coroutine[Any, Any, None]], object]) -> None:
        """Connect; ``spawn`` runs the task that looks whether the store is back."""
        await self._connect()
        if not self.is_up:
            log.warning("memcached cannot be reached, the app starts without it")
            self._away.set()
        spawn(self._probing())

    async def stop(self) -> None:
        self.is_up = False
        await self._disconnect()

    async def _connect(self) -> None:
        # The client's own pool tries for ever to reach a server that is away, and does not stop when it is closed;
        # so it is only made when every server has answered.
        try:
            async with asyncio.timeout(CONNECT_S):
                await asyncio.gather(*(_greet(host, port) for host, port in self._hosts))
        except (OSError, TimeoutError):
            return
        self._client = await emcache.create_client(
            [emcache.MemcachedHostAddress(host, port) for host, port in self._hosts],
            timeout=None,
            max_connections=CONNECTIONS,
            min_connections=CONNECTIONS,
            connection_timeout=CONNECT_S,
            **self._login,
        )
        try:
            await self._in_time(lambda: self._client.get(self._counter), CONNECT_S)
        except _FAILURES:
            await self._disconnect()
        else:
            self.is_up = True

    async def _disconnect(self) -> None:
        """Close the connections, and only then end who waits at them: the client fails when an answer comes to a
        command that was cancelled."""
        client, self._client = self._client, None
        if client is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await client.close()
        for hung in tuple(self._hung):
            hung.cancel()

    def _trip(self, why: object) -> None:
        """From now on nobody waits for the store; one task looks whether it is back."""
        if self.is_up:
            self.trips += 1
            self.is_up = False
            self._away.set()
            log.warning("memcached (cache.url) cannot be used for now: %s", why)

    async def _probing(self) -> None:
        while True:
            await self._away.wait()
            pause = PROBE_FIRST_S
            await self._disconnect()
            while not self.is_up:
                await self._clock.sleep(pause)
                pause = min(2 * pause, PROBE_LAST_S)
                await self._connect()
            self._away.clear()
            log.info("memcached is back")
            self._on_up()

    async def _try(self, work: Callable[[], Awaitable[T]]) -> T:
        """Every command goes through here. The client has one command at a time on a connection, and who waits
        for a connection does so here, where it is no sign of trouble."""
        try:
            if not self.is_up:
                raise StoreAway("it does not answer")
            async with self._places:
                if not self.is_up:
                    raise StoreAway("it does not answer")
                return await self._in_time(work, self._timeout_s)
        except (OSError, TimeoutError) as error:
            self._trip(error)
            raise StoreAway(str(error)) from None
        except (emcache.CommandError, emcache.ClusterNoAvailableNodes) as error:
            raise StoreAway(f"{type(error).__name__} {error}") from None

    async def _in_time(self, work: Callable[[], Awaitable[T]], timeout_s: float) -> T:
        """What ``work()`` returns; TimeoutError when it takes longer, and then it goes on until the end of the
        connections."""
        task = asyncio.ensure_future(work())
        self._hung.add(task)
        task.add_done_callback(self._ended)
        await asyncio.wait({task}, timeout=timeout_s)
        for _ in range(2):  # what arrived while this process was busy itself is not late
            if not task.done():
                await asyncio.sleep(0)
        if not task.done():
            raise TimeoutError(f"no answer within {timeout_s:g} s")
        return task.result()

    def _ended(self, task: asyncio.Future[Any]) -> None:
        self._hung.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waited has it

    # ── commands ──

    async def get_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        """What is there of these keys."""
        raw = {key: _raw(key) for key in keys}
        found = await self._try(lambda: self._client.get_many(list(set(raw.values()))))
        return {key: found[name].value for key, name in raw.items() if name in found}

    async def add(self, key: str, value: bytes, life_s: float) -> bool:
        """Store if nothing is there; whether it was so."""

        async def add() -> bool:
            try:
                await self._client.add(_raw(key), value, exptime=_exptime(life_s, self._clock))
            except emcache.NotStoredStorageCommandError:
                return False
            return True

        return await self._try(add)

    async def set(self, key: str, value: bytes, life_s: float) -> None:
        """Store, whatever is there."""
        exptime = _exptime(life_s, self._clock)
        await self._try(lambda: self._client.set(_raw(key), value, exptime=exptime))

    async def delete(self, key: str) -> None:
        """Remove, if it is there."""

        async def delete() -> None:
            with suppress(emcache.NotFoundCommandError):
                await self._client.delete(_raw(key))

        await self._try(delete)

    async def next_number(self) -> int:
        """A number larger than every earlier one. An evicted counter begins at the time in microseconds, which
        is more than it can have counted."""

        async def count() -> int:
            for _ in range(ATTEMPTS):
                with suppress(emcache.NotFoundCommandError):
                    value = await self._client.increment(self._counter, 1)
                    if value is not None:
                        return int(value)
                with suppress(emcache.NotStoredStorageCommandError):
                    await self._client.add(self._counter, b"%d" % int(self._clock.now() * 1e6))
            raise StoreAway("its counter cannot be raised")

        return await self._try(count)

    async def change(self, key: str, change: Callable[[bytes | None], tuple[bytes, float] | None]) -> None:
        """Replace a value by what ``change`` makes of it, atomically; None leaves it."""

        async def attempt() -> bool:
            item = await self._client.gets(_raw(key))
            changed = change(None if item is None else item.value)
            if changed is None:
                return True
            value, life_s = changed
            exptime = _exptime(life_s, self._clock)
            try:
                if item is None:
                    await self._client.add(_raw(key), value, exptime=exptime)
                else:
                    await self._client.cas(_raw(key), value, item.cas, exptime=exptime)
            except (emcache.StorageCommandError, emcache.NotFoundCommandError):
                return False
            return True

        for _ in range(ATTEMPTS):
            if await self._try(attempt):
                return
        raise StoreAway("too many change the same tag at the same time")

    async def touch(self, key: str, life_s: float) -> None:
        """Prolong, if it is there."""

        async def touch() -> None:
            with suppress(emcache.NotFoundCommandError):
                await self._client.touch(_raw(key), _exptime(life_s, self._clock))

        await self._try(touch)

    async def raise_counter(self, by: int) -> None:
        """Add to what :meth:`next_number` counts."""
        await self._try(lambda: self._client.increment(self._counter, by))


async def _greet(host: str, port: int) -> None:
    """Returns when the server answers to anything; raises OSError when it cannot be reached."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(b"version\r\n")
        if not await reader.readline():
            raise ConnectionResetError(f"{host}:{port} closed the connection.")
    finally:
        writer.close()


def _parse(url: str, where: str) -> tuple[list[tuple[str, int]], dict[str, Any]]:
    """Hosts and login of ``memcached://[user:password@]host[:port][,host2[:port]]``."""
    _, _, rest = url.partition("://")
    login, _, hosts = rest.rpartition("@")
    found: list[tuple[str, int]] = []
    for part in hosts.strip("/").split(","):
        host, _, port = part.strip().partition(":")
        if not host or (port and not (port.isdigit() and 0 < int(port) < 65_536)):
            raise ConfigError(
                f"{part!r} is no host with a port.",
                where=where,
                remedy='Write "memcached://host:11211,host2:11211".',
            )
        found.append((host, int(port or PORT)))
    user, _, password = login.partition(":")
    return found, ({"username": unquote(user), "password": unquote(password)} if login else {})


@functools.lru_cache(65_536)
def _raw(key: str) -> bytes:
    """A key as Memcached takes it: at most 250 bytes, without blanks and control characters."""
    raw = key.encode("utf-8", "surrogatepass")
    if len(raw) <= 200 and raw.isascii() and not any(byte <= 32 or byte == 127 for byte in raw):
        return raw
    kind = re.match(r"[!-~]{0,60}:[egl]:", key)
    digest = hashlib.blake2b(raw, digest_size=24).hexdigest()
    return f"{kind[0] if kind else ''}#{digest}".encode()


def _exptime(life_s: float, clock: Clock) -> int:
    """Whole seconds, at least 1; beyond a month the server takes them for a date."""
    seconds = max(math.ceil(life_s), 1)
    return seconds if seconds <= _MONTH_S else int(clock.now()) + seconds
