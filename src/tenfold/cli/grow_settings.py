"""The line of the settings that a move has to change: shown, or put in place when asked for."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

from tenfold._core.secrets import hide_passwords
from tenfold.cli import console
from tenfold.errors import ConfigError

_SECTION = re.compile(r"^\s*\[\s*database\s*\]\s*(#.*)?$")
_HEADING = re.compile(r"^\s*\[")
_URL = re.compile(r"^\s*url\s*=")


def show_or_write(url: str, config: Path | None, source: str, *, write: bool) -> None:
    """Say which line makes the next start use ``url``; with ``write``, put it into the settings file.

    ``source`` is where ``database.url`` came from.
    """
    path = config or Path("tenfold.toml")
    variable = source if source.startswith("TENFOLD_") else ""
    if write and not variable:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        path.write_text(with_url(text, url, where=str(path)), encoding="utf-8")
        console.say(f"{path} has the new database.url.")
        return
    line = json.dumps(hide_passwords(url), ensure_ascii=False)
    console.say("Before the app starts again, set (with the password that you gave):")
    if variable:
        console.say(f"  {variable}={line}")
    else:
        console.say(f"  [database]\n  url = {line}        # {path}")
    if write:
        console.say(
            f"It was not written: the setting comes from {variable}, which this command cannot change."
        )


def with_url(text: str, url: str, *, where: str) -> str:
    """The TOML ``text`` with ``database.url`` set to ``url``, everything else as it was.

    Raises ConfigError when it is written in a way that this does not understand.
    """
    line = f"url = {json.dumps(url, ensure_ascii=False)}"
    lines = text.splitlines()
    section = next((at for at, one in enumerate(lines) if _SECTION.match(one)), None)
    if section is None:
        lines = [*lines, *([""] if lines else []), "[database]", line]
    else:
        end = next((at for at in range(section + 1, len(lines)) if _HEADING.match(lines[at])), len(lines))
        old = next((at for at in range(section + 1, end) if _URL.match(lines[at])), None)
        lines[section + 1 if old is None else old : section + 1 if old is None else old + 1] = [line]
    made = "\n".join(lines) + "\n"
    if not _is_right(text, made, url):
        raise ConfigError(
            "the line cannot be put in place safely.",
            where=where,
            remedy=f"Write it by hand: [database] {line}",
        )
    return made


def _is_right(before: str, after: str, url: str) -> bool:
    try:
        wanted, found = tomllib.loads(before), tomllib.loads(after)
    except tomllib.TOMLDecodeError:
        return False
    wanted.setdefault("database", {})["url"] = url
    return wanted == found
