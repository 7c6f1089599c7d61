"""Probes of the event loop for :mod:`tenfold.guard.admission`: how long does one stand in its queue?

A timer that comes due is late by what is left of the loop's present turn; the callback it then puts at the end of the
queue waits for everybody who was ready before it. Both together is what a request waits that arrives at that moment.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tenfold._core.clock import Clock
    from tenfold.guard.admission import Admission

BUSY_S = 0.005
IDLE_S = 0.01
REST_S = 0.05
"""Between two probes while requests are in progress, while none are, and while none has come since the last probe."""


class LoopProbe:
    """Probes the loop that it is started on, 200 times a second while there is work, else 100 times; 20 times where there
    was none at all, since each probe of a process that rests wakes it (0.1 ms of CPU with all that is in no cache then)."""

    def __init__(self, admission: Admission, clock: Clock) -> None:
        self._admission = admission
        self._monotonic = clock.monotonic
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.Handle | None = None
        self._due = 0.0
        self._admitted = 0
        """At the last probe."""

    def start(self) -> None:
        """Begin on the running loop; again is harmless."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._set()

    def stop(self) -> None:
        """Probe no more."""
        if self._timer is not None:
            self._timer.cancel()
        self._loop = self._timer = None

    def _set(self) -> None:
        if self._loop is not None:
            pause_s = self._pause_s()
            self._due = self._monotonic() + pause_s
            self._timer = self._loop.call_later(pause_s, self._stand)

    def _pause_s(self) -> float:
        gate = self._admission
        before, self._admitted = self._admitted, gate.admitted
        if gate.in_flight:
            return BUSY_S
        return REST_S if gate.admitted == before else IDLE_S

    def _stand(self) -> None:
        if self._loop is not None:
            self._timer = self._loop.call_soon(self._stood)

    def _stood(self) -> None:
        now = self._monotonic()
        self._admission.observe(now, max(0.0, now - self._due))
        self._set()


def other_threads_cpu_s() -> float:
    """CPU time of this process's threads but the calling one, which computing takes the interpreter from."""
    return time.process_time() - time.thread_time()
