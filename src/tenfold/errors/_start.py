"""The root of the tree, and what is found before the first request."""

from __future__ import annotations

from typing import ClassVar


class TenfoldError(Exception):
    """Root of the tree. ``status`` is what an HTTP client sees when nobody handles the error."""

    status: ClassVar[int] = 500


class ConfigError(TenfoldError):
    """Something is wrong that can be known before the first request.

    ``where`` is the path of the setting or declaration, ``remedy`` what to do about it.
    """

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        self.what, self.where, self.remedy = what, where, remedy
        prefix = f"{where}: " if where else ""
        suffix = f" {remedy}" if remedy else ""
        super().__init__(f"{prefix}{what}{suffix}")


class UnknownSetting(ConfigError):
    """A key that nothing reads; the message names the nearest key that exists."""


class MissingExtra(ConfigError):
    """A library is not installed; the message is the ``pip install`` line that mends it."""


class DeclarationError(ConfigError):
    """An operation, job, subscriber, schedule or topic that cannot work as it is written."""


class SchemaBehind(ConfigError):
    """The database lacks migrations that the code has."""


class NotBound(TenfoldError):
    """A database, cache or topic was used before the app that owns it had started."""
