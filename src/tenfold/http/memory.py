"""Memory for request bodies, shared by all requests in progress.

Every body is bounded (``http.body_max_bytes``), but a thousand of them together are not. A body beyond
:data:`FREE_BYTES` takes its whole size from :class:`BodyMemory` before more of it is read: what it announces, or, when it
comes in chunks, twice as much each time. While it waits for room nothing is read, so its client waits too.
"""

from __future__ import annotations

import asyncio
from collections import deque

from tenfold.errors import Unavailable

FREE_BYTES = 65_536
"""Bodies up to this size are not counted: the bound on requests in progress bounds them."""
WAIT_S = 5.0
"""How long a body waits for room before it is refused."""
WAITING_MAX = 1_000


class BodyMemory:
    """Bytes of bodies in memory at a time. Whoever came first is served first, so a large body is not passed by for
    ever by small ones. One larger than all of it gets all of it."""

    def __init__(self, max_bytes: int, *, wait_s: float = WAIT_S) -> None:
        self.max_bytes = max_bytes
        self.used = 0
        self.refused = 0
        """Bodies that found no room within ``wait_s``."""
        self._wait_s = wait_s
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def waiting(self) -> int:
        """Bodies that wait for room."""
        return len(self._waiting)

    async def take(self, size: int) -> int:
        """Reserve ``size`` bytes, wait for them if need be; how many were reserved.

        Raises Unavailable (503) when there is no room within the time, or when too many wait already.
        """
        size = min(size, self.max_bytes)
        if not self._waiting and self.used + size <= self.max_bytes:
            self.used += size
            return size
        if len(self._waiting) >= WAITING_MAX:
            raise self._full()
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, place))
        try:
            async with asyncio.timeout(self._wait_s):
                await place
        except BaseException as error:
            self._leave(size, place)
            if isinstance(error, TimeoutError):
                raise self._full() from None
            raise
        return size

    def give(self, size: int) -> None:
        """What was taken is free again."""
        self.used -= size
        self._next()

    def _leave(self, size: int, place: asyncio.Future[None]) -> None:
        if place.done() and not place.cancelled():
            self.give(size)  # it came in the same moment
        else:
            place.cancel()
            self._next()

    def _next(self) -> None:
        """Serve who has room now. Who has given up is still in line, and left out."""
        while self._waiting:
            size, place = self._waiting[0]
            if not place.cancelled():
                if self.used + size > self.max_bytes:
                    return
                self.used += size
                place.set_result(None)
            self._waiting.popleft()

    def _full(self) -> Unavailable:
        self.refused += 1
        return Unavailable(
            f"Bodies of other requests fill the {self.max_bytes:,} bytes of memory there are for them"
            " (http.buffered_max_bytes); try again.",
            headers={"Retry-After": "1", "Connection": "close"},
            limit="http.buffered_max_bytes",
            value=self.max_bytes,
        )
