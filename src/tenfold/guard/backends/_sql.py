"""Everything in the service's own database: what ``[guard] url`` is when it is empty."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tenfold.guard.backends._sql_dialect import dialect_of
from tenfold.guard.backends._sql_idempotency import SqlIdempotencyStore
from tenfold.guard.backends._sql_leases import SqlLeases
from tenfold.guard.backends._sql_limits import SqlLimits
from tenfold.guard.contract import GuardStores
from tenfold.security.sql_sessions import SqlSessions

if TYPE_CHECKING:
    from tenfold.db.database import Database


class DatabaseGuards(GuardStores):
    """Limits and leases are in ``db``; keys and sessions beside what they belong to."""

    def __init__(self, db: Database) -> None:
        self._db = db

    @property
    def own_clock(self) -> bool:
        return dialect_of(self._db).family != "sqlite"

    def limits(self) -> SqlLimits:
        return SqlLimits(self._db)

    def leases(self) -> SqlLeases:
        return SqlLeases(self._db)

    def idempotency(self, db: Database | None) -> SqlIdempotencyStore:
        return SqlIdempotencyStore(db or self._db)

    def sessions(self, db: Database) -> SqlSessions:
        return SqlSessions(db)
