"""A database that is moved while something waits for it, without the command that moves real ones."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from tenfold.db import Database
from tenfold.db.contract import DatabaseBackend
from tenfold.db.gate import Gate


class Move:
    """One facade, bound to ``here`` and then to ``there``. ``rebind`` is told the new backend before the gate opens."""

    def __init__(
        self,
        here: Database,
        there: Database,
        *,
        db: Database | None = None,
        rebind: Callable[[DatabaseBackend], None] | None = None,
    ) -> None:
        self.db = db or Database("moving", here.metadata)
        self.rebind = rebind
        self.there = there
        self.db.bind(here.backend)

    async def during(self, work: Awaitable[object]) -> object:
        """Begin ``work`` while the database is held, and let it go on where the database has moved to."""
        gate = Gate()
        self.db.hold(gate)
        waiting = asyncio.ensure_future(work)
        for _ in range(100):
            await asyncio.sleep(0)
        assert gate.waiting
        if self.rebind is not None:
            self.rebind(self.there.backend)
        self.db.bind(self.there.backend)
        gate.open()
        return await waiting
