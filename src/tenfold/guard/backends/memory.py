"""Idempotency keys in this process, for tests and for services without a database.

Needs nothing. Weakens: keys are lost with the process, and effects are not atomic with replies, because
there is no transaction that could hold both (``effect_atomic`` is False).
"""

from __future__ import annotations

from itertools import islice

import msgspec

from tenfold.guard.idempotency import Attempt, IdempotencyStore, KeyRecord, StoredReply


class MemoryIdempotencyStore(IdempotencyStore):
    """A dict. Its methods never suspend, so each is atomic on the event loop."""

    effect_atomic = False

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], KeyRecord] = {}

    async def find(self, scope: str, key: str) -> KeyRecord | None:
        return self.records.get((scope, key))

    async def claim(self, scope: str, key: str, record: KeyRecord, *, over: str | None) -> bool:
        held = self.records.get((scope, key))
        if (held.claim if held else None) != over:
            return False
        self.records[scope, key] = record
        return True

    def attempt(self, scope: str, key: str, claim: str) -> Attempt:
        return _MemoryAttempt(self, scope, key, claim)

    async def prune(self, now: float, limit: int) -> int:
        expired = (name for name, record in self.records.items() if record.expires_at <= now)
        batch = list(islice(expired, limit))
        for name in batch:
            del self.records[name]
        return len(batch)


class _MemoryAttempt(Attempt):
    def __init__(self, store: MemoryIdempotencyStore, scope: str, key: str, claim: str) -> None:
        self._records = store.records
        self._name = (scope, key)
        self._claim = claim

    async def complete(self, reply: StoredReply, expires_at: float, *, effect: bool) -> bool:
        record = self._held()
        if record is None:
            return False
        self._records[self._name] = msgspec.structs.replace(record, reply=reply, expires_at=expires_at)
        return True

    async def release(self) -> None:
        record = self._held()
        if record is not None and record.reply is None:
            del self._records[self._name]

    def _held(self) -> KeyRecord | None:
        record = self._records.get(self._name)
        return record if record is not None and record.claim == self._claim else None
