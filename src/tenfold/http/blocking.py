"""Names the handler that holds the event loop.

A thread looks at the loop's heartbeat; when it stops for longer than the limit, the loop thread's stack tells
which operation runs and in which line. Logged at most once a minute per operation. Nothing of this is paid per
request.
"""

from __future__ import annotations

import logging
import sys
import threading
from types import FrameType

from tenfold._core.clock import Clock

log = logging.getLogger("tenfold.http")

REPEAT_S = 60.0


class LoopWatchdog:
    """Watches the loop it is started on. ``limit_s``: how long a handler may hold it unreported. :meth:`beat` is to be
    called on the loop every ``beat_s``, so that watching does not wake it one more time."""

    def __init__(self, clock: Clock, limit_s: float, beat_s: float) -> None:
        self.blocked = 0
        """How often the loop was found blocked, reported or not."""
        self._clock = clock
        self._limit_s, self._beat_s = limit_s, beat_s
        self._due = 0.0
        """When the next beat is expected."""
        self._stopped: threading.Event | None = None
        self._told: dict[str, float] = {}

    def start(self) -> None:
        """Watch the running loop; again is harmless."""
        if self._stopped is not None:
            return
        self._stopped = threading.Event()
        self.beat()
        thread = threading.Thread(
            target=self._watch,
            args=(threading.get_ident(), self._stopped),
            name="tenfold-loop-watchdog",
            daemon=True,
        )
        thread.start()

    def stop(self) -> None:
        if self._stopped is not None:
            self._stopped.set()
        self._stopped = None

    def beat(self) -> None:
        """The loop runs."""
        self._due = self._clock.monotonic() + self._beat_s

    def _watch(self, thread_id: int, stopped: threading.Event) -> None:
        seen = 0.0  # one report per blockage, however long it lasts
        while not stopped.wait(self._limit_s / 2):
            due = self._due
            late = self._clock.monotonic() - due
            if late < self._limit_s or due == seen:
                continue
            seen = due
            self.blocked += 1
            self._report(sys._current_frames().get(thread_id), late)

    def _report(self, frame: FrameType | None, late_s: float) -> None:
        found = blamed(frame)
        if found is None:
            return
        endpoint, where = found
        now = self._clock.monotonic()
        if now - self._told.get(endpoint, -REPEAT_S) < REPEAT_S:
            return
        self._told[endpoint] = now
        log.warning(
            "%s has held the event loop for %.0f ms or more, at %s: every other request waits. Await instead of blocking, "
            "or make it a plain function (def), which runs in a thread.",
            endpoint,
            late_s * 1000,
            where,
        )


def blamed(frame: FrameType | None) -> tuple[str, str] | None:
    """The operation on a stack, and the innermost line of the code that it called; None outside of any.

    Endpoints are recognised by the file name that the compiler gives them.
    """
    stack: list[FrameType] = []
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith("<") and name.endswith(">") and ": " in name and frame.f_code.co_name in ENTRIES:
            inner = stack[0] if stack else frame
            handler = stack[-1] if stack else frame
            line = f"{handler.f_code.co_filename}:{handler.f_lineno}"
            if inner is not handler:
                line += f" (in {inner.f_code.co_qualname}, {inner.f_code.co_filename}:{inner.f_lineno})"
            return name[1:-1].rpartition(": ")[2], line
        stack.append(frame)
        frame = frame.f_back
    return None


ENTRIES = frozenset({"endpoint", "work"})
