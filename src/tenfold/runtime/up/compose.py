"""Servers for development that run in containers: a file of Compose, up while the fleet is."""

from __future__ import annotations

import subprocess
from pathlib import Path
from shutil import which
from typing import Final

from tenfold.errors import ConfigError, TenfoldError

PROGRAM: Final = "docker"
START_S: Final = 600.0
"""Images may have to be fetched."""
STOP_S: Final = 60.0


class Compose:
    """The services of one file. Where they are, the settings say: ports and passwords are the file's.

    What an earlier supervisor left running is taken over, since Compose starts only what does not run. Raises
    :class:`ConfigError` for a file that is missing, and where Docker is not installed.
    """

    def __init__(self, file: str) -> None:
        self._file = Path(file).absolute()
        if not self._file.is_file():
            raise ConfigError(
                f"there is no file {self._file}.",
                where="companions.compose",
                remedy="Write its path as it is seen from the folder in which `tenfold up` runs.",
            )
        found = which(PROGRAM)
        if found is None:
            raise ConfigError(
                f"{PROGRAM} is not installed.",
                where="companions.compose",
                remedy="Install Docker with its Compose plugin, or let `tenfold up` start servers of this machine.",
            )
        self._program = found

    def start(self) -> str:
        """Start what does not run, and wait until all are healthy; a sentence. Blocks."""
        self._tell(START_S, "up", "--detach", "--wait")
        return f"What {self._file} lists runs in containers."

    def stop(self) -> None:
        """End them; containers and their data stay. Blocks."""
        self._tell(STOP_S, "stop")

    def _tell(self, limit_s: float, *words: str) -> None:
        what = f"docker compose {words[0]}"
        try:
            done = subprocess.run(  # noqa: S603 - the machine's own program
                [self._program, "compose", "--file", str(self._file), *words],
                capture_output=True, text=True, check=False, timeout=limit_s, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise TenfoldError(f"{what} of {self._file} did not end within {limit_s:g} s.") from None
        if done.returncode:
            said = (done.stderr or done.stdout).strip()[-1500:]
            raise TenfoldError(f"{what} of {self._file} failed: {said}")
