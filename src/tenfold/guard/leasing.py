"""Units of a rate limit that an instance takes ahead, so that most checks need nobody: what is decided, and nothing else.

A store admits work by moving a cell's TAT on (:mod:`tenfold.guard.gcra`); what lies between the TAT before and after is
the work's *slot*. A lease is such a move for more than the work in hand: the slots belong to the instance, and its next
checks cut theirs from them. A slot may be used until the moment at which it begins, no later: what nobody used by then
has flowed out of the cell, as it would have without a lease. So each piece of work that was admitted at ``u``, by
whomever, has a slot of its own within ``u`` and ``u + room``, and over any time ``t`` no more than ``room + t`` is
admitted: a lease exceeds the limit by nothing.

The instance needs to know the store's time for that, and never asks its wall clock: it counts on its monotonic clock
from *before* it asked, so that a slot seems to begin earlier than it does.

What a lease costs is room: units that are lent are not there for others until they are used, given back, or flow out.
So a lease is taken only where

* this instance has checked the cell often of late, and would decide ``CHECKS_MIN`` times at least by the lease,
* it is at most an eighth of the cell's room, and
* half of the room stays free. A cell that is scarcer than that is asked about each time, and is as exact as the store.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tenfold.guard.gcra import LATER, Cell, Taken

CHECKS = 32
"""What a lease is meant to last for."""
HOLD_US = 100_000
"""How long it is meant to last at least. Of a cell that is checked 20,000 times a second, leases for 32 checks would be
600 questions a second, and all that comes while one is under way waits for its answer."""
CHECKS_MIN = 4
"""A lease that would decide fewer is not worth its room."""
SHARE = 8
"""The part of a cell's room that one lease may be."""
FREE = 2
"""The part of a cell's room that stays free of leases."""
KEPT = 4
"""How many times as long as a lease a cell is remembered that nobody checks."""
CELLS_MAX = 10_000
"""Cells of which an instance remembers how often it asked. Others are asked about each time."""


class Unused(NamedTuple):
    """What is left of a lease, for the store to have it back."""

    key: str
    end_us: int
    """The TAT to which the lease moved the cell, on the store's clock."""
    unused_us: int
    """The end of the lease that nobody used."""


class _Known:
    """What an instance knows of a cell, and what it holds of it. Times are this instance's, in microseconds."""

    __slots__ = (
        "ahead_us", "asked_us", "end_us", "gap_us", "known_us", "next_us", "served", "store_end_us", "taken", "told_us",
        "until_us",
    )  # fmt: skip

    def __init__(self, asked_us: int, gap_us: int) -> None:
        self.asked_us = asked_us
        self.gap_us = gap_us
        """Mean time between two checks; as long as a lease before anything is known."""
        self.served = 0
        """Decided here since the store was asked last."""
        self.ahead_us = self.known_us = 0
        """How full the cell was, and when."""
        self.next_us = self.end_us = self.until_us = -1
        """Slots from ``next_us`` to ``end_us`` are ours until ``until_us``."""
        self.store_end_us = 0
        self.taken = _NOTHING
        self.told_us = 0
        """How full the cell is, as every check by the lease is told."""


_NOTHING = Taken(True, 0, (0,))


class Leasing:
    """The leases of one instance. Every time is handed in: microseconds on a clock that never goes back."""

    def __init__(self, lease_us: int, *, cells_max: int = CELLS_MAX) -> None:
        """``lease_us``: how long a lease lasts at most."""
        self._lease_us = lease_us
        # A clock that runs slow by a thousandth loses this much during a lease. Those of machines lose less.
        self._drift_us = lease_us // 1_000 + 1
        self._cells_max = cells_max
        self._known: dict[str, _Known] = {}
        self.local = 0
        """Checks that were decided here."""

    def __len__(self) -> int:
        return len(self._known)

    # ── decided here ──

    def take(self, cells: Sequence[Cell], now_us: int) -> Taken | None:
        """The decision, where leases on all cells have room for the work; else None, and the store is to be asked.

        ``ahead_us`` counts all of the lease as used, and nothing as having flowed out since it was taken.
        """
        if len(cells) == 1:
            key, cost, _ = cells[0]
            return self._known[key].taken if self.take_one(key, cost, now_us) >= 0 else None
        moves: list[tuple[_Known, int]] = []
        for key, cost, _ in cells:
            known = self._known.get(key)
            if known is None or now_us > known.until_us:
                return None
            end = max(known.next_us, now_us) + cost
            if end > known.end_us:
                return None
            moves.append((known, end))
        for known, end in moves:
            known.next_us = end
            known.served += 1
        self.local += 1
        return Taken(True, moves[0][0].taken.at_us, tuple(known.taken.ahead_us[0] for known, _ in moves))

    def take_one(self, key: str, cost: int, now_us: int) -> int:
        """The same for one cell: its ``ahead_us``, or LATER."""
        known = self._known.get(key)
        if known is None or now_us > known.until_us:
            return LATER
        end = known.next_us
        if end < now_us:
            end = now_us
        end += cost
        if end > known.end_us:
            return LATER
        known.next_us = end
        known.served += 1
        self.local += 1
        return known.told_us

    # ── asking the store ──

    def wanted(self, cells: Sequence[Cell], now_us: int) -> tuple[int, ...] | None:
        """The store is about to be asked: how much to take beyond each cell's cost, 0 where the lease that is held
        lasts. None: nothing, for one of the cells would bring the request to the store anyway."""
        if any(room < SHARE * CHECKS_MIN * cost for _, cost, room in cells):
            return None  # too small a limit for leases
        asked = [self._asked(key, now_us) for key, _, _ in cells]
        extras: list[int] = []
        for known, (_, cost, room) in zip(asked, cells, strict=True):
            if known is None:
                return None
            extra = 0 if self._lasts(known, cost, now_us) else self._size(known, cost, room, now_us)
            if extra is None:
                return None
            extras.append(extra)
        return tuple(extras) if any(extras) else None

    def told(self, cells: Sequence[Cell], taken: Taken, now_us: int) -> None:
        """What the store said without being asked for a lease; ``now_us`` is from before it was asked."""
        for (key, _, _), ahead in zip(cells, taken.ahead_us, strict=True):
            known = self._known.get(key)
            if known is not None:
                known.ahead_us, known.known_us = ahead, now_us

    def granted(self, cells: Sequence[Cell], extras: Sequence[int], taken: Taken, now_us: int) -> None:
        """The store admitted the work and the leases; ``now_us`` is from before it was asked."""
        self.told(cells, taken, now_us)
        for (key, _, _), extra, ahead in zip(cells, extras, taken.ahead_us, strict=True):
            known = self._known.get(key)
            if known is None or not extra:
                continue
            known.end_us = now_us + ahead - self._drift_us
            known.next_us = known.end_us - extra
            known.until_us = now_us + self._lease_us
            known.store_end_us = taken.at_us + ahead
            known.taken = Taken(True, taken.at_us, (ahead,))
            known.told_us = ahead

    def scarce(self, cells: Sequence[Cell], now_us: int) -> None:
        """The store has less free than we thought. Until it is asked again, the cells count as full."""
        for key, _, room in cells:
            known = self._known.get(key)
            if known is not None:
                known.ahead_us, known.known_us = room, now_us

    # ── the end of leases ──

    def lapsed(self, now_us: int, *, everything: bool = False) -> list[Unused]:
        """End the leases whose time is over (or all), and tell what of them can be given back."""
        found: list[Unused] = []
        for key, known in list(self._known.items()):
            if now_us <= known.until_us and not everything:
                continue
            unused = known.end_us - max(known.next_us, now_us)
            if unused > 0:
                found.append(Unused(key, known.store_end_us, unused))
            known.next_us = known.end_us = known.until_us = -1
            if now_us - known.asked_us > KEPT * self._lease_us:
                del self._known[key]
        return found

    def forget(self) -> None:
        """Use no lease any more: the store may not know of them."""
        self._known.clear()

    # ── what is known ──

    def _asked(self, key: str, now_us: int) -> _Known | None:
        known = self._known.get(key)
        if known is None:
            if len(self._known) < self._cells_max:
                self._known[key] = _Known(now_us, self._lease_us)
            return None
        gap = (now_us - known.asked_us) // (known.served + 1)
        known.gap_us = max(1, (known.gap_us + min(gap, self._lease_us)) // 2)
        known.asked_us, known.served = now_us, 0
        return known

    @staticmethod
    def _lasts(known: _Known, cost: int, now_us: int) -> bool:
        left = known.end_us - max(known.next_us, now_us)
        return now_us <= known.until_us and left >= CHECKS_MIN * max(cost, known.gap_us)

    def _size(self, known: _Known, cost: int, room: int, now_us: int) -> int | None:
        """As much as the next ``CHECKS`` checks take and those of ``HOLD_US``, or flows out until they have come; within
        the bounds."""
        since = now_us - known.known_us
        drained = max(known.ahead_us - since, 0)
        # The others have taken meanwhile as well: what has flowed out is not free for that.
        filled = known.ahead_us if since < self._lease_us else drained
        hold = min(self._lease_us, max(CHECKS * known.gap_us, HOLD_US))
        extra = max(hold // known.gap_us * cost, hold - drained)
        extra = min(extra, room // SHARE, room // FREE - filled - cost)
        checks = min(extra // cost, min(hold, drained + extra) // known.gap_us)
        return extra if checks >= CHECKS_MIN else None
