"""Entries in Memcached, with short-lived copies in every process.

Needs ``pip install 'tenfold[memcached]'``. URL: ``memcached://host:port,host2:port``; keys are spread over the
servers, and one that is away makes its keys misses (they do not move to the others, where older values could wait).
Weaker than Redis in four ways: copies are bounded by ``cache.near_ttl_s`` alone; another process's load is polled
for; lives are counted by the processes' wall clocks; and a mark that a crashed process left is dropped ten minutes
after it ran out at the latest. Strict mode holds, evictions included. Values are at most 1 MB (the server's ``-I``).
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import logging
import math
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, TypeVar
from urllib.parse import unquote

import emcache
import msgspec

from tenfold._core.clock import Clock
from tenfold._core.settings import CacheSettings
from tenfold.cache.backends._tiers import (
    BUSY,
    NOTHING,
    REGION,
    Answer,
    Hit,
    Keys,
    Load,
    Right,
    Store,
    StoreAway,
    Stored,
    TieredBackend,
    Wait,
)
from tenfold.cache.contract import Capabilities
from tenfold.cache.policy import Purpose
from tenfold.errors import ConfigError

log = logging.getLogger("tenfold.cache")
logging.getLogger("emcache").setLevel(logging.CRITICAL)  # it warns once per connection of what we say once
T = TypeVar("T")

WHERE = "cache.url"
PORT = 11211
CONNECT_S = 1.0
CONNECTIONS = 4
PROBE_FIRST_S, PROBE_LAST_S = 0.1, 2.0
ATTEMPTS = 20
"""Tries to change a generation that others change at the same time."""
SKEW_S = 600.0
"""Tokens of transactions are believed so much longer than they say: wall clocks differ."""
_MONTH_S = 2_592_000
_MAGIC = b"tenfold1"
_FAILURES = (OSError, TimeoutError, emcache.CommandError, emcache.ClusterNoAvailableNodes)


class Backend(TieredBackend):
    """A few connections to each server, all caches."""

    capabilities = Capabilities(
        shared=True, strict="fleet", near="for a time", leases="fleet", value_max_bytes=1_000_000
    )

    @classmethod
    def from_url(cls, url: str, settings: CacheSettings, clock: Clock) -> Backend:
        return cls(settings, clock, MemcachedStore(url, settings, clock))


class _Head(msgspec.Struct, array_like=True, frozen=True):
    """What stands before the payload. Times are wall-clock seconds."""

    loaded_at: float
    fresh_until: float
    life_until: float
    names: tuple[str, ...]
    generations: tuple[int, ...]
    shape: str


_read_head = msgspec.msgpack.Decoder(_Head).decode


class MemcachedStore(Store):
    """Generations as in Redis (see :mod:`._redis_scripts`), without scripts.

    A fill carries the generations from before its load into its entry, and readers compare: so nothing has to
    happen at once. Tags that only the value tells have none from before; a counter that every invalidation
    raises says whether theirs is older than the load.
    """

    poll_s = 0.01

    def __init__(self, url: str, settings: CacheSettings, clock: Clock) -> None:
        self._hosts, self._login = _parse(url)
        self._settings, self._clock = settings, clock
        self._counter = _raw(f"{settings.prefix}:s")
        self._generation_s = int(settings.ttl_max_s * 2)
        self._client: Any = None
        self._backend: TieredBackend
        self._up = False
        self._away = asyncio.Event()
        self._places = asyncio.Semaphore(CONNECTIONS)
        self._hung: set[asyncio.Future[Any]] = set()
        self._trips = 0

    # ── life ──

    async def start(self, backend: TieredBackend) -> None:
        self._backend = backend
        await self._connect()
        if not self._up:
            log.warning("memcached cannot be reached, the app starts without it")
            self._away.set()
        backend.spawn(self._probing())

    async def stop(self) -> None:
        self._up = False
        await self._disconnect()

    async def _connect(self) -> None:
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
            self._up = True

    async def _disconnect(self) -> None:
        """Close the connections, and only then end who waits at them: the client fails when an answer comes to a
        command that was cancelled."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()
        for hung in tuple(self._hung):
            hung.cancel()

    def _trip(self, why: object) -> None:
        """From now on nobody waits for the store; one task looks whether it is back."""
        if self._up:
            self._trips += 1
            self._up = False
            self._away.set()
            log.warning("memcached cannot be used, the app goes on without it: %s", why)

    async def _probing(self) -> None:
        while True:
            await self._away.wait()
            pause = PROBE_FIRST_S
            await self._disconnect()
            while not self._up:
                await self._clock.sleep(pause)
                pause = min(2 * pause, PROBE_LAST_S)
                await self._connect()
            self._away.clear()
            log.info("memcached is back")
            self._backend.is_back()

    async def _try(self, work: Callable[[], Awaitable[T]]) -> T:
        """Every command goes through here. The client has one command at a time on a connection, and who waits
        for a connection does so here, where it is no sign of trouble."""
        try:
            if not self._up:
                raise StoreAway("it does not answer")
            async with self._places:
                if not self._up:
                    raise StoreAway("it does not answer")
                return await self._in_time(work, self._settings.timeout_s)
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

    def numbers(self) -> Mapping[str, int | float]:
        return {"up": int(self._up), "stalls_total": self._trips}

    # ── commands ──

    async def _many(self, keys: Iterable[str]) -> dict[str, bytes]:
        raw = {key: _raw(key) for key in keys}
        found = await self._try(lambda: self._client.get_many(list(set(raw.values()))))
        return {key: found[name].value for key, name in raw.items() if name in found}

    async def _add(self, key: str, value: bytes, life_s: float) -> bool:
        """Whether nothing was there."""

        async def add() -> bool:
            try:
                await self._client.add(_raw(key), value, exptime=_exptime(life_s, self._clock))
            except emcache.NotStoredStorageCommandError:
                return False
            return True

        return await self._try(add)

    async def _set(self, key: str, value: bytes, life_s: float) -> None:
        exptime = _exptime(life_s, self._clock)
        await self._try(lambda: self._client.set(_raw(key), value, exptime=exptime))

    async def _delete(self, key: str) -> None:
        async def delete() -> None:
            with suppress(emcache.NotFoundCommandError):
                await self._client.delete(_raw(key))

        await self._try(delete)

    async def _next(self) -> int:
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

    async def _change(self, key: str, change: Callable[[bytes | None], tuple[bytes, float] | None]) -> None:
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

    # ── reading and loading ──

    async def begin(
        self, keys: Keys, names: tuple[str, ...], purpose: Purpose | None, token: str, *, waited: bool
    ) -> Answer:
        asked_at, key = self._clock.now(), names[1]
        entry, lease = keys.entries + key, keys.leases + key
        generations = [keys.generations + name for name in names]
        counter = f"{self._settings.prefix}:s"
        found = await self._many([entry, lease, counter, *generations])
        stale: Hit | None = None
        if purpose is not Purpose.RELOAD and entry in found:
            hit = await self._hit(keys, entry, found)
            if hit is not None and (hit.fresh_s > 0 or purpose is not Purpose.REFRESH):
                return hit
            stale = hit
        if purpose is None:
            return NOTHING
        opened = _number(found.get(counter)) or await self._next()
        known = await self._known(generations, found)
        if known is None:
            return stale or BUSY
        if max(known) > opened:  # the counter was evicted and began again too low
            opened = await self._raise_counter(max(known))
        leased = purpose is not Purpose.RELOAD
        if leased:
            at = f"|{'|'.join(map(str, known))}".encode()
            holder = found.get(lease)
            if not await self._take(lease, holder, token.encode() + at, at, waited=waited):
                return stale or Wait(self._settings.lease_s)
        strict = purpose is Purpose.STRICT
        right = Right(keys, key, token, opened, tuple(map(str, known)), leased, strict, asked_at)
        return Load(right, stale is not None)

    async def _hit(self, keys: Keys, entry: str, found: dict[str, bytes]) -> Hit | None:
        """The entry if it is whole and all its names have the generations that it was loaded with."""
        raw = found[entry]
        try:
            if not raw.startswith(_MAGIC):
                raise msgspec.DecodeError("it was not written by this cache")
            at = 12 + int.from_bytes(raw[8:12], "big")
            head = _read_head(raw[12:at])
        except msgspec.MsgspecError as error:
            self._backend.complain(entry, error)
            return None
        generations = [keys.generations + name for name in head.names]
        missing = [name for name in generations if name not in found]
        now_known = {**found, **(await self._many(missing) if missing else {})}
        if [_number(now_known.get(name)) for name in generations] != list(head.generations):
            return None
        now = self._clock.now()
        if now >= head.life_until:
            return None
        return Hit(
            head.names,
            head.shape,
            memoryview(raw)[at:],
            head.fresh_until - now,
            head.life_until - now,
            max(now - head.loaded_at, 0.0),
            followed=False,
        )

    async def _known(self, generations: list[str], found: dict[str, bytes]) -> list[int] | None:
        """The generations, made where they are missing; None where one is busy."""
        missing = [name for name in generations if _number(found.get(name)) is None]
        if any(_is_busy(found.get(name)) for name in missing):
            return None
        if missing:
            for name in missing:
                number = b"%d" % await self._next()
                if name in found:  # garbage
                    await self._set(name, number, self._generation_s)
                else:
                    await self._add(name, number, self._generation_s)
            found = {**found, **await self._many(missing)}
        known = [_number(found.get(name)) for name in generations]
        return None if None in known else [number for number in known if number is not None]

    async def _raise_counter(self, least: int) -> int:
        value = await self._next()
        if value < least:
            await self._try(lambda: self._client.increment(self._counter, least - value))
        return max(value, least)

    async def _take(self, lease: str, holder: bytes | None, mine: bytes, at: bytes, *, waited: bool) -> bool:
        """Whether this caller is to load. A lease from before a change (``at`` other generations) holds nobody."""
        if holder is None:
            return await self._add(lease, mine, self._settings.lease_s)
        if holder == b"-" and waited:
            return True
        if holder != b"-" and holder.endswith(at):
            return False
        await self._set(lease, mine, self._settings.lease_s)
        return True

    async def finish(self, right: Right, stored: Stored | None) -> bool:
        keys, lease = right.keys, right.keys.leases + right.key
        names = stored.names if stored is not None else (REGION, right.key)
        entry = keys.entries + right.key
        generations = [keys.generations + name for name in names]
        found = await self._many([lease, entry, *generations])
        mine = found.get(lease, b"").partition(b"|")[0] == right.token.encode()
        try:
            if stored is None or (not mine and _overtaken(found.get(entry), right)):
                return False
            current = await self._current(right, generations, found)
            if current is None:
                return False
            await self._store_entry(entry, names, current, stored, right.asked_at)
            return True
        finally:
            if mine and stored is None:
                await self._set(lease, b"-", 1.0)
            elif mine:
                await self._delete(lease)

    async def _current(
        self, right: Right, generations: list[str], found: dict[str, bytes]
    ) -> list[int] | None:
        """The generations that the entry is to carry; None when one was invalidated since the load began."""
        known = [int(number) for number in right.generations]
        if [_number(found.get(name)) for name in generations[: len(known)]] != known:
            return None
        late = generations[len(known) :]
        is_new = [name for name in late if name not in found]
        numbers = await self._known(late, found) if late else []
        if numbers is None or (is_new and right.strict):
            return None
        untouched = all(
            number <= right.opened or name in is_new for name, number in zip(late, numbers, strict=True)
        )
        return [*known, *numbers] if untouched else None

    async def _store_entry(
        self, entry: str, names: tuple[str, ...], generations: list[int], stored: Stored, loaded_at: float
    ) -> None:
        now = self._clock.now()
        fresh_until, life_until = now + stored.fresh_s, now + stored.life_s
        head = _Head(loaded_at, fresh_until, life_until, names, tuple(generations), stored.shape)
        packed = msgspec.msgpack.encode(head)
        raw = b"".join((_MAGIC, len(packed).to_bytes(4, "big"), packed, stored.payload))
        await self._set(entry, raw, stored.life_s)

    async def put(self, keys: Keys, stored: Stored) -> bool:
        key = stored.names[1]
        await self.bump([keys.generations + key])
        if not stored.shape:
            return False
        generations = [keys.generations + name for name in stored.names]
        known = await self._known(generations, await self._many(generations))
        if known is None:
            return False
        await self._store_entry(keys.entries + key, stored.names, known, stored, self._clock.now())
        return True

    # ── changing ──

    async def bump(self, generations: list[str]) -> None:
        async def one(key: str) -> None:
            number = await self._next()
            await self._change(key, lambda old: None if _is_busy(old) else self._after(old, number))

        await asyncio.gather(*map(one, generations))

    async def mark(self, generations: list[str], token: str) -> None:
        busy_s = self._settings.busy_s
        mine = f"|{token}:{int(self._clock.now() + busy_s + SKEW_S)}"

        def marked(old: bytes | None) -> tuple[bytes, float]:
            base, others = self._others(old, token)
            return f"!{base}{others}{mine}".encode(), busy_s

        await asyncio.gather(*(self._change(key, marked) for key in generations))

    async def settle(self, generations: list[str], token: str) -> None:
        async def one(key: str) -> None:
            number = await self._next()

            def settled(old: bytes | None) -> tuple[bytes, float]:
                base, others = self._others(old, token)
                if others:
                    return f"!{base}{others}".encode(), self._settings.busy_s
                return self._after(base.encode(), number)

            await self._change(key, settled)

        await asyncio.gather(*map(one, generations))

    def _after(self, old: bytes | None, number: int) -> tuple[bytes, float]:
        return b"%d" % max(number, (_number(old) or 0) + 1), self._generation_s

    def _others(self, old: bytes | None, token: str) -> tuple[str, str]:
        """The generation before the marks, and the marks of other transactions that have not run out."""
        text = (old or b"").decode("utf-8", "replace")
        if not text.startswith("!"):
            return text if text.isdigit() else "0", ""
        now = self._clock.now()
        kept = [
            f"|{other}:{ends}"
            for other, ends in re.findall(r"\|([^:|]+):(\d+)", text)
            if other != token and int(ends) > now
        ]
        base = re.match(r"!(\d*)", text)
        return (base[1] if base and base[1] else "0"), "".join(kept)

    async def renew(self, rights: list[Right]) -> None:
        for right in rights:
            lease = _raw(right.keys.leases + right.key)

            async def touch(lease: bytes = lease) -> None:
                with suppress(emcache.NotFoundCommandError):
                    await self._client.touch(lease, _exptime(self._settings.lease_s, self._clock))

            await self._try(touch)


def _parse(url: str) -> tuple[list[tuple[str, int]], dict[str, Any]]:
    """Hosts and login of ``memcached://[user:password@]host[:port][,host2[:port]]``."""
    _, _, rest = url.partition("://")
    login, _, hosts = rest.rpartition("@")
    found: list[tuple[str, int]] = []
    for part in hosts.strip("/").split(","):
        host, _, port = part.strip().partition(":")
        if not host or (port and not (port.isdigit() and 0 < int(port) < 65_536)):
            raise ConfigError(
                f"{part!r} is no host with a port.",
                where=WHERE,
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


def _number(raw: bytes | None) -> int | None:
    text = (raw or b"").strip()  # the server pads counters that became shorter
    return int(text) if text.isdigit() else None


def _overtaken(raw: bytes | None, right: Right) -> bool:
    """Whether what is stored was loaded later than this."""
    if raw is None or not raw.startswith(_MAGIC):
        return False
    try:
        return _read_head(raw[12 : 12 + int.from_bytes(raw[8:12], "big")]).loaded_at > right.asked_at
    except msgspec.MsgspecError:
        return False


def _is_busy(raw: bytes | None) -> bool:
    return raw is not None and raw.startswith(b"!")
