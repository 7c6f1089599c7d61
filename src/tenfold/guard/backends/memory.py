"""Everything in this process: for tests, for development, and for what runs as one process without a database.

Needs nothing. Weakens: all is lost with the process and seen by nobody else, so with several processes each has
limits, leases, keys and sessions of its own. Replies are stored after their effect was committed, not with it
(``effect_atomic`` is False). Fencing tokens begin anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tenfold.errors import ConfigError
from tenfold.guard.backends._memory_idempotency import MemoryIdempotencyStore
from tenfold.guard.backends._memory_leases import MemoryLeases
from tenfold.guard.backends._memory_limits import MemoryLimits
from tenfold.guard.backends._memory_sessions import MemorySessions
from tenfold.guard.contract import GuardBackend

if TYPE_CHECKING:
    from tenfold._core.clock import Clock
    from tenfold._core.sections import GuardSettings
    from tenfold.db.database import Database


class Backend(GuardBackend):
    """One per app; each call makes the same store again."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._limits = MemoryLimits(clock)
        self._leases = MemoryLeases(clock)
        self._sessions = MemorySessions()

    @classmethod
    def from_url(cls, url: str, *, settings: GuardSettings, clock: Clock) -> Backend:
        if url.rstrip("/") != "memory:":
            raise ConfigError(
                f"the memory backend takes no address, and {url!r} has one.",
                where="guard.url",
                remedy='Write "memory:".',
            )
        return cls(clock)

    async def start(self) -> None:
        """Nothing to connect."""

    async def stop(self) -> None:
        """Nothing to let go."""

    async def health(self) -> None:
        """It is here."""

    @property
    def own_clock(self) -> bool:
        return False

    def limits(self) -> MemoryLimits:
        return self._limits

    def leases(self) -> MemoryLeases:
        return self._leases

    def idempotency(self, db: Database | None) -> MemoryIdempotencyStore:
        return MemoryIdempotencyStore(self._clock, db)

    def sessions(self, db: Database) -> MemorySessions:
        return self._sessions
