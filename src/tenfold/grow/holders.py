"""Which processes have an SQLite file open."""

from __future__ import annotations

import os
from pathlib import Path

_SHM_OPEN = 128
"""Byte of the file's shared memory that every connection keeps locked as long as it is open (SQLite's WAL mode)."""


def holders(database: Path) -> set[int]:
    """Ids of other processes that have ``database`` open; on systems without ``/proc/locks`` none are found.

    Nothing is opened: closing a file would drop the locks that SQLite holds on it in this process.
    """
    try:
        inode = Path(f"{database}-shm").stat().st_ino
        locks = Path("/proc/locks").read_text(encoding="ascii")
    except OSError:
        return set()
    return parse(locks, inode) - {os.getpid()}


def parse(locks: str, inode: int) -> set[int]:
    """Process ids out of the text of ``/proc/locks``."""
    found: set[int] = set()
    for line in locks.splitlines():
        words = line.split()
        if "->" in words or len(words) < 8 or words[1] != "POSIX":
            continue  # one that waits, or another kind
        if words[5].rpartition(":")[2] == str(inode) and int(words[6]) <= _SHM_OPEN:
            found.add(int(words[4]))
    return found - {-1}
