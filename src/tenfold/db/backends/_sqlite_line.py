"""The line in front of a file's write lock, for several processes.

SQLite's lock has no queue: a process that commits and begins again at once can keep another one, which looks only
now and then, waiting for ever. So who finds the lock taken also locks ``<file>-line`` (``flock``, which ends with its
process), and nobody begins past somebody who stands there.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import apsw

POLL_S = 0.001
"""Between two looks at the line."""
_POLL_NEXT_S = 0.000_25
"""Between two looks of the one who is next."""

if sys.platform == "win32":

    class Line:
        """Without ``flock`` there is no line: whoever looks at the right moment wins."""

        def __init__(self, database: Path) -> None:
            pass

        def is_empty(self) -> bool:
            return True

        def stand(self, wait: Callable[[], bool]) -> bool:
            return True

        def leave(self) -> None:
            pass

        def close(self) -> None:
            pass

else:
    import fcntl

    class Line:
        """This process's view of the line. One thread at a time uses it."""

        def __init__(self, database: Path) -> None:
            self._file = os.open(f"{database}-line", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)

        def is_empty(self) -> bool:
            """True when no other process is next for the lock."""
            try:
                fcntl.flock(self._file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            fcntl.flock(self._file, fcntl.LOCK_UN)
            return True

        def stand(self, wait: Callable[[], bool]) -> bool:
            """Become the next one, calling ``wait`` between two tries; False when ``wait`` says to give up."""
            while True:
                try:
                    fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    if not wait():
                        return False
                else:
                    return True

        def leave(self) -> None:
            """Let somebody else be the next one."""
            fcntl.flock(self._file, fcntl.LOCK_UN)

        def close(self) -> None:
            os.close(self._file)


def begin_in_turn(
    conn: apsw.Connection, line: Line, stop: threading.Event, until: float, now: Callable[[], float]
) -> None:
    """``BEGIN IMMEDIATE`` when it is this process's turn; blocks. Raises BusyError at ``until`` or on ``stop``."""

    def wait(poll_s: float = POLL_S) -> bool:
        return not stop.wait(poll_s) and now() <= until

    if not line.stand(wait):
        raise apsw.BusyError("database is locked")
    try:
        while True:
            try:
                conn.execute("BEGIN IMMEDIATE")
            except apsw.BusyError:
                if not wait(_POLL_NEXT_S):
                    raise
            else:
                return
    finally:
        line.leave()
