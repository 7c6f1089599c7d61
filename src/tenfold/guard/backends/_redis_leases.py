"""Leases in Redis."""

from __future__ import annotations

from tenfold.guard.backends._redis_connection import Connection
from tenfold.guard.backends._redis_scripts import ACQUIRE, RELEASE_LEASE, RENEW_LEASE
from tenfold.guard.lease import LeaseStore

FENCE_KEPT_MS = 30 * 86_400_000
"""Tokens are never below the server's clock, so the last one matters only as long as that could be set back."""


class RedisLeases(LeaseStore):
    """A server that loses its data may give a lease to a second holder, with a token above the first one's."""

    durable = False
    shared = True

    def __init__(self, connection: Connection) -> None:
        self._redis = connection

    async def acquire(self, name: str, ttl_s: float) -> int | None:
        keys = [self._redis.name("lease", name), self._redis.name("fence", name)]
        token: int | None = await self._redis.run(ACQUIRE, keys, _ms(ttl_s), FENCE_KEPT_MS)
        return token

    async def renew(self, name: str, token: int, ttl_s: float) -> bool:
        return bool(await self._redis.run(RENEW_LEASE, [self._redis.name("lease", name)], token, _ms(ttl_s)))

    async def release(self, name: str, token: int) -> bool:
        return bool(await self._redis.run(RELEASE_LEASE, [self._redis.name("lease", name)], token))

    async def holder(self, name: str) -> int | None:
        token = await self._redis.call("GET", self._redis.name("lease", name))
        return None if token is None else int(token)


def _ms(seconds: float) -> int:
    return max(1, int(seconds * 1000))
