"""Handlers that are plain functions run in a bounded pool of threads, within the request's context."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import TypeVar

from tenfold._core.threads import contained

R = TypeVar("R")


class HandlerThreads:
    """At most ``size`` handlers at a time; more wait in line, within their deadlines.

    A thread cannot be cancelled: after a deadline the client has its answer while the function runs to its
    end, so functions that may take long should look at ``current().remaining(clock)``.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._pool: ThreadPoolExecutor | None = None

    async def run(self, fn: Callable[..., R], /, *args: object, **kwargs: object) -> R:
        """What ``fn`` returns or raises."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._size, thread_name_prefix="tenfold-handler")
        call = partial(copy_context().run, contained, fn, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._pool, call)

    def stop(self) -> None:
        """Let running functions end in the background; waiting ones are dropped."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None
