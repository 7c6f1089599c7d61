"""Small languages that people write in code and settings (limits, objectives, conditions), read from left to right."""

from __future__ import annotations

import re
from typing import NoReturn

from tenfold.errors import ConfigError, DeclarationError


class Written:
    """A text token by token. Whatever is wrong is raised as ``error``, with the character at which it stands.

    ``token`` matches one token and the space before it, in groups that are named after its kinds, of which ``word`` and
    ``sign`` are two. ``remedy`` is said where :meth:`wrong` is given none.
    """

    def __init__(
        self,
        text: str,
        token: re.Pattern[str],
        *,
        where: str,
        error: type[ConfigError | DeclarationError],
        remedy: str,
    ) -> None:
        self._text, self._where = text, where
        self._error, self._remedy = error, remedy
        self._found = list(token.finditer(text))
        self.at = 0
        """The number of the token that is read next. It can be set back, for :meth:`wrong` to point at."""

    @property
    def ended(self) -> bool:
        return self.at >= len(self._found)

    def next(self, kind: str) -> str:
        """The next token, if it is of this kind, else an empty string. It is not passed over."""
        return "" if self.ended else self._found[self.at][kind] or ""

    def take(self, kind: str, otherwise: str) -> str:
        """The next token, which has to be of this kind: ``otherwise`` says that."""
        token = self.next(kind)
        if not token:
            self.wrong(otherwise)
        self.at += 1
        return token

    def passes(self, kind: str, token: str) -> bool:
        """Whether this very token is next, in upper or lower case; it is passed over then."""
        if self.next(kind).lower() != token:
            return False
        self.at += 1
        return True

    def wrong(self, what: str, remedy: str = "") -> NoReturn:
        """``what``, where, and what stands there instead."""
        if self.ended:
            place, met = len(self._text.rstrip()), "the end"
        else:
            token = self._found[self.at]
            met = repr(token[0].strip())
            place = token.end() - len(token[0].lstrip())
        raise self._error(
            f"{what}, at character {place + 1}: {met}.",
            where=f"{self._where} {self._text!r}",
            remedy=remedy or self._remedy,
        )
