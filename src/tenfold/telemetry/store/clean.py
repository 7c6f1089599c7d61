"""Redaction for the writer: what repeats from row to row (paths, statements, names of attributes) is looked at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tenfold.telemetry.redact import MASK, Redactor, is_sensitive

KNOWN_MAX: Final = 2_048
"""Texts remembered; then it begins anew."""
KNOWN_MAX_CHARS: Final = 1_500
"""Longer ones are not remembered."""
BEYOND_CHARS: Final = 500
"""Looked at beyond the cut, so that a secret that straddles it is recognized whole."""


class Cleaner:
    """For one thread. Forgets what it knows when the redactor has learned another secret."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._learned = redactor.learned
        self._known: dict[str, str] = {}
        self._sensitive: dict[str, bool] = {}

    def text(self, text: str, most: int) -> str:
        """``text`` with every secret masked, and at most so many characters of it."""
        if not text:
            return ""
        text = text[: most + BEYOND_CHARS]
        if self._learned != self._redactor.learned:
            self._learned = self._redactor.learned
            self._known.clear()
        known = self._known.get(text)
        if known is None:
            known = self._redactor.text(text)
            if len(text) <= KNOWN_MAX_CHARS:
                if len(self._known) >= KNOWN_MAX:
                    self._known.clear()
                self._known[text] = known
        return known[:most]

    def attributes(self, given: Mapping[str, Any], most: int, value_max_chars: int) -> dict[str, Any]:
        """At most so many of the attributes, plain and masked."""
        out: dict[str, Any] = {}
        for key, value in list(given.items())[:most]:
            if value is None or isinstance(value, bool):
                out[self.text(key, 200)] = value
            elif self._hides(key):
                out[self.text(key, 200)] = MASK
            elif isinstance(value, int | float):
                out[self.text(key, 200)] = value
            elif isinstance(value, str):
                out[self.text(key, 200)] = self.text(value, value_max_chars)
            else:
                out[self.text(key, 200)] = str(self._redactor.value(value))[:value_max_chars]
        return out

    def _hides(self, key: str) -> bool:
        hides = self._sensitive.get(key)
        if hides is None:
            if len(self._sensitive) >= KNOWN_MAX:
                self._sensitive.clear()
            hides = self._sensitive[key] = is_sensitive(key)
        return hides
