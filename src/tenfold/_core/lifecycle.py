"""Start parts in order, stop them in reverse, each within a time.

A part is anything with ``async start()`` and ``async stop()``. When one fails to start, those before it are
stopped and the error goes to the caller: an app is running whole or not at all.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

log = logging.getLogger("tenfold.lifecycle")


class Part(Protocol):
    """Something with a life as long as the app's."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


class Lifecycle:
    """An ordered set of parts. ``stop_timeout_s`` bounds each part's stop; one that overruns is left behind."""

    def __init__(self, stop_timeout_s: float = 15.0) -> None:
        self._stop_timeout_s = stop_timeout_s
        self._started: list[tuple[str, Part]] = []

    async def start(self, name: str, part: Part) -> None:
        """Start ``part`` and remember it for :meth:`stop`."""
        try:
            await part.start()
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError):
                log.warning("%s had not started when the start was called off", name)
            await self.stop()
            raise
        self._started.append((name, part))

    async def stop(self) -> None:
        """Stop every part, last started first; a failure is logged and does not keep the others running."""
        while self._started:
            name, part = self._started.pop()
            limit = asyncio.timeout(self._stop_timeout_s)
            try:
                async with limit:
                    await part.stop()
            except Exception:
                if limit.expired():
                    log.warning("%s did not stop within %g s and was left behind", name, self._stop_timeout_s)
                else:
                    log.exception("%s failed to stop", name)
