"""Entries in Memcached, with short-lived copies in every process.

Needs ``pip install 'tenfold[memcached]'``. URL: ``memcached://host:port,host2:port``; keys are spread over the
servers. They do not move when one is away, because older values could wait elsewhere: then the app goes on without all.
Weaker than Redis in four ways: copies are bounded by ``cache.near_ttl_s`` alone; another process's load is polled
for; lives are counted by the processes' wall clocks; and a mark that a crashed process left is dropped ten minutes
after it ran out at the latest. Strict mode holds, evictions included. Values are at most 1 MB (the server's ``-I``).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping

import msgspec

from tenfold._core.clock import Clock
from tenfold._core.sections import CacheSettings
from tenfold.cache.backends._memcached_link import MemcachedLink
from tenfold.cache.backends._store import (
    BUSY,
    NOTHING,
    REGION,
    Answer,
    Hit,
    Keys,
    Load,
    Right,
    Store,
    Stored,
    Wait,
)
from tenfold.cache.backends._tiers import TieredBackend
from tenfold.cache.contract import Capabilities
from tenfold.cache.policy import Purpose

WHERE = "cache.url"
SKEW_S = 600.0
"""Tokens of transactions are believed so much longer than they say: wall clocks differ."""
_MAGIC = b"tenfold1"


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
        self._settings, self._clock = settings, clock
        self._counter = f"{settings.prefix}:s"
        self._generation_s = int(settings.ttl_max_s * 2)
        self._backend: TieredBackend
        self._link = MemcachedLink(
            url,
            WHERE,
            clock,
            timeout_s=settings.timeout_s,
            counter=self._counter,
            on_up=self._is_back,
        )

    # ── life ──

    async def start(self, backend: TieredBackend) -> None:
        self._backend = backend
        await self._link.start(backend.spawn)

    async def stop(self) -> None:
        await self._link.stop()

    def _is_back(self) -> None:
        self._backend.is_back()

    def numbers(self) -> Mapping[str, int | float]:
        return {"up": int(self._link.is_up), "stalls_total": self._link.trips}

    # ── reading and loading ──

    async def begin(
        self, keys: Keys, names: tuple[str, ...], purpose: Purpose | None, token: str, *, waited: bool
    ) -> Answer:
        asked_at, key = self._clock.now(), names[1]
        entry, lease = keys.entries + key, keys.leases + key
        generations = [keys.generations + name for name in names]
        counter = self._counter
        found = await self._link.get_many([entry, lease, counter, *generations])
        stale: Hit | None = None
        if purpose is not Purpose.RELOAD and entry in found:
            hit = await self._hit(keys, entry, found)
            if hit is not None and (hit.fresh_s > 0 or purpose is not Purpose.REFRESH):
                return hit
            stale = hit
        if purpose is None:
            return NOTHING
        opened = _number(found.get(counter)) or await self._link.next_number()
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
            if (hit := await self._loaded_meanwhile(keys, entry, found)) is not None:
                await self._link.delete(lease)
                return hit
        strict = purpose is Purpose.STRICT
        right = Right(keys, key, token, opened, tuple(map(str, known)), leased, strict, asked_at)
        return Load(right, stale is not None)

    async def _loaded_meanwhile(self, keys: Keys, entry: str, found: dict[str, bytes]) -> Hit | None:
        """What another process stored, giving its lease back, after we looked and before we took ours."""
        raw = (await self._link.get_many([entry])).get(entry)
        if raw is None or raw == found.get(entry):
            return None
        hit = await self._hit(keys, entry, {**found, entry: raw})
        return hit if hit is not None and hit.fresh_s > 0 else None

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
        now_known = {**found, **(await self._link.get_many(missing) if missing else {})}
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
                number = b"%d" % await self._link.next_number()
                if name in found:  # garbage
                    await self._link.set(name, number, self._generation_s)
                else:
                    await self._link.add(name, number, self._generation_s)
            found = {**found, **await self._link.get_many(missing)}
        known = [_number(found.get(name)) for name in generations]
        return None if None in known else [number for number in known if number is not None]

    async def _raise_counter(self, least: int) -> int:
        value = await self._link.next_number()
        if value < least:
            await self._link.raise_counter(least - value)
        return max(value, least)

    async def _take(self, lease: str, holder: bytes | None, mine: bytes, at: bytes, *, waited: bool) -> bool:
        """Whether this caller is to load. A lease from before a change (``at`` other generations) holds nobody."""
        if holder is None:
            return await self._link.add(lease, mine, self._settings.lease_s)
        if holder == b"-" and waited:
            return True
        if holder != b"-" and holder.endswith(at):
            return False
        await self._link.set(lease, mine, self._settings.lease_s)
        return True

    async def finish(self, right: Right, stored: Stored | None) -> bool:
        keys, lease = right.keys, right.keys.leases + right.key
        names = stored.names if stored is not None else (REGION, right.key)
        entry = keys.entries + right.key
        generations = [keys.generations + name for name in names]
        found = await self._link.get_many([lease, entry, *generations])
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
                await self._link.set(lease, b"-", 1.0)
            elif mine:
                await self._link.delete(lease)

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
        await self._link.set(entry, raw, stored.life_s)

    async def put(self, keys: Keys, stored: Stored) -> bool:
        key = stored.names[1]
        await self.bump([keys.generations + key])
        if not stored.shape:
            return False
        generations = [keys.generations + name for name in stored.names]
        known = await self._known(generations, await self._link.get_many(generations))
        if known is None:
            return False
        await self._store_entry(keys.entries + key, stored.names, known, stored, self._clock.now())
        return True

    # ── changing ──

    async def bump(self, generations: list[str]) -> None:
        async def one(key: str) -> None:
            number = await self._link.next_number()
            await self._link.change(key, lambda old: None if _is_busy(old) else self._after(old, number))

        await asyncio.gather(*map(one, generations))

    async def mark(self, generations: list[str], token: str) -> None:
        busy_s = self._settings.busy_s
        mine = f"|{token}:{int(self._clock.now() + busy_s + SKEW_S)}"

        def marked(old: bytes | None) -> tuple[bytes, float]:
            base, others = self._others(old, token)
            return f"!{base}{others}{mine}".encode(), busy_s

        await asyncio.gather(*(self._link.change(key, marked) for key in generations))

    async def settle(self, generations: list[str], token: str) -> None:
        async def one(key: str) -> None:
            number = await self._link.next_number()

            def settled(old: bytes | None) -> tuple[bytes, float]:
                base, others = self._others(old, token)
                if others:
                    return f"!{base}{others}".encode(), self._settings.busy_s
                return self._after(base.encode(), number)

            await self._link.change(key, settled)

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
            await self._link.touch(right.keys.leases + right.key, self._settings.lease_s)


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
