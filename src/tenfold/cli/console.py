"""What the commands write: colours only on a terminal, errors as sentences on standard error."""

from __future__ import annotations

import linecache
import os
import re
import shutil
import sys
import sysconfig
import traceback
from pathlib import Path
from typing import TextIO

BOLD, DIM, RED, GREEN, YELLOW, CYAN = "1", "2", "31", "32", "33", "36"

LAST_MIN = 24
"""A last column that is cut keeps so many characters, however narrow the terminal is."""

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_PACKAGE = str(Path(__file__).parents[1])
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})


def coloured(stream: TextIO | None = None) -> bool:
    """Whether colours are wanted: a terminal, and nobody asked for none (https://no-color.org)."""
    tty = (stream or sys.stdout).isatty()
    return tty and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, colour: str, stream: TextIO | None = None) -> str:
    """``text`` in a colour where colours are wanted."""
    return f"\x1b[{colour}m{text}\x1b[0m" if text and coloured(stream) else text


def say(text: str = "") -> None:
    """One line on standard output, at once."""
    print(text, flush=True)


def note(text: str) -> None:
    """One line on standard error, for what is not the command's answer."""
    print(text, file=sys.stderr, flush=True)


def fail(sentence: str, code: int, *, hint: str = "") -> int:
    """Write an error and answer the exit code."""
    note(f"{paint('error', RED, sys.stderr)}: {sentence}{' ' + hint if hint else ''}")
    return code


def fail_with(error: BaseException, code: int) -> int:
    """An unforeseen error: short where it comes from the user's own code, whole otherwise, since then it is ours.

    ``python -X dev`` shows every traceback whole.
    """
    error = _innermost(error)
    place = blame(error)
    if place is None or sys.flags.dev_mode:
        note("".join(traceback.format_exception(error)).rstrip())
        return code
    return fail(f"{place}\n{paint(described(error), BOLD, sys.stderr)}", code)


def described(error: BaseException) -> str:
    """``NameError: name 'foo' is not defined``, on one line."""
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg}"
    return " ".join("".join(traceback.format_exception_only(error)).split())


def blame(error: BaseException) -> str | None:
    """The user's line that the error came from, with file and number; None when no line of theirs took part."""
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return _line(error.filename, error.lineno)
    frames = [f for f in traceback.extract_tb(error.__traceback__) if _is_users(f.filename)]
    return _line(frames[-1].filename, frames[-1].lineno or 0) if frames else None


def table(rows: list[tuple[str, ...]], *, headings: tuple[str, ...] = (), cut: bool = False) -> None:
    """Aligned columns; the last one is not padded. With ``cut`` it ends where the terminal does; a file gets all."""
    if not rows:
        return
    sized = [*rows, headings] if headings else rows
    widths = [max(_width(row[i]) for row in sized) for i in range(len(rows[0]))]
    if cut and sys.stdout.isatty():
        room = shutil.get_terminal_size().columns - sum(widths[:-1]) - 2 * (len(widths) - 1)
        widths[-1] = max(room, LAST_MIN)
        rows = [(*row[:-1], shortened(row[-1], widths[-1])) for row in rows]
    if headings:
        say(paint(_aligned(headings, widths), DIM))
    for row in rows:
        say(_aligned(row, widths))


def shortened(text: str, width: int) -> str:
    """Painted or plain, with at most so many characters to see."""
    if _width(text) <= width:
        return text
    plain = _COLOURS.sub("", text)
    return text.replace(plain, f"{plain[: width - 1].rstrip()}…") if plain in text else plain[:width]


def _aligned(row: tuple[str, ...], widths: list[int]) -> str:
    cells = (cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True))
    return "  ".join(cells).rstrip()


def _width(cell: str) -> int:
    """How many characters are seen: those that colour are not."""
    return len(_COLOURS.sub("", cell))


def _line(file: str, number: int) -> str:
    relative = os.path.relpath(file) if file.startswith(os.getcwd()) else file
    text = linecache.getline(file, number).strip()
    return f"{relative}:{number}" + (f"\n    {text}" if text else "")


def _is_users(file: str) -> bool:
    """Neither ours, nor a library's, nor the script that started us, nor without a source to show."""
    ours = file.startswith(_PACKAGE) or os.path.basename(os.path.dirname(file)) == "bin"
    return not ours and not file.startswith(_LIBRARIES) and file.endswith(".py") and os.path.isfile(file)


def _innermost(error: BaseException) -> BaseException:
    """The one error inside groups of one."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
