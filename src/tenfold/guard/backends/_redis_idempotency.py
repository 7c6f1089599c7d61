"""Idempotency keys in Redis: beside the effects, not in their transaction."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from tenfold.errors import StoreUnavailable
from tenfold.guard.backends._redis_connection import Connection
from tenfold.guard.backends._redis_scripts import CLAIM_KEY, FIND_KEY, RELEASE_KEY, RENEW_KEY, STORE_REPLY
from tenfold.guard.idempotency import Attempt, IdempotencyStore
from tenfold.guard.keys import KeyRecord, StoredReply
from tenfold.guard.operation_tx import OperationTx

if TYPE_CHECKING:
    from tenfold._core.clock import Clock
    from tenfold.db.database import Database

log = logging.getLogger("tenfold.guard")

COMMIT_S = 30.0
"""How long a key is taken for the commit of its effect and the storing of its reply."""
STORE_TRIES = 5

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(StoredReply).decode


class RedisIdempotencyStore(IdempotencyStore):
    """Of an operation with a database, all effects are committed together, and then the reply is stored.

    What that weakens: a crash between the two, or a server that loses its data, lets a request that is sent again
    have its effect again. Evicting (``maxmemory-policy allkeys-…``) does the same, so give it a policy without.
    """

    effect_atomic = False

    def __init__(self, connection: Connection, clock: Clock, db: Database | None) -> None:
        self.redis, self.clock = connection, clock
        self._db = db

    def keys(self, scope: str, key: str) -> list[str]:
        return [self.redis.name("key", f"{scope} {key}")]

    async def find(self, scope: str, key: str) -> KeyRecord | None:
        found = await self.redis.run(FIND_KEY, self.keys(scope, key))
        if found is None:
            return None
        print_, claim, lease_ms, keep_ms, reply = found
        return KeyRecord(
            print_.decode(),
            claim.decode(),
            lease_ms / 1000,
            keep_ms / 1000,
            None if reply is None else _decode(reply),
        )

    async def claim(self, scope: str, key: str, record: KeyRecord) -> bool:
        lease_ms, keep_ms = int(record.lease_s * 1000), int(record.keep_s * 1000)
        return bool(
            await self.redis.run(
                CLAIM_KEY, self.keys(scope, key), record.fingerprint, record.claim, lease_ms, keep_ms
            )
        )

    async def renew(self, claims: Sequence[tuple[str, str, str]], lease_s: float) -> None:
        lease_ms = int(lease_s * 1000)
        await asyncio.gather(
            *(
                self.redis.run(RENEW_KEY, self.keys(scope, key), claim, lease_ms)
                for scope, key, claim in claims
            )
        )

    def attempt(self, scope: str, key: str, claim: str) -> Attempt:
        return _RedisAttempt(
            self, self.keys(scope, key), claim, None if self._db is None else OperationTx(self._db)
        )

    async def prune(self, limit: int) -> int:
        return 0  # they vanish by themselves


class _RedisAttempt(Attempt):
    def __init__(
        self, store: RedisIdempotencyStore, keys: list[str], claim: str, operation: OperationTx | None
    ) -> None:
        self._store, self._keys, self._claim = store, keys, claim
        self._operation = operation

    async def complete(self, reply: StoredReply, keep_s: float, *, effect: bool) -> bool:
        redis = self._store.redis
        # The fence: whoever lost the key commits nothing, and who has it keeps it until all is done.
        fingerprint = await redis.run(RENEW_KEY, self._keys, self._claim, int(COMMIT_S * 1000))
        if fingerprint is None:
            await self._undo()
            return False
        if self._operation is not None and effect:
            await self._operation.commit()
        else:
            await self._undo()
        await self._store_reply(fingerprint, _encode(reply), int(keep_s * 1000))
        return True

    async def release(self) -> None:
        await self._undo()
        await self._store.redis.run(RELEASE_KEY, self._keys, self._claim)

    async def _store_reply(self, fingerprint: bytes, reply: bytes, keep_ms: int) -> None:
        """The effect stands: its client is answered, also when a repetition could not be."""
        clock = self._store.clock
        for attempt in range(1, STORE_TRIES + 1):
            try:
                await self._store.redis.run(STORE_REPLY, self._keys, fingerprint, self._claim, reply, keep_ms)
                return
            except StoreUnavailable as error:
                if attempt == STORE_TRIES:
                    log.warning(
                        "a reply could not be stored; sent again, its request would run again: %s", error
                    )
                    return
            await clock.sleep(clock.random.uniform(0.1, 0.2) * attempt)

    async def _undo(self) -> None:
        if self._operation is not None:
            await self._operation.undo()
