"""Children that end with the test run, also when it is killed and cleans up nothing."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def die_with_parent(how: signal.Signals = signal.SIGKILL) -> None:
    """For ``preexec_fn``: the child gets ``how`` when the thread that started it ends, whatever ended it. Linux only;
    elsewhere a killed run leaves its children."""
    if _libc is None:
        return
    _libc.prctl(_PR_SET_PDEATHSIG, how)
    if os.getppid() == 1:  # it was gone before we asked
        os.kill(os.getpid(), how)
