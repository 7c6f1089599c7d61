"""What ``[guard] url`` names: one place for rate limits, leases, idempotency keys and sessions.

Each of the four has a contract of its own, which says what it promises: :class:`~tenfold.guard.limits.LimitStore`,
:class:`~tenfold.guard.lease.LeaseStore`, :class:`~tenfold.guard.idempotency.IdempotencyStore`,
:class:`~tenfold.security.sessions.SessionStore`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tenfold._core.clock import Clock
    from tenfold._core.sections import GuardSettings
    from tenfold.db.database import Database
    from tenfold.guard.idempotency import IdempotencyStore
    from tenfold.guard.lease import LeaseStore
    from tenfold.guard.limits import LimitStore
    from tenfold.security.sessions import SessionStore


class GuardStores(ABC):
    """Makes the four stores; making one connects to nothing."""

    @property
    @abstractmethod
    def own_clock(self) -> bool:
        """Whether time is the store's. False: it is that of the clock which the process was given."""

    @abstractmethod
    def limits(self) -> LimitStore: ...

    @abstractmethod
    def leases(self) -> LeaseStore: ...

    @abstractmethod
    def idempotency(self, db: Database | None) -> IdempotencyStore:
        """For operations whose effects are in ``db``; None where they have no database."""

    @abstractmethod
    def sessions(self, db: Database) -> SessionStore:
        """For accounts that are in ``db``."""


class GuardBackend(GuardStores):
    """A place outside of the service's database. One per app, shared by all that guards it."""

    @classmethod
    @abstractmethod
    def from_url(cls, url: str, *, settings: GuardSettings, clock: Clock) -> GuardBackend:
        """Check the URL and keep the settings; connects to nothing. Raises ConfigError."""

    @abstractmethod
    async def start(self) -> None:
        """Connect. Raises ConfigError or StoreUnavailable with a sentence that names ``guard.url``."""

    @abstractmethod
    async def stop(self) -> None:
        """Let everything go."""

    @abstractmethod
    async def health(self) -> None:
        """Returns when the store answers; raises StoreUnavailable otherwise."""
