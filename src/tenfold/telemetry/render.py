"""One log line as text for people or as JSON. Pure: what to write is decided elsewhere."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

_EVENT_WIDTH = 34
_RESET = "\x1b[0m"
_DIM = "\x1b[2m"
_LEVELS = {
    "debug": "\x1b[36m",
    "info": "\x1b[32m",
    "warning": "\x1b[33m",
    "error": "\x1b[31m",
    "critical": "\x1b[1;31m",
}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class Line(NamedTuple):
    """What one line says; already redacted."""

    when: float
    """Seconds since the epoch, UTC."""
    level: str
    event: str
    logger: str
    fields: dict[str, Any]
    trace: str = ""
    """A traceback, or an empty string."""


def colours_wanted(tty: bool) -> bool:
    """On a terminal, unless https://no-color.org is asked for."""
    return tty and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def json_line(line: Line) -> str:
    """One JSON object and a newline. Members: time, level, event, logger, then the fields."""
    members: dict[str, Any] = {
        "time": f"{utc(int(line.when))}.{int(line.when % 1 * 1000):03d}Z",
        "level": line.level,
        "event": line.event,
        "logger": line.logger,
    }
    for key, value in line.fields.items():
        members[f"{key}_" if key in members else key] = value
    if line.trace:
        members["traceback"] = line.trace
    return json_text(members) + "\n"


def json_text(value: Any) -> str:
    """Any value as JSON in one line."""
    try:
        return msgspec.json.encode(value, enc_hook=repr).decode()
    except UnicodeEncodeError:  # a lone surrogate, from a file name or an error, is no text
        return json.dumps(value, default=repr)


@lru_cache(maxsize=16)
def utc(second: int) -> str:
    """A time as RFC 3339 writes it, up to the second; of which a log has many lines."""
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def text_line(*, colours: bool) -> Callable[[Line], str]:
    """A renderer of aligned lines: local time, level, event, fields as ``key=value``, traceback below."""
    paint = _paint if colours else _plain

    def render(line: Line) -> str:
        time = datetime.fromtimestamp(line.when).strftime("%H:%M:%S.%f")[:-3]
        level = paint(f"{line.level:<7}", _LEVELS.get(line.level, ""))
        event = _CONTROL.sub(_escape, line.event)
        pairs = " ".join(f"{paint(_word(k) + '=', _DIM)}{_word(_shown(v))}" for k, v in line.fields.items())
        head = f"{paint(time, _DIM)} {level} {event:<{_EVENT_WIDTH}} {pairs}".rstrip()
        if not line.trace:
            return head + "\n"
        below = "\n".join("    " + _CONTROL.sub(_escape, row) for row in line.trace.split("\n"))
        return f"{head}\n{below}\n"

    return render


def _paint(text: str, colour: str) -> str:
    return f"{colour}{text}{_RESET}"


def _plain(text: str, _colour: str) -> str:
    return text


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else msgspec.json.encode(value, enc_hook=repr).decode()


def _word(text: str) -> str:
    """Unquoted where that is unambiguous. Control characters never reach the terminal as such."""
    if text and not re.search(r'[\s="]', text) and not _CONTROL.search(text):
        return text
    return '"' + _CONTROL.sub(_escape, text.replace('"', '\\"')) + '"'


def _escape(match: re.Match[str]) -> str:
    return (
        f"\\x{ord(match[0]):02x}"
        if match[0] not in "\n\r\t"
        else {"\n": "\\n", "\r": "\\r", "\t": "\\t"}[match[0]]
    )
