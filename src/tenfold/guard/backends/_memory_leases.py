"""Leases in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tenfold.guard.lease import LeaseStore

if TYPE_CHECKING:
    from tenfold._core.clock import Clock


class MemoryLeases(LeaseStore):
    """A dict. Its methods never suspend, so each is atomic on the event loop."""

    durable = False
    shared = False

    def __init__(self, clock: Clock) -> None:
        self._monotonic = clock.monotonic
        self._held: dict[str, tuple[int, float]] = {}
        """Token and end by name. Names stay, for their tokens."""

    async def acquire(self, name: str, ttl_s: float) -> int | None:
        token, until = self._held.get(name, (0, float("-inf")))
        now = self._monotonic()
        if until > now:
            return None
        self._held[name] = token + 1, now + ttl_s
        return token + 1

    async def renew(self, name: str, token: int, ttl_s: float) -> bool:
        if await self.holder(name) != token:
            return False
        self._held[name] = token, self._monotonic() + ttl_s
        return True

    async def release(self, name: str, token: int) -> bool:
        if await self.holder(name) != token:
            return False
        self._held[name] = token, float("-inf")
        return True

    async def holder(self, name: str) -> int | None:
        token, until = self._held.get(name, (0, float("-inf")))
        return token if until > self._monotonic() else None
