"""How long runs may take: one timer for all of them, for almost every run ends long before its time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

R = TypeVar("R")


class TimeLimits(Generic[R]):
    """Calls ``late(run)`` once for each run that is still there when its time is over."""

    def __init__(self, late: Callable[[R], None]) -> None:
        self._late = late
        self._until: dict[R, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._at = float("inf")

    def add(self, run: R, seconds: float) -> None:
        """``run`` has ``seconds`` from now."""
        loop = asyncio.get_running_loop()
        until = self._until[run] = loop.time() + seconds
        if until < self._at:
            self._wait_until(until, loop)

    def remove(self, run: R) -> None:
        """``run`` has ended."""
        self._until.pop(run, None)

    def _wait_until(self, at: float, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._at = loop.call_at(at, self._look, loop), at

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer, self._at = None, float("inf")
        now = loop.time()
        for run in [run for run, until in self._until.items() if until <= now]:
            del self._until[run]
            self._late(run)
        if self._until:
            self._wait_until(min(self._until.values()), loop)
