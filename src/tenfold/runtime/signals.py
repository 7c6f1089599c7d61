"""SIGTERM and SIGINT: the first one asks for an end in order, the second one is the end.

They are handled by Python itself, and not by the event loop, which a start function that blocks would keep from hearing of
them. A start that is called off and goes on all the same ends with the process, after a time.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Coroutine
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")


class Signals:
    """Those of the main thread, from now on. ``limit_s`` is what a start has to end in once it is called off."""

    def __init__(self, limit_s: float) -> None:
        self.told = asyncio.Event()
        """An end was asked for."""
        self._limit_s = limit_s
        self._loop = asyncio.get_running_loop()
        self._starting = self._asked = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._heard)

    async def unless_told(self, start: Coroutine[Any, Any, T]) -> T | None:
        """What ``start`` returns; None when an end was asked for before it did, and it was called off."""
        self._starting = True
        starting, told = asyncio.create_task(start), asyncio.create_task(self.told.wait())
        await asyncio.wait({starting, told}, return_when=asyncio.FIRST_COMPLETED)
        told.cancel()
        if not starting.done():
            starting.cancel()
            await asyncio.wait({starting})
        if starting.cancelled():
            return None
        self._starting = False
        return starting.result()

    def _heard(self, number: int, _frame: FrameType | None) -> None:
        if self._asked:
            _say("second signal: leaving at once")
            os._exit(128 + number)
        self._asked = True
        self._loop.call_soon_threadsafe(self.told.set)
        if self._starting:
            _say("told to end before it was ready: the start is called off")
            # Not a timer of the loop, which may be what hangs.
            limit = threading.Timer(self._limit_s, self._leave, (number,))
            limit.daemon = True
            limit.start()

    def _leave(self, number: int) -> None:
        if self._starting:
            _say(
                f"the start went on for {self._limit_s:g} s after it was called off (app.stop_timeout_s), {_where()}: leaving at once"
            )
            os._exit(128 + number)


def _where() -> str:
    """What the main thread is doing."""
    frame = sys._current_frames()[threading.main_thread().ident or 0]
    return f"and is at line {frame.f_lineno} of {frame.f_code.co_filename}"


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
