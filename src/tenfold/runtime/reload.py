"""Starting again when the code changes: which files make the app, and how the process is replaced."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Sources:
    """Files that an app is made of: Python and TOML below ``folders`` (a single file may stand there too)."""

    folders: tuple[Path, ...]
    read_at: float
    """Seconds since the epoch, before the first of them was read: later changes count, watched or not."""

    async def changed(self) -> str:
        """Wait until one changes; its path, relative to the working folder where that is shorter."""
        from watchfiles import Change, DefaultFilter, awatch

        class Filter(DefaultFilter):
            def __call__(self, change: Change, path: str) -> bool:
                return _matters(path) and super().__call__(change, path)

        wanted, missed = Filter(), True
        changes = awatch(*self.folders, watch_filter=wanted, rust_timeout=500, yield_on_timeout=True)
        async for found in changes:
            paths = sorted(path for _, path in found)
            if not paths and missed:  # half a second is over: by now what changes is seen
                paths, missed = await asyncio.to_thread(self._missed, wanted.ignore_dirs), False
            if paths:
                return paths[0].removeprefix(f"{os.getcwd()}/")
        return ""

    def _missed(self, ignored: Sequence[str]) -> list[str]:
        """Files that were saved after they were read and before anybody watched."""
        now, found = time.time(), list[str]()
        for folder in self.folders:
            for root, inside, names in os.walk(folder):
                inside[:] = [name for name in inside if name not in ignored]
                paths = [os.path.join(root, name) for name in names if _matters(name)]
                # A file from the future would have the process start again for ever.
                found += [path for path in paths if self.read_at < os.stat(path).st_mtime <= now]
        return sorted(found)


def replace_process() -> None:
    """Become a fresh interpreter with the same command line and process id."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - our own command line


def _matters(path: str) -> bool:
    return path.endswith((".py", ".toml"))
