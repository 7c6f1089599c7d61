"""Stores of guards that are broken in the ways in which such stores are: each must be convicted by its suite."""

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


class PiecemealLimits(MemoryLimits):
    """Counts in the first cells although a later one refuses."""

    async def take(self, cells: Sequence[Cell]) -> Taken:
        taken = [self.take_now([cell]) for cell in cells]
        return Taken(all(t.admitted for t in taken), taken[0].at_us, tuple(t.ahead_us[0] for t in taken))


class RevivingLeases(MemoryLeases):
    """Renews a lease whose time is over, as long as nobody else has it."""

    async def renew(self, name: str, token: int, ttl_s: float) -> bool:
        if self._held[name][0] != token:
            return False
        self._held[name] = token, self._monotonic() + ttl_s
        return True


class OneTokenLeases(MemoryLeases):
    """Every holder gets the same token."""

    async def acquire(self, name: str, ttl_s: float) -> int | None:
        token = await super().acquire(name, ttl_s)
        if token is not None:
            self._held[name] = 1, self._held[name][1]
        return None if token is None else 1


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
