"""Whom alerts go to, as it is written: ``mailto:ops@example.com``, ``https://example.com/hook``,
``slack+https://hooks.slack.com/services/…`` (and Mattermost, Rocket.Chat, which take the same). Pure."""

from __future__ import annotations

import re
from typing import Literal
from urllib.parse import urlsplit

from msgspec import Struct

from tenfold.errors import ConfigError

Kind = Literal["mail", "webhook", "slack"]

_MAIL = re.compile(r"[^@\s,;<>]+@[^@\s,;<>]+")
_HOW = 'Write "mailto:ops@example.com", "https://example.com/hook" or "slack+https://hooks.slack.com/services/…".'


class Target(Struct, frozen=True):
    """One place that alerts go to."""

    kind: Kind
    to: str
    """An address, or a URL."""

    @property
    def shown(self) -> str:
        """For people: without the path of a URL, which is as good as a password at most receivers."""
        return self.to if self.kind == "mail" else f"{self.kind} at {urlsplit(self.to).hostname}"


def target(text: str, where: str) -> Target:
    """The target that is written. Raises ConfigError."""
    if text.startswith("mailto:"):
        address = text.removeprefix("mailto:")
        if _MAIL.fullmatch(address):
            return Target("mail", address)
        raise ConfigError(f"{address!r} is no mail address.", where=where, remedy=_HOW)
    kind: Kind = "slack" if text.startswith("slack+") else "webhook"
    url = text.removeprefix("slack+")
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        good = False
    if not good:
        raise ConfigError("this is no target for alerts.", where=where, remedy=_HOW)
    return Target(kind, url)
