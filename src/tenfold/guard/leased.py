"""A store of rate limits that decides most checks from leases on another, which all instances share."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tenfold.errors import StoreUnavailable
from tenfold.guard.gcra import Cell, Taken
from tenfold.guard.leasing import FREE, Leasing, Unused
from tenfold.guard.limits import LimitStore

if TYPE_CHECKING:
    from tenfold._core.clock import Clock

log = logging.getLogger("tenfold.guard")


class LeasedLimits(LimitStore):
    """What :mod:`tenfold.guard.leasing` decides, done. A lease lasts ``lease_s`` seconds at most.

    As exact as the store behind it: leases are cut from what that admitted. Checks that find no lease while another
    takes one wait for it, so that a crowd asks the store once.
    """

    shared = True

    def __init__(self, store: LimitStore, clock: Clock, lease_s: float) -> None:
        self.store = store
        self.bounded = store.bounded
        self.gives_back = store.gives_back
        self._monotonic = clock.monotonic
        self._leasing = Leasing(int(lease_s * 1_000_000))
        self._asking: dict[str, asyncio.Event] = {}
        """Cells on which a lease is being taken."""
        self.asked = 0
        """Questions to the store."""
        self.leased = 0
        """Leases that it gave."""
        self.given_back = 0
        """Leases whose unused end it took back."""

    def numbers(self) -> dict[str, int]:
        """Counts since the start, for metrics."""
        return {
            "local_total": self._leasing.local,
            "asked_total": self.asked,
            "leased_total": self.leased,
            "given_back_total": self.given_back,
        }

    def take_now(self, cells: Sequence[Cell]) -> Taken | None:
        return self._leasing.take(cells, int(self._monotonic() * 1_000_000))

    def take_one(self, key: str, cost: int, room: int) -> int:
        return self._leasing.take_one(key, cost, int(self._monotonic() * 1_000_000))

    async def take(self, cells: Sequence[Cell]) -> Taken:
        asking = self._asking_for(cells)
        if asking is not None:
            await asking.wait()
            taken = self.take_now(cells)
            if taken is not None:
                return taken
        extras = self._leasing.wanted(cells, self._now_us())
        if extras is None or self._asking_for(cells) is not None:
            return await self._plain(cells)
        return await self._lease(cells, extras) or await self._plain(cells)

    async def prune(self, limit: int) -> int:
        return await self.store.prune(limit)

    async def give_back(self, unused: Sequence[Unused]) -> int:
        return await self.store.give_back(unused)

    # ── leases ──

    def forget(self) -> None:
        """The store is away, and may come back without what it gave: use no lease any more."""
        self._leasing.forget()

    async def settle(self, *, all_of_them: bool = False) -> None:
        """Give back what is left of the leases whose time is over, where the store can; ``all_of_them`` at the end."""
        unused = self._leasing.lapsed(self._now_us(), everything=all_of_them)
        if not unused or not self.gives_back:
            return
        try:
            self.given_back += await self.store.give_back(unused)
        except StoreUnavailable as error:
            log.debug("units that were taken ahead were not given back, they flow out: %s", error)

    async def _lease(self, cells: Sequence[Cell], extras: Sequence[int]) -> Taken | None:
        """The store's decision on the work with its leases; None: they do not fit, and the work may."""
        now_us = self._now_us()
        done = asyncio.Event()
        wanted = [cell[0] for cell, extra in zip(cells, extras, strict=True) if extra]
        self._asking.update(dict.fromkeys(wanted, done))
        try:
            self.asked += 1
            taken = await self.store.take(
                [
                    (key, cost + extra, room // FREE if extra else room)
                    for (key, cost, room), extra in zip(cells, extras, strict=True)
                ]
            )
            if not taken.admitted:
                self._leasing.scarce(cells, now_us)
                return None
            self._leasing.granted(cells, extras, taken, now_us)
            self.leased += len(wanted)
            return taken
        finally:
            for key in wanted:
                del self._asking[key]
            done.set()

    async def _plain(self, cells: Sequence[Cell]) -> Taken:
        now_us = self._now_us()
        self.asked += 1
        taken = await self.store.take(cells)
        self._leasing.told(cells, taken, now_us)
        return taken

    def _asking_for(self, cells: Sequence[Cell]) -> asyncio.Event | None:
        if not self._asking:
            return None
        return next((self._asking[key] for key, _, _ in cells if key in self._asking), None)

    def _now_us(self) -> int:
        return int(self._monotonic() * 1_000_000)
