"""Which settings are secret, and how they are shown."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

import msgspec

HIDDEN = "••••••"

_PATHS = frozenset({"app.secret_key", "ops.token", "mail.url"})
_DOORS = frozenset({"alerts.page", "alerts.ticket"})
"""Settings with URLs whose path lets in whoever knows it, as those of Slack do."""
_WORDS = re.compile(
    r"(password|passwd|passphrase|secret|token|credential|private)|(^|[._])(api_?key|dsn)$|_key$"
)
_MEASURE = re.compile(r"_(s|ms|count|max|min|bytes)$")
_URL = re.compile(r"(?P<head>\w[\w+.-]*://)(?P<user>[^\s:/?#]*):(?P<password>\S*)@")
_DOOR = re.compile(r"(?P<head>://[^/\s]+/)(?P<path>\S+)")
_QUERY = re.compile(r"(?P<name>[?&][\w-]*(?:password|secret|token|key)[\w-]*=)[^&\s]+", re.IGNORECASE)


def secret(path: str) -> bool:
    """Whether the setting at ``path`` holds a secret, by its name."""
    return (
        path in _PATHS
        or path.startswith("otlp.headers.")
        or _WORDS.search(path.rpartition(".")[2]) is not None
    )


def printable(path: str, value: Any) -> str:
    """The value as people may see it: secrets hidden, and passwords in URLs wherever they stand."""
    if isinstance(value, (list, tuple, set, frozenset)):
        return f"[{', '.join(printable(path, item) for item in value)}]"
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return str(value).lower()  # as a file of settings has it
    text = str(value)
    if not text:
        return '""'
    if "://" in text:
        return hide_passwords(_DOOR.sub(rf"\g<head>{HIDDEN}", text) if path in _DOORS else text)
    return HIDDEN if secret(path) else text


def hide_passwords(text: str) -> str:
    """``text`` with the passwords of its URLs, and secret parameters of their queries, replaced."""
    hidden = _URL.sub(rf"\g<head>\g<user>:{HIDDEN}@", text)
    return _QUERY.sub(rf"\g<name>{HIDDEN}", hidden)


LEARN_MIN_CHARS = 8
"""Shorter values, and words without a digit up to twice as long, are what other texts have in them too."""


def values(settings: Any) -> list[str]:
    """What is secret in ``settings``: values of secret settings, and the passwords of URLs, as they are and unescaped.
    For redactors, so without those that are too short to be told from ordinary words."""
    found = {each for path, text in _texts(settings, "") for each in _secret_in(path, text)}
    return sorted(value for value in found if _is_distinct(value))


def _texts(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            yield from _texts(getattr(value, name), f"{path}.{name}" if path else name)
    elif isinstance(value, Mapping):
        for name, each in value.items():
            yield from _texts(each, f"{path}.{name}")
    elif isinstance(value, (list, tuple, set, frozenset)):
        for each in value:
            yield from _texts(each, path)


def _secret_in(path: str, text: str) -> Iterator[str]:
    if "://" not in text:
        if secret(path):
            yield text
        return
    if path in _DOORS and (door := _DOOR.search(text)):
        yield door["path"]
    for found in _URL.finditer(text):
        yield found["password"]
        yield unquote(found["password"])
    for query in _QUERY.finditer(text):
        value = query[0].removeprefix(query["name"])
        yield value
        yield unquote(value)


def _is_distinct(value: str) -> bool:
    if len(value) < LEARN_MIN_CHARS:
        return False
    return len(value) >= 2 * LEARN_MIN_CHARS or any(c.isdigit() for c in value)
