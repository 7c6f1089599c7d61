"""Alerts and silences in files of the data folder, so that a restart neither forgets nor tells again. One process of those
that share the folder watches, by a lock that the system takes back when it dies, and writes ``alerts.json``; the others read
it. Silences are a file of their own, since any process may change them."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from tenfold.telemetry.alerts.rules import Alert
from tenfold.telemetry.alerts.silences import Silence

T = TypeVar("T")


class State(Struct):
    """What is kept."""

    at: float = 0.0
    """When somebody last looked; 0 for never."""
    by: str = ""
    """The instance that did."""
    alerts: list[Alert] = []
    left_out: int = 0
    untold: str = ""
    """Why somebody could not be told, in a sentence; empty when all went well."""


class StateFile:
    """``alerts.json``, ``silences.json`` and their locks. Errors are OSError, also for a file that is none of ours."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "alerts.json"
        self._silences = folder / "silences.json"
        self._lock_path = folder / "alerts.lock"
        self._lock: int | None = None

    def acquire(self) -> bool:
        """Whether this process is the one that watches, from now on until :meth:`release` or its end."""
        if self._lock is not None:
            return True
        descriptor = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._lock = descriptor
        return True

    def release(self) -> None:
        """Let another process watch."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def read(self) -> State:
        """What was last written; a file that is broken counts as none."""
        return _decoded(self._path, State) or State()

    def write(self, state: State) -> None:
        """Replace the file as a whole."""
        _replace(self._path, state)

    def silences(self) -> list[Silence]:
        """Those that are kept, over or not."""
        return _decoded(self._silences, list[Silence]) or []

    def change(self, change: Callable[[list[Silence]], list[Silence]]) -> list[Silence]:
        """Change the silences, one process after the other."""
        descriptor = os.open(
            self._silences.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            changed = change(self.silences())
            _replace(self._silences, changed)
            return changed
        finally:
            os.close(descriptor)


def _decoded(path: Path, type_: type[T]) -> T | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=type_)
    except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def _replace(path: Path, value: object) -> None:
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    partial.write_bytes(msgspec.json.encode(value))
    partial.replace(path)
