"""Which settings are secret, and how they are shown."""

from __future__ import annotations

import re
from typing import Any

HIDDEN = "••••••"

_PATHS = frozenset({"app.secret_key", "ops.token", "mail.url"})
_WORDS = re.compile(
    r"(password|passwd|passphrase|secret|token|credential|private)|(^|[._])(api_?key|dsn)$|_key$"
)
_URL = re.compile(r"(?P<head>\w[\w+.-]*://)(?P<user>[^\s:/?#]*):(?P<password>\S*)@")
_QUERY = re.compile(r"(?P<name>[?&][\w-]*(?:password|secret|token|key)[\w-]*=)[^&\s]+", re.IGNORECASE)


def secret(path: str) -> bool:
    """Whether the setting at ``path`` holds a secret, by its name."""
    return path in _PATHS or _WORDS.search(path.rpartition(".")[2]) is not None


def printable(path: str, value: Any) -> str:
    """The value as people may see it: secrets hidden, and passwords in URLs wherever they stand."""
    if isinstance(value, (list, tuple, set, frozenset)):
        return f"[{', '.join(printable(path, item) for item in value)}]"
    if value is None:
        return "unset"
    text = str(value)
    if not text:
        return '""'
    if "://" in text:
        return hide_passwords(text)
    return HIDDEN if secret(path) else text


def hide_passwords(text: str) -> str:
    """``text`` with the passwords of its URLs, and secret parameters of their queries, replaced."""
    hidden = _URL.sub(rf"\g<head>\g<user>:{HIDDEN}@", text)
    return _QUERY.sub(rf"\g<name>{HIDDEN}", hidden)
