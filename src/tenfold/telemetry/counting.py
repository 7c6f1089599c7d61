"""Numbers that cost a statement: counted beside the work every few seconds, never at a scrape."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from tenfold._core.tasks import end_tasks
from tenfold.errors import DatabaseError

if TYPE_CHECKING:
    from tenfold._core.clock import Clock

LOOK_S = 5.0
"""How old the numbers may be, at least."""
COST_MAX = 0.02
"""At most this share of the time is spent counting: what takes long to count is counted less often."""


class Counting(ABC):
    """A part that looks again and again from ``start`` to ``stop``. ``what`` it counts is for the log."""

    def __init__(self, clock: Clock, what: str, log: logging.Logger) -> None:
        self._clock, self._what, self._log = clock, what, log
        self._task: asyncio.Task[None] | None = None

    @abstractmethod
    async def look(self) -> None:
        """Count now. A DatabaseError leaves the numbers as they were."""

    async def start(self) -> None:
        self._task = asyncio.create_task(self._watch(), name=f"tenfold-counting-{self._what.split()[-1]}")

    async def stop(self) -> None:
        task, self._task = self._task, None
        await end_tasks(task)

    async def _watch(self) -> None:
        while True:
            begun = self._clock.monotonic()
            try:
                await self.look()
            except DatabaseError as error:
                self._log.warning("%s could not be counted: %s", self._what, error)
            took = self._clock.monotonic() - begun
            await self._clock.sleep(max(LOOK_S, took / COST_MAX))
