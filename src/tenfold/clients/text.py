"""Prose and lists, laid out for source code. Pure."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence

from tenfold.clients.model import Call

WIDTH = 88
"""What formatters of both languages leave alone."""

_LITERAL = re.compile(r"``([^`]*)``")
_ROLE = re.compile(r":\w+:`~?(?:[\w.]*\.)?([^`<]+)`")


def plain(text: str) -> str:
    """Docstrings as Markdown: roles and double backticks become single ones."""
    return _ROLE.sub(r"`\1`", _LITERAL.sub(r"`\1`", text)).strip()


def wrapped(text: str, indent: int) -> list[str]:
    """Paragraphs filled to the width; what is indented, a list or an example stays as it is."""
    lines: list[str] = []
    for paragraph in re.split(r"\n[ \t]*\n", plain(text)):
        if lines:
            lines.append("")
        if re.search(r"^(\s|[-*] |>>> |\d+\. )", paragraph, re.MULTILINE):
            lines.extend(line.rstrip() for line in paragraph.split("\n"))
        else:
            lines.extend(
                textwrap.wrap(paragraph, WIDTH - indent, break_long_words=False, break_on_hyphens=False)
            )
    return lines


def sentence(text: str) -> str:
    """The first sentence of a text."""
    return re.split(r"(?<=[.!?])\s", plain(text), maxsplit=1)[0]


def listed(names: Sequence[str]) -> str:
    """``a, b or c``."""
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def surroundings(call: Call, raises: str) -> list[str]:
    """Sentences about a call that its own text does not have: who may, what it raises, how it repeats."""
    found: list[str] = []
    if call.access and call.access != "anybody":
        found.append(f"For {call.access}.")
    if call.problems:
        found.append(f"{raises} {listed(list(dict.fromkeys(call.problems)))}.")
    return found


def exploded(head: str, parts: Sequence[str], tail: str, indent: int, *, room: int = 0, step: int = 4) -> str:
    """``head(a, b)tail`` on one line where it fits, else with one part on each line."""
    pad = " " * indent
    line = f"{pad}{head}({', '.join(parts)}){tail}"
    if len(line) + room <= WIDTH or not parts:
        return line
    return "\n".join([f"{pad}{head}(", *(f"{pad}{' ' * step}{part}," for part in parts), f"{pad}){tail}"])
