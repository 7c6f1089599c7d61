"""Limits, leases, idempotency keys and sessions in Redis or Valkey.

Needs Redis 6 or newer and ``pip install 'tenfold[redis]'``. Two connections per process: one for rate limits, which
would rather do without than wait, one for the rest. Not for Redis Cluster.

Weakens: idempotency keys are not in the transaction of their effect (``effect_atomic`` is False), and everything is as
durable as the server: what it loses in a crash, a fail-over or by evicting is a reply that cannot be repeated, a
session that has to log in again, a limit that begins anew, a lease that a second one gets, with a higher token. Use
``appendonly yes``, ``appendfsync always`` and ``maxmemory-policy noeviction`` where that matters.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from tenfold.cache.backends._redis_link import Address
from tenfold.errors import StoreUnavailable
from tenfold.guard.backends._redis_connection import WHERE, Connection
from tenfold.guard.backends._redis_idempotency import RedisIdempotencyStore
from tenfold.guard.backends._redis_leases import RedisLeases
from tenfold.guard.backends._redis_limits import RedisLimits
from tenfold.guard.backends._redis_sessions import RedisSessions
from tenfold.guard.contract import GuardBackend

if TYPE_CHECKING:
    from tenfold._core.clock import Clock
    from tenfold._core.sections import GuardSettings
    from tenfold.db.database import Database

log = logging.getLogger("tenfold.guard")

PATIENCE = 8
"""How many times ``guard.timeout_s`` a command may take that is not for a rate limit."""


class Backend(GuardBackend):
    """One server."""

    def __init__(self, address: Address, settings: GuardSettings, clock: Clock) -> None:
        self._clock, self._address = clock, address
        timeout_s, prefix = settings.timeout_s, settings.prefix
        self._quick = Connection(address, clock, timeout_s=timeout_s, prefix=prefix)
        self._patient = Connection(address, clock, timeout_s=PATIENCE * timeout_s, prefix=prefix)

    @classmethod
    def from_url(cls, url: str, *, settings: GuardSettings, clock: Clock) -> Backend:
        return cls(Address(url, WHERE), settings, clock)

    async def start(self) -> None:
        await self._patient.start()
        await self._quick.start()
        await self._warn_of_eviction()

    async def stop(self) -> None:
        await self._quick.stop()
        await self._patient.stop()

    async def health(self) -> None:
        await self._patient.call("PING")

    @property
    def own_clock(self) -> bool:
        return True

    def limits(self) -> RedisLimits:
        return RedisLimits(self._quick)

    def leases(self) -> RedisLeases:
        return RedisLeases(self._patient)

    def idempotency(self, db: Database | None) -> RedisIdempotencyStore:
        return RedisIdempotencyStore(self._patient, self._clock, db)

    def sessions(self, db: Database) -> RedisSessions:
        return RedisSessions(self._patient)

    async def _warn_of_eviction(self) -> None:
        try:
            answer = await self._patient.call("CONFIG", "GET", "maxmemory-policy")
        except StoreUnavailable:
            return  # managed servers do not tell
        policy = next(iter(answer.values()), b"") if isinstance(answer, dict) else answer[1]
        if policy.startswith((b"allkeys", b"volatile")):
            log.warning(
                "redis %s (guard.url) may evict idempotency keys, sessions and limits when its memory is full: its "
                "maxmemory-policy is %s; noeviction would keep them.",
                self._address,
                policy.decode(),
            )
