"""Turns between tenants: who of those that wait is next, and who holds the most. Pure: no clock, no I/O.

*Shares* are the parties between which something is fair: a tenant, an address, or "" for whoever has none.

:class:`FairLine` is start-time fair queueing (Goyal, Vin and Cheng, "Start-time Fair Queueing: A Scheduling Algorithm
for Integrated Services Packet Switching Networks", SIGCOMM 1996), with one turn as the unit of cost: each share has a
line of its own with a tag in virtual time; the line with the smallest tag is next, and its tag moves on by
1 / weight. Virtual time is the tag of the last one served, and a share that comes anew starts there: it neither
saves up turns while it is away nor pays for what it had when nobody else wanted it.
"""

from __future__ import annotations

import heapq
import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import Generic, TypeVar, cast

from tenfold.errors import ConfigError

T = TypeVar("T")

log = logging.getLogger("tenfold.fairness")

WEIGHT_MIN, WEIGHT_MAX = 0.01, 1000.0
_REMEMBERED = 10_000
"""Weights that are kept of what a function answered."""

WeightOf = Callable[[str], float]


class Weights:
    """How many turns a share has for every one of another's: what was set, else what ``ask`` says, else 1.

    ``ask`` is called once for each tenant while its answer is remembered (the last 10,000 at least), on the event
    loop: it must not wait. An answer that is no weight, or an error, is logged and counts as 1.
    """

    def __init__(
        self, declared: Mapping[str, float] | None = None, ask: Callable[[str], float] | None = None
    ) -> None:
        self._declared: dict[str, float] = {}
        self._ask = ask
        self._answers: dict[str, float] = {}
        for share, weight in (declared or {}).items():
            self.set(share, weight)

    def of(self, share: str) -> float:
        """The weight of a share, from 0.01 to 1000."""
        weight = self._declared.get(share)
        if weight is not None:
            return weight
        if self._ask is None or not share:
            return 1.0
        weight = self._answers.get(share)
        if weight is None:
            if len(self._answers) >= _REMEMBERED:
                self._answers.clear()
            weight = self._answers[share] = self._asked(self._ask, share)
        return weight

    def set(self, share: str, weight: float | None) -> None:
        """From now on this is the weight of ``share``; None: as if nothing had been said. Raises ConfigError."""
        if weight is None:
            self._declared.pop(share, None)
        elif not _is_weight(weight):
            raise ConfigError(
                f"{weight!r} is no weight.",
                where=f"tenants.{share}.weight",
                remedy=f"Write a number from {WEIGHT_MIN:g} to {WEIGHT_MAX:g}; who has none has 1.",
            )
        else:
            self._declared[share] = float(weight)

    def _asked(self, ask: Callable[[str], float], share: str) -> float:
        try:
            weight = ask(share)
        except Exception as error:
            log.warning("tenant_weight failed for tenant %r, which has weight 1 now: %r", share, error)
            return 1.0
        if _is_weight(weight):
            return float(weight)
        log.warning(
            "tenant_weight answered %r for tenant %r, which has weight 1 now: it must be a number from %g to %g.",
            weight,
            share,
            WEIGHT_MIN,
            WEIGHT_MAX,
        )
        return 1.0


def _is_weight(weight: object) -> bool:
    # A weight that is no number at all comes from a function of the user's; NaN fails the comparison.
    return type(weight) in (int, float) and WEIGHT_MIN <= cast("float", weight) <= WEIGHT_MAX


class _Queue(Generic[T]):
    """The line of one share."""

    __slots__ = ("items", "share", "tag")

    def __init__(self, share: str, tag: float) -> None:
        self.share = share
        self.tag = tag
        self.items: deque[T] = deque()


class FairLine(Generic[T]):
    """Who waits, in turns between shares; of one share in the order of arrival.

    Guarantees: with equal weights, one who comes waits for at most one turn of each other share, and for those of its
    own that came before. Over any stretch in which two shares always have somebody in line, their turns divided by
    their weights differ by at most ``1 / weight + 1 / weight``. Adding and taking cost O(log n) for n shares; what is
    kept is O(shares that wait, or had a turn lately), and nothing when nobody waits.
    """

    __slots__ = ("_heap", "_now", "_numbers", "_queues", "_weight_of", "size")

    def __init__(self, weight_of: WeightOf | None = None) -> None:
        self.size = 0
        """How many wait: a plain attribute, for who asks often."""
        self._weight_of = weight_of
        self._queues: dict[str, _Queue[T]] = {}
        self._heap: list[tuple[float, int, _Queue[T]]] = []
        """Every queue once, by a tag that may have moved on since; empty ones until their tag is reached, because
        until then their share has had its turns."""
        self._numbers = count()
        self._now = 0.0

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[T]:
        for queue in self._queues.values():
            yield from queue.items

    def push(self, share: str, item: T) -> None:
        """Stand in line."""
        self._queue(share).items.append(item)
        self.size += 1

    def pop(self, *, newest: bool = False) -> T:
        """Whose turn it is. ``newest``: of the share that is next, the one who came last. Raises IndexError."""
        heap = self._heap
        if len(heap) == 1 and heap[0][2].items:
            queue = heap[0][2]  # one share by itself: its tag in the heap is put right when another one comes
            item = queue.items.pop() if newest else queue.items.popleft()
            self._now = queue.tag
            queue.tag += self._turn(queue.share)
            self._less()
            return item
        while heap:
            tag, _, queue = heap[0]
            if queue.tag > tag:  # it was charged since
                heapq.heapreplace(heap, (queue.tag, next(self._numbers), queue))
            elif not queue.items:
                heapq.heappop(heap)
                del self._queues[queue.share]
            else:
                self._now = tag
                item = queue.items.pop() if newest else queue.items.popleft()
                queue.tag = tag + self._turn(queue.share)
                heapq.heapreplace(heap, (queue.tag, next(self._numbers), queue))
                self._less()
                return item
        raise IndexError("nobody waits")

    def discard(self, share: str, item: T) -> bool:
        """Leave the line without a turn; False when it did not stand there."""
        queue = self._queues.get(share)
        if queue is None:
            return False
        try:
            queue.items.remove(item)
        except ValueError:
            return False
        self._less()
        return True

    def take_out(self, share: str, *, newest: bool = True) -> T:
        """One of a share leaves the line without a turn: its newest or its oldest. Raises KeyError, IndexError."""
        queue = self._queues[share]
        item = queue.items.pop() if newest else queue.items.popleft()
        self._less()
        return item

    def waiting(self, share: str) -> int:
        """How many of one share wait."""
        queue = self._queues.get(share)
        return 0 if queue is None else len(queue.items)

    def charge(self, share: str, turns: float = 1.0) -> None:
        """A share had turns in some other way: it has so many less of those to come. Nothing where nobody waits."""
        if self.size:
            self._queue(share).tag += turns * self._turn(share)

    def lead(self, share: str) -> float:
        """By how many turns a share is ahead of those that wait; 0 when it is not, and where nobody waits."""
        queue = self._queues.get(share)
        return 0.0 if queue is None else max(0.0, queue.tag - self._now) / self._turn(share)

    def _queue(self, share: str) -> _Queue[T]:
        queue = self._queues.get(share)
        if queue is None:
            queue = self._queues[share] = _Queue(share, self._now)
            heapq.heappush(self._heap, (self._now, next(self._numbers), queue))
        return queue

    def _turn(self, share: str) -> float:
        """What one turn costs."""
        return 1.0 if self._weight_of is None else 1.0 / self._weight_of(share)

    def _less(self) -> None:
        self.size -= 1
        if not self.size:  # who comes next finds everybody equal
            self._queues.clear()
            self._heap.clear()
            self._now = 0.0


_NOTHING = (0, -1)


class Holdings:
    """How much each share holds of something, and who holds the most for its weight. Every method but :meth:`amounts` is
    O(1) for weights around 1 (O(1 / weight) below).

    Amounts are compared in whole units per weight, so that two shares may differ by less than one.
    """

    __slots__ = ("_amounts", "_levels", "_top", "_weight_of")

    def __init__(self, weight_of: WeightOf | None = None) -> None:
        self._weight_of = weight_of
        self._amounts: dict[str, tuple[int, int]] = {}
        """Amount and level of every share that holds anything."""
        self._levels: dict[int, dict[str, None]] = {}
        """Shares by amount per weight, those that came to it last at the end."""
        self._top = 0

    def __len__(self) -> int:
        """How many shares hold anything."""
        return len(self._amounts)

    def of(self, share: str) -> int:
        """What a share holds."""
        return self._amounts.get(share, (0, 0))[0]

    def amounts(self) -> dict[str, int]:
        """What every share holds."""
        return {share: amount for share, (amount, _) in self._amounts.items()}

    def level(self, share: str, more: int = 0) -> int:
        """What a share holds for its weight, or would hold with so many more."""
        held = self.of(share) + more
        return held if self._weight_of is None else int(held / self._weight_of(share))

    def add(self, share: str) -> None:
        """It holds one more."""
        self._move(share, 1)

    def remove(self, share: str) -> None:
        """It holds one less."""
        self._move(share, -1)

    def heaviest(self) -> str | None:
        """Who holds the most for its weight (of several the one that came to it first); None when nobody does."""
        level = self._levels.get(self._top)
        return next(iter(level)) if level else None

    def _move(self, share: str, by: int) -> None:
        amounts, levels = self._amounts, self._levels
        amount, level = amounts.get(share, _NOTHING)
        amount += by
        if amount < 0:
            raise ValueError(f"share {share!r} holds nothing.")
        found = levels.get(level)
        if found is not None:
            del found[share]
            if not found:
                del levels[level]
        if amount:
            now = amount if self._weight_of is None else int(amount / self._weight_of(share))
            amounts[share] = (amount, now)
            if now not in levels:
                levels[now] = found if found is not None and not found else {}
            levels[now][share] = None
            if now > self._top:
                self._top = now
        else:
            amounts.pop(share, None)
        # The heaviest has become lighter: by one unit, so the next level that somebody is at is near.
        while self._top > 0 and self._top not in levels:
            self._top -= 1
