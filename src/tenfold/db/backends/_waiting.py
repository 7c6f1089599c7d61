"""Waiting that outlasts cancellations: a connection must be at rest before somebody else gets it."""

from __future__ import annotations

import asyncio
from typing import Any


async def settled(future: asyncio.Future[Any]) -> bool:
    """Wait for the end of ``future``, whatever it is, through any number of cancellations.

    True when there was one; the caller raises it again once the connection is safe.
    """
    cancelled = False
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError:
            cancelled = True
    if not future.cancelled():
        future.exception()  # seen
    return cancelled


async def quiet(lock: asyncio.Lock) -> bool:
    """Wait until nobody holds ``lock``, through any number of cancellations; True when there was one."""
    cancelled = False
    while lock.locked():
        try:
            async with lock:
                pass
        except asyncio.CancelledError:
            cancelled = True
    return cancelled
