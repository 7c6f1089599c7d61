"""What of a fleet outlives its supervisor: one file, and a lock that at most one supervisor has."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Final

import msgspec

from tenfold.errors import ConfigError
from tenfold.runtime.up.fleet import Fleet

FOLDER: Final = "run"
"""Below the data folder."""


class Taken(ConfigError):
    """Another supervisor runs this fleet."""


class State:
    """The folder ``<data>/run``, readable for its owner only: ``up.json``, ``up.lock``, ``up.sock``, ``log/``."""

    def __init__(self, data_dir: Path) -> None:
        self.folder = data_dir / FOLDER
        self.file = self.folder / "up.json"
        self.socket = self.folder / "up.sock"
        self.logs = self.folder / "log"
        self._saved = b""

    def lock(self) -> int:
        """Make the folder, and keep every other supervisor out for as long as the file descriptor that is returned is
        open. Raises :class:`Taken`."""
        self.logs.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        descriptor = os.open(self.folder / "up.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise Taken(
                "a fleet runs here already.",
                where=str(self.folder),
                remedy="See it with `tenfold ps`; change it with `tenfold scale` and `tenfold restart`; end it with "
                "`tenfold down`.",
            ) from None
        return descriptor

    def load(self) -> Fleet:
        """What was saved last, or an empty fleet. Raises :class:`ConfigError` for a file that is damaged: it may name
        processes that run."""
        try:
            self._saved = self.file.read_bytes()
            return msgspec.json.decode(self._saved, type=Fleet)
        except FileNotFoundError:
            return Fleet()
        except msgspec.DecodeError as error:
            raise ConfigError(
                f"it cannot be read: {error}.",
                where=str(self.file),
                remedy="End the processes `tenfold run` of this app, delete the file, and start again.",
            ) from None

    def save(self, fleet: Fleet) -> None:
        """Replace the file if anything changed: whole, or not at all."""
        text = msgspec.json.encode(fleet)
        if text == self._saved:
            return
        new = self.file.with_suffix(".new")
        new.write_bytes(text)
        new.replace(self.file)
        self._saved = text

    def clear(self) -> None:
        """Nothing runs any more."""
        self.file.unlink(missing_ok=True)
        self._saved = b""
