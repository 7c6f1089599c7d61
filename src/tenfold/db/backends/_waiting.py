"""Waiting that outlasts cancellations: a connection must be at rest before somebody else gets it."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any


async def settled(future: asyncio.Future[Any]) -> bool:
    """Wait for the end of ``future``, whatever it is, through any number of cancellations.

    True when there was one; the caller raises it again once the connection is safe.
    """
    cancelled = False
    while not future.done():
        # What asyncio.wait and shield do for one future, at a fifth of their cost.
        waiter: asyncio.Future[None] = future.get_loop().create_future()
        future.add_done_callback(partial(_release, waiter))
        try:
            await waiter
        except asyncio.CancelledError:
            cancelled = True
    if not future.cancelled():
        future.exception()  # seen
    return cancelled


def _release(waiter: asyncio.Future[None], _: asyncio.Future[Any]) -> None:
    if not waiter.done():
        waiter.set_result(None)


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
