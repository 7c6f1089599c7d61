"""Computing for a given time, the same for everybody."""

from __future__ import annotations

import time


def burn(seconds: float = 0.005) -> int:
    """Take so much CPU time of this thread. A number of rounds would take as long as the machine is slow at that moment, and
    the peak and the load of a run are not measured at the same moment."""
    x, end = 0, time.thread_time() + seconds
    while time.thread_time() < end:
        for i in range(500):
            x = (x + i) & 0xFFFF
    return x
