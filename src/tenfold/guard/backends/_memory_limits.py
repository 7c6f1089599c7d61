"""Rate limits in this process: a dict of one number per cell."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING

from tenfold.guard.gcra import Cell, Taken, decide
from tenfold.guard.limits import LimitStore

if TYPE_CHECKING:
    from tenfold._core.clock import Clock

CELLS_MAX = 200_000
"""About 40 MB. Beyond it those cells are forgotten that are nearest to being unused."""


class MemoryLimits(LimitStore):
    """Decides at once. Holds ``cells_max`` subjects: when more than those are active at a time, the least active
    ones begin anew."""

    shared = False

    def __init__(self, clock: Clock, *, cells_max: int = CELLS_MAX) -> None:
        self._monotonic = clock.monotonic
        self._cells_max = cells_max
        self._tats_us: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._tats_us)

    def take_now(self, cells: Sequence[Cell]) -> Taken:
        now_us = int(self._monotonic() * 1_000_000)
        tats = self._tats_us
        taken = decide(cells, [tats.get(key, 0) for key, _, _ in cells], now_us)
        if taken.admitted:
            tats.update((c[0], now_us + a) for c, a in zip(cells, taken.ahead_us, strict=True))
        if len(tats) > self._cells_max:
            self._make_room(now_us)
        return taken

    def take_one(self, key: str, cost: int, room: int) -> int:
        # As `decide` says, without its loops.
        now_us = int(self._monotonic() * 1_000_000)
        tats = self._tats_us
        try:
            tat = tats[key]
        except KeyError:
            if len(tats) >= self._cells_max:
                self._make_room(now_us)
                tats = self._tats_us
            tat = now_us
        if tat < now_us:
            tat = now_us
        tat += cost
        ahead = tat - now_us
        if ahead > room:
            return ~min(ahead - cost, room)
        tats[key] = tat
        return ahead

    async def take(self, cells: Sequence[Cell]) -> Taken:
        return self.take_now(cells)

    async def prune(self, limit: int) -> int:
        now_us = int(self._monotonic() * 1_000_000)
        unused = list(islice((key for key, tat in self._tats_us.items() if tat <= now_us), limit))
        for key in unused:
            del self._tats_us[key]
        return len(unused)

    def _make_room(self, now_us: int) -> None:
        """A tenth at least is free afterwards, so that this is rare."""
        self._tats_us = {key: tat for key, tat in self._tats_us.items() if tat > now_us}
        surplus = len(self._tats_us) - self._cells_max * 9 // 10
        if surplus > 0:
            for key in heapq.nsmallest(surplus, self._tats_us, key=self._tats_us.__getitem__):
                del self._tats_us[key]
