"""A bulkhead around a dependency: so many calls under way in all, and to each of its hosts; few wait, and not for long.

A dependency that has become slow then holds so many of our tasks, connections and bodies, and no more (Nygard, *Release
It!*, 2007).
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque


class Full(Exception):
    """There is no place, and there will not be one in time. The message says which limit is reached, ``limit`` how much
    it is."""

    def __init__(self, message: str, limit: str) -> None:
        self.limit = limit
        super().__init__(message)


class Places:
    """First come, first served, but nobody waits behind somebody whose host is full.

    The limits may be changed at any time: what is under way goes on.
    """

    def __init__(self, most: int, *, per_host: int, waiting_max: int) -> None:
        self.most, self.per_host, self.waiting_max = most, per_host, waiting_max
        self.in_flight = 0
        self.by_host: Counter[str] = Counter()
        self._line: deque[tuple[str, asyncio.Future[None]]] = deque()

    @property
    def waiting(self) -> int:
        """How many stand in line."""
        return len(self._line)

    def try_enter(self, host: str) -> bool:
        """Take a place if one is free and nobody waits for it. Who got True calls :meth:`leave` at the end."""
        if not self._fits(host) or any(each == host for each, _ in self._line):
            return False
        self._take(host)
        return True

    async def enter(self, host: str, wait_s: float) -> None:
        """Take a place, waiting up to ``wait_s`` seconds for one; then :meth:`leave` is due. Raises :class:`Full`."""
        if self.try_enter(host):
            return
        if len(self._line) >= self.waiting_max or wait_s <= 0:
            raise self._full(host)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (host, turn)
        self._line.append(entry)
        try:
            async with asyncio.timeout(wait_s):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self.leave(host)  # the place came in the very moment we gave up: pass it on
            else:
                self._line.remove(entry)
            if isinstance(error, TimeoutError):
                raise self._full(host) from None
            raise

    def leave(self, host: str) -> None:
        """The call is over."""
        self.in_flight -= 1
        self.by_host[host] -= 1
        if not self.by_host[host]:
            del self.by_host[host]
        self.admit()

    def admit(self) -> None:
        """Let in who fits now; also after a limit was raised."""
        if not self._line:
            return
        left: deque[tuple[str, asyncio.Future[None]]] = deque()
        for host, turn in self._line:
            if not turn.done() and self._fits(host):
                self._take(host)
                turn.set_result(None)
            else:
                left.append((host, turn))
        self._line = left

    def _fits(self, host: str) -> bool:
        return self.in_flight < self.most and self.by_host[host] < self.per_host

    def _take(self, host: str) -> None:
        self.in_flight += 1
        self.by_host[host] += 1

    def _full(self, host: str) -> Full:
        if self.in_flight >= self.most:
            said, most = "under way, which is its limit (concurrency)", self.most
        else:
            said, most = f"under way to {host}, which is its limit (concurrency_per_host)", self.per_host
        return Full(f"{most} calls are {said}", f"{most} calls at a time")
