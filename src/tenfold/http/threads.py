"""Handlers that are plain functions run in a bounded pool of threads, within the request's context."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import TypeVar

from tenfold._core.clock import Clock
from tenfold._core.context import current
from tenfold._core.threads import contained
from tenfold.errors import DeadlineExceeded

R = TypeVar("R")


class HandlerThreads:
    """At most ``size`` handlers at a time; more wait in line, within their deadlines: none begins after its own.

    A thread cannot be cancelled: after a deadline the client has its answer while the function runs to its
    end, so functions that may take long should look at ``current().remaining(clock)``.
    """

    def __init__(self, size: int, clock: Clock) -> None:
        self._size = size
        self._monotonic = clock.monotonic
        self._pool: ThreadPoolExecutor | None = None

    async def run(self, fn: Callable[..., R], /, *args: object, **kwargs: object) -> R:
        """What ``fn`` returns or raises."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._size, thread_name_prefix="tenfold-handler")
        call = partial(copy_context().run, self._begin, fn, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._pool, call)

    def _begin(self, fn: Callable[..., R], /, *args: object, **kwargs: object) -> R:
        """In the thread. Who waited for it may be told that it is over a moment after it is."""
        deadline = current().deadline
        if deadline is not None and self._monotonic() >= deadline:
            raise DeadlineExceeded(
                "No thread came free for the function before its deadline; it was not begun."
            )
        return contained(fn, *args, **kwargs)

    def stop(self) -> None:
        """Let running functions end in the background; waiting ones are dropped."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None
