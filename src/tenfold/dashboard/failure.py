"""From the text of a traceback to the line that failed: the innermost one of the app's own code. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

_FRAME: Final = re.compile(r'^\s*File "(?P<file>[^"]+)", line (?P<line>\d+)(?:, in (?P<function>.+))?$')
_NOT_OURS: Final = re.compile(r"(^|/)(site-packages|dist-packages|lib/python\d|tenfold/(?!$))|^<")
_MARKS: Final = re.compile(r"^[\s^~]*$")


class Frame(NamedTuple):
    """One call in a traceback; ``at`` is the number of its first line in the text, ``after`` of the one behind it."""

    file: str
    line: int
    function: str
    code: str
    at: int
    after: int

    @property
    def own(self) -> bool:
        """Whether it is the app's code: neither a library's nor Python's."""
        return _NOT_OURS.search(self.file.replace("\\", "/")) is None


def frames(trace: str) -> Iterator[Frame]:
    """The calls of a traceback as Python prints it, outermost first."""
    lines = trace.splitlines()
    for n, line in enumerate(lines):
        found = _FRAME.match(line)
        if found is None:
            continue
        end = n + 1
        while end < len(lines) and lines[end].startswith(" ") and not _FRAME.match(lines[end]):
            end += 1
        code = next((each.strip() for each in lines[n + 1 : end] if not _MARKS.match(each)), "")
        yield Frame(found["file"], int(found["line"]), found["function"] or "", code, n, end)


def failing(trace: str) -> Frame | None:
    """Where it failed: the innermost frame of the app's own code, or the innermost of all where it has none."""
    every = list(frames(trace))
    own = [frame for frame in every if frame.own]
    return (own or every)[-1] if every else None


def parts(trace: str) -> tuple[str, str, str]:
    """The text before the failing frame, the frame, and what follows."""
    frame = failing(trace)
    if frame is None:
        return trace, "", ""
    lines = trace.splitlines(keepends=True)
    return "".join(lines[: frame.at]), "".join(lines[frame.at : frame.after]), "".join(lines[frame.after :])


def short(file: str, most: int = 3) -> str:
    """The last parts of a path: enough to know it by."""
    split = file.replace("\\", "/").split("/")
    return "/".join(split[-most:])
