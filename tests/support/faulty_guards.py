"""Stores in memory that lose races and mix up states, which changing the answers of a sound one (as
``conformance/_broken_stores.py`` does) cannot bring about."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from tenfold.guard.backends._memory_idempotency import MemoryIdempotencyStore
from tenfold.guard.backends._memory_leases import MemoryLeases
from tenfold.guard.backends._memory_limits import MemoryLimits
from tenfold.guard.backends._memory_sessions import MemorySessions
from tenfold.guard.gcra import Cell, Taken, decide
from tenfold.guard.keys import KeyRecord
from tenfold.security.sessions import SessionRecord

if TYPE_CHECKING:
    from tenfold._core.clock import Clock


class TornLimits(MemoryLimits):
    """Reads, thinks, writes; what came in between is lost."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self._clock = clock

    async def take(self, cells: Sequence[Cell]) -> Taken:
        now_us = int(self._clock.monotonic() * 1_000_000)
        found = [self._tats_us.get(key, 0) for key, _, _ in cells]
        await asyncio.sleep(0)
        taken = decide(cells, found, now_us)
        if taken.admitted:
            self._tats_us.update((c[0], now_us + a) for c, a in zip(cells, taken.ahead_us, strict=True))
        return taken


class RevivingLeases(MemoryLeases):
    """Renews a lease whose time is over, as long as nobody else has it."""

    async def renew(self, name: str, token: int, ttl_s: float) -> bool:
        if self._held[name][0] != token:
            return False
        self._held[name] = token, self._monotonic() + ttl_s
        return True


class HastyKeys(MemoryIdempotencyStore):
    """Looks whether a key is free, and takes it a moment later."""

    async def claim(self, scope: str, key: str, record: KeyRecord) -> bool:
        free = await super().find(scope, key) is None
        await asyncio.sleep(0)
        if free:
            self.records.pop((scope, key), None)
        return await super().claim(scope, key, record)


class OverridingKeys(MemoryIdempotencyStore):
    """Takes over whatever has no lease any more, a stored reply too."""

    async def claim(self, scope: str, key: str, record: KeyRecord) -> bool:
        found = await self.find(scope, key)
        if found is not None and found.lease_s <= 0:
            self.records.pop((scope, key))
        return await super().claim(scope, key, record)


class UndyingSessions(MemorySessions):
    """Touching a session writes it anew, also when it was revoked."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[str, SessionRecord] = {}

    async def get(self, hash_: str, now: float) -> SessionRecord | None:
        record = await super().get(hash_, now)
        if record is not None:
            self._seen[hash_] = record
        return record

    async def touch(self, hash_: str, expires_at: float, *, now: float) -> bool:
        await self.get(hash_, now)
        if hash_ in self._seen:
            record = msgspec.structs.replace(self._seen[hash_], expires_at=expires_at)
            self._records[hash_] = record
            self._of.setdefault(record.account_id, set()).add(hash_)
            return True
        return False
