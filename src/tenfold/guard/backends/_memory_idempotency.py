"""Idempotency keys in this process."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from tenfold.guard.idempotency import Attempt, IdempotencyStore
from tenfold.guard.keys import Free, KeyRecord, StoredReply, decide
from tenfold.guard.operation_tx import OperationTx

if TYPE_CHECKING:
    from tenfold._core.clock import Clock
    from tenfold.db.database import Database

_Name = tuple[str, str]


class MemoryIdempotencyStore(IdempotencyStore):
    """A dict. Its methods never suspend, so each is atomic on the event loop."""

    effect_atomic = False

    def __init__(self, clock: Clock, db: Database | None = None) -> None:
        self._monotonic = clock.monotonic
        self._db = db
        self.records: dict[_Name, KeyRecord] = {}
        """``lease_s`` and ``keep_s`` are monotonic times here."""

    async def find(self, scope: str, key: str) -> KeyRecord | None:
        record = self.records.get((scope, key))
        return None if record is None else self._moved(record, -self._monotonic())

    async def claim(self, scope: str, key: str, record: KeyRecord) -> bool:
        if not isinstance(decide(await self.find(scope, key), record.fingerprint), Free):
            return False
        self.records[scope, key] = self._moved(record, self._monotonic())
        return True

    async def renew(self, claims: Sequence[tuple[str, str, str]], lease_s: float) -> None:
        for scope, key, claim in claims:
            record = self.held((scope, key), claim)
            if record is not None:
                until = self._monotonic() + lease_s
                self.records[scope, key] = msgspec.structs.replace(record, lease_s=until)

    def attempt(self, scope: str, key: str, claim: str) -> Attempt:
        operation = None if self._db is None else OperationTx(self._db)
        return _MemoryAttempt(self, (scope, key), claim, operation)

    async def prune(self, limit: int) -> int:
        now = self._monotonic()
        expired = (name for name, record in self.records.items() if record.keep_s <= now)
        batch = list(islice(expired, limit))
        for name in batch:
            del self.records[name]
        return len(batch)

    def held(self, name: _Name, claim: str) -> KeyRecord | None:
        """The record, while ``claim`` has the key and no reply is stored."""
        record = self.records.get(name)
        return record if record is not None and record.claim == claim and record.reply is None else None

    def store(self, name: _Name, record: KeyRecord, reply: StoredReply, keep_s: float) -> None:
        until = self._monotonic() + keep_s
        self.records[name] = msgspec.structs.replace(record, reply=reply, keep_s=until)

    @staticmethod
    def _moved(record: KeyRecord, by_s: float) -> KeyRecord:
        return msgspec.structs.replace(record, lease_s=record.lease_s + by_s, keep_s=record.keep_s + by_s)


class _MemoryAttempt(Attempt):
    def __init__(
        self, store: MemoryIdempotencyStore, name: _Name, claim: str, operation: OperationTx | None
    ) -> None:
        self._store, self._name, self._claim = store, name, claim
        self._operation = operation

    async def complete(self, reply: StoredReply, keep_s: float, *, effect: bool) -> bool:
        record = self._store.held(self._name, self._claim)
        if record is None or not effect:
            await self._undo()
        if record is None:
            return False
        if self._operation is not None and effect:
            await self._operation.commit()
        self._store.store(self._name, record, reply, keep_s)
        return True

    async def release(self) -> None:
        await self._undo()
        if self._store.held(self._name, self._claim) is not None:
            del self._store.records[self._name]

    async def _undo(self) -> None:
        if self._operation is not None:
            await self._operation.undo()
