"""What a store of rate limits promises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from tenfold.guard.gcra import LATER, Cell, Taken
from tenfold.guard.leasing import Unused


class LimitStore(ABC):
    """Where the cells of rate limits live.

    - Order: of concurrent requests on a cell, one decision comes after the other; which is first is not promised.
    - Exactness: the decisions are those of :func:`tenfold.guard.gcra.decide` in that order, over all instances on
      one store: never more is admitted. All cells of a request are decided together.
    - Loss: cells may be lost when the store crashes; a lost cell counts as unused.
    - Atomicity: with nothing else. A decision stands also when the work that it was for is rolled back.
    - Time: the store's own clock decides, never an instance's. A request that is cancelled may have been counted.
    - Errors: StoreUnavailable only.
    """

    shared: bool
    """Whether other processes decide on the same cells."""
    bounded: bool = False
    """Whether :meth:`take` raises by itself when the store does not answer within ``guard.timeout_s``."""
    gives_back: bool = False
    """Whether :meth:`give_back` does anything."""

    def take_now(self, cells: Sequence[Cell]) -> Taken | None:
        """The decision at once, or None when :meth:`take` has to be awaited; never blocks."""
        return None

    def take_one(self, key: str, cost: int, room: int) -> int:
        """As :meth:`take_now` for one cell, which is what nearly every limit is, in the one number that matters: how far its
        TAT is ahead after the decision; of work that was not admitted the complement (``~ahead``, below 0), and
        :data:`~tenfold.guard.gcra.LATER` when :meth:`take` has to be awaited."""
        taken = self.take_now(((key, cost, room),))
        if taken is None:
            return LATER
        return taken.ahead_us[0] if taken.admitted else ~taken.ahead_us[0]

    @abstractmethod
    async def take(self, cells: Sequence[Cell]) -> Taken:
        """Decide. No two cells of a request have the same key; with no cells it shows that the store answers."""

    @abstractmethod
    async def prune(self, limit: int) -> int:
        """Delete at most ``limit`` cells that are no different from unused ones; how many were."""

    async def give_back(self, unused: Sequence[Unused]) -> int:
        """Move each cell's TAT back by what was not used, if nobody has moved it on from ``end_us`` since; how many
        were. Then what was given back counts as never taken, and nobody's slot becomes another's."""
        return 0
