"""Entries in Redis or Valkey, with copies in every process that the server keeps current.

Needs Redis 6 or newer (RESP3), ``pip install 'tenfold[redis]'``, and nothing of the server's configuration; give it
a ``maxmemory`` with any ``allkeys-`` policy, whatever is evicted costs a load only. Guarantees: all of the contract,
strict mode across the fleet included. Weakened only if the server loses its data and cannot be reached between the
announcement of a transaction and its end. One connection per process. Not for Redis Cluster.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from tenfold._core.clock import Clock
from tenfold._core.sections import CacheSettings
from tenfold.cache.backends import _redis_scripts as scripts
from tenfold.cache.backends._redis_link import Address, RedisLink, Refused
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
    StoreAway,
    Stored,
    Wait,
)
from tenfold.cache.backends._tiers import TieredBackend
from tenfold.cache.contract import Capabilities
from tenfold.cache.policy import NEVER, Purpose
from tenfold.errors import ConfigError

if TYPE_CHECKING:
    from tenfold.cache.backends._redis_scripts import Script

WHERE = "cache.url"


class Backend(TieredBackend):
    """One connection, all caches."""

    capabilities = Capabilities(
        shared=True, strict="fleet", near="until told", leases="fleet", value_max_bytes=64 * 1024 * 1024
    )

    @classmethod
    def from_url(cls, url: str, settings: CacheSettings, clock: Clock) -> Backend:
        return cls(settings, clock, RedisStore(Address(url, WHERE), settings, clock))


class _Head(msgspec.Struct, array_like=True, frozen=True):
    """What stands before the payload; made by the scripts."""

    magic: str
    opened: int
    stale_ms: int
    names: tuple[str, ...]
    generations: tuple[int, ...]
    shape: str


_read_head = msgspec.msgpack.Decoder(_Head).decode


class RedisStore(Store):
    """The scripts of :mod:`._redis_scripts` over one link."""

    poll_s = 0.25

    def __init__(self, address: Address, settings: CacheSettings, clock: Clock) -> None:
        self._settings = settings
        self._lease_ms = int(settings.lease_s * 1000)
        self._busy_ms = int(settings.busy_s * 1000)
        # An entry must not outlive its generations, or one that was evicted and made again would be new to it.
        self._generation_ms = int(settings.ttl_max_s * 2000)
        self._address = address
        self._backend: TieredBackend
        self.link = RedisLink(
            address,
            clock,
            timeout_s=settings.timeout_s,
            greeting=[("SCRIPT", "LOAD", script.text) for script in scripts.ALL],
            optional=[("CLIENT", "TRACKING", "ON", "NOLOOP")] if settings.near_entries else [],
            heartbeat_s=settings.near_ttl_s / 4,
            on_push=self._pushed,
            on_up=self._up,
            serves="cache",
        )

    # ── life ──

    async def start(self, backend: TieredBackend) -> None:
        self._backend = backend
        try:
            await self.link.start()
        except Refused as reason:
            raise ConfigError(
                f"redis {self._address}: {reason}.",
                where=WHERE,
                remedy="Check user, password and database in the URL; Redis 6 or newer is needed.",
            ) from None

    async def stop(self) -> None:
        await self.link.stop()

    def _up(self) -> None:
        self.poll_s = 1.0 if self._is_told else 0.01
        self._backend.is_back()

    @property
    def _is_told(self) -> bool:
        """Whether the server tells of changed keys."""
        return bool(self.link.granted) and self.link.granted[0]

    def vouched_at(self) -> float:
        link = self.link
        return link.answered_at if link.state == "up" and self._is_told else NEVER

    def numbers(self) -> Mapping[str, int | float]:
        link = self.link
        return {
            "up": int(link.state == "up"),
            "commands_total": link.commands,
            "stalls_total": link.stalls,
            "connections_total": link.connections,
        }

    # ── what the server tells ──

    def _pushed(self, keys: list[bytes] | None) -> None:
        if keys is None:  # FLUSHALL or FLUSHDB
            for region in self._backend.regions():
                region.told(REGION)
                for key in region.waited_for():
                    region.wake(key)
            return
        for raw in keys:
            key = raw.decode("utf-8", "replace")
            for region in self._backend.regions():
                names = region.keys
                if key.startswith(names.generations):
                    region.told(key[len(names.generations) :])
                elif key.startswith(names.entries):
                    region.told_of(key[len(names.entries) :])
                elif key.startswith(names.leases):
                    region.told_of(key[len(names.leases) :])

    # ── reading and loading ──

    async def begin(
        self, keys: Keys, names: tuple[str, ...], purpose: Purpose | None, token: str, *, waited: bool
    ) -> Answer:
        key = names[1]
        reply = await self._run(
            scripts.begin,
            [keys.entries + key, keys.leases + key, *(keys.generations + name for name in names)],
            _PURPOSE[purpose],
            token,
            self._lease_ms,
            self._generation_ms,
            keys.generations,
            int(waited),
        )
        kind = reply[0]
        if kind == b"found":
            return await self._hit(keys, names, reply)
        if reply[1]:
            self._backend.complain(keys.entries + key, "it was not written by this cache")
        if kind == b"load":
            generations = tuple(generation.decode() for generation in reply[3])
            leased = purpose is not Purpose.RELOAD
            strict = purpose is Purpose.STRICT
            right = Right(keys, key, token, int(reply[2]), generations, leased, strict)
            return Load(right, bool(reply[4]))
        if kind == b"wait":
            return Wait(max(reply[2], 1) / 1000)
        if kind == b"full":
            raise StoreAway(reply[2].decode())
        return BUSY if kind == b"busy" else NOTHING

    async def _hit(self, keys: Keys, names: tuple[str, ...], reply: list[Any]) -> Hit:
        _, at, left_ms, age_us, raw = reply
        head = _read_head(raw[:at])
        followed = True
        late = [i for i, name in enumerate(head.names) if name not in names]
        if late:
            # The server follows declared keys only, and these were not known before the entry was read.
            now = await self.link.call("MGET", *(keys.generations + head.names[i] for i in late))
            followed = [b"%d" % head.generations[i] for i in late] == now
        return Hit(
            head.names,
            head.shape,
            memoryview(raw)[at:],
            (left_ms - head.stale_ms) / 1000,
            left_ms / 1000,
            int(age_us) / 1e6,
            followed,
        )

    async def finish(self, right: Right, stored: Stored | None) -> bool:
        keys = right.keys
        given = stored or Stored((REGION, right.key), "", b"", 0.0, 0.0)
        reply = await self._run(
            scripts.finish,
            [
                keys.entries + right.key,
                keys.leases + right.key,
                *(keys.generations + name for name in given.names),
            ],
            right.token,
            right.opened,
            len(right.generations),
            int(right.strict),
            _ms(given.life_s - given.fresh_s),
            max(_ms(given.life_s), 1),
            self._generation_ms,
            given.shape,
            given.payload,
            *right.generations,
            *given.names,
        )
        return bool(reply)

    async def put(self, keys: Keys, stored: Stored) -> bool:
        return bool(
            await self._run(
                scripts.put,
                [keys.entries + stored.names[1], *(keys.generations + name for name in stored.names)],
                _ms(stored.life_s - stored.fresh_s),
                max(_ms(stored.life_s), 1),
                self._generation_ms,
                stored.shape,
                stored.payload,
                *stored.names,
            )
        )

    # ── changing ──

    async def bump(self, generations: list[str]) -> None:
        await self._run(scripts.bump, generations, self._generation_ms)

    async def mark(self, generations: list[str], token: str) -> None:
        await self._run(scripts.mark, generations, token, self._busy_ms)

    async def settle(self, generations: list[str], token: str) -> None:
        await self._run(scripts.settle, generations, token, self._generation_ms)

    async def renew(self, rights: list[Right]) -> None:
        leases = [right.keys.leases + right.key for right in rights]
        await self._run(scripts.renew, leases, self._lease_ms, *(right.token for right in rights))

    async def _run(self, script: Script, keys: list[str], *args: Any) -> Any:
        try:
            return await self.link.call("EVALSHA", script.digest, len(keys), *keys, *args)
        except StoreAway as error:
            if not str(error).startswith("NOSCRIPT"):
                raise
        return await self.link.call("EVAL", script.text, len(keys), *keys, *args)  # somebody flushed them


_PURPOSE = {
    None: "look",
    Purpose.READ: "read",
    Purpose.STRICT: "read",
    Purpose.REFRESH: "refresh",
    Purpose.RELOAD: "reload",
}


def _ms(seconds: float) -> int:
    return max(int(seconds * 1000), 0)
