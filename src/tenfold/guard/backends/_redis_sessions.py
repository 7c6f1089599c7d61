"""Sessions in Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tenfold.guard.backends._redis_connection import Connection
from tenfold.guard.backends._redis_scripts import (
    CREATE_SESSION,
    REVOKE_SESSION,
    REVOKE_SESSIONS,
    TOUCH_SESSION,
)
from tenfold.security.sessions import SessionRecord, SessionStore

if TYPE_CHECKING:
    from tenfold.db.tx import Tx


class RedisSessions(SessionStore):
    """A session is a hash that expires; what an account has is a set, for ending them all."""

    joins = False

    def __init__(self, connection: Connection) -> None:
        self._redis = connection

    async def create(self, record: SessionRecord, *, tx: Tx) -> None:
        account, now = record.account_id, record.created_at
        await self._redis.run(
            CREATE_SESSION,
            [self._session(record.hash), self._account(account)],
            record.hash,
            account,
            repr(now),
            repr(record.expires_at),
            repr(record.ends_at),
            _ms(record.expires_at - now),
            _ms(record.ends_at - now),
        )

    async def get(self, hash_: str, now: float) -> SessionRecord | None:
        found = await self._redis.call("HMGET", self._session(hash_), "account", "created", "expires", "ends")
        if found[0] is None:
            return None
        created, expires, ends = (float(number) for number in found[1:])
        return SessionRecord(hash_, found[0].decode(), created, expires, ends) if expires > now else None

    async def touch(self, hash_: str, expires_at: float, *, now: float) -> bool:
        keys = [self._session(hash_)]
        return bool(await self._redis.run(TOUCH_SESSION, keys, repr(expires_at), _ms(expires_at - now)))

    async def revoke(self, hash_: str, *, tx: Tx) -> bool:
        return bool(await self._redis.run(REVOKE_SESSION, [self._session(hash_)], hash_, self._account("")))

    async def revoke_all(self, account_id: str, *, tx: Tx) -> None:
        await self._redis.run(REVOKE_SESSIONS, [self._account(account_id)], self._session(""))

    async def prune(self, now: float, *, tx: Tx) -> None:
        """They vanish by themselves."""

    def _session(self, hash_: str) -> str:
        return self._redis.name("session", hash_)

    def _account(self, account_id: str) -> str:
        return self._redis.name("sessions", account_id)


def _ms(seconds: float) -> int:
    return max(1, int(seconds * 1000))
