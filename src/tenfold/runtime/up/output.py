"""What instances write: files that outlive the supervisor, shown line by line with the name in front."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tenfold.runtime.up.fleet import WORDS_MAX

LOG_MAX: Final = 16 * 1024 * 1024
"""Bytes after which a file is emptied: what is in it has been shown. Lines that come at this very moment are lost."""

READ_MAX: Final = 256 * 1024
"""Bytes shown at a time, so that one who writes without end does not keep the others waiting."""

LINE_MAX: Final = 64 * 1024

COLOURS: Final = ("36", "33", "32", "35", "34", "96", "93", "92", "95", "94")


class Output:
    """The file of one instance, from where it ends now on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.last: deque[str] = deque(maxlen=WORDS_MAX)
        """The last lines of the present process."""
        self._offset = path.stat().st_size if path.exists() else 0
        self._rest = b""

    def lines(self, *, end: bool = False) -> list[str]:
        """What came since the last time; with ``end``, also a line that was not ended."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                read = file.read(READ_MAX)
        except OSError:
            read = b""
        self._offset += len(read)
        *whole, self._rest = (self._rest + read).split(b"\n")
        if self._rest and (end or len(self._rest) > LINE_MAX):
            whole.append(self._rest)
            self._rest = b""
        if self._offset > LOG_MAX and len(read) < READ_MAX:
            os.truncate(self.path, 0)
            self._offset = 0
        found = [line.decode(errors="replace").rstrip("\r") for line in whole]
        self.last.extend(line for line in found if line.strip())
        return found


class Prefixed:
    """Writes lines with the name of who said them: coloured on a terminal, as a member of lines that are JSON."""

    def __init__(self, write: Callable[[str], object], *, colours: bool) -> None:
        self._write, self._colours = write, colours
        self._width = 0
        self._colour: dict[str, str] = {}

    def show(self, name: str, lines: list[str]) -> None:
        if lines:
            self._width = max(self._width, len(name))
            self._write("".join(f"{self._line(name, line)}\n" for line in lines if line.strip()))

    def _line(self, name: str, line: str) -> str:
        if not self._colours:
            if line.startswith('{"'):
                return f'{{"instance":"{name}",{line[1:]}'
            return f"{name:<{self._width}} | {line}"
        colour = self._colour.setdefault(name, COLOURS[len(self._colour) % len(COLOURS)])
        return f"\x1b[{colour}m{name:<{self._width}} |\x1b[0m {line}"
