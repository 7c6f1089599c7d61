"""The clock of a test: it stands still until the test moves it."""

from __future__ import annotations

import heapq

from tenfold._core.clock import ManualClock, _settle

START = 1_767_225_600.0
"""2026-01-01T00:00:00Z"""


class TestClock(ManualClock):
    """Moves in leaps: a task that would have woken a thousand times on the way wakes once, at the end."""

    __test__ = False

    def __init__(self, now: float = START) -> None:
        super().__init__(now)
        self._start = now

    async def leap(self, seconds: float) -> None:
        """Move on by ``seconds``, waking everybody who is due then."""
        end = self._elapsed + max(seconds, 0.0)
        self._move_to(end)
        while self._sleepers and self._sleepers[0][0] <= end:
            _, _, waiter = heapq.heappop(self._sleepers)
            if not waiter.done():
                waiter.set_result(None)
        await _settle()

    def rewind(self) -> None:
        """Back to the start, for the next test. Randomness goes on: ids of one test never return in another."""
        passed = self._elapsed
        self._now, self._elapsed = self._start, 0.0
        self._sleepers = [(max(due - passed, 0.0), order, waiter) for due, order, waiter in self._sleepers]
        heapq.heapify(self._sleepers)
