"""Redaction of what repeats from span to span and from request to request (paths, statements, names of attributes): each is
looked at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tenfold.telemetry.redact import ITEMS_MAX, MASK, TEXT_MAX_CHARS, Redactor, is_sensitive

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

    def attributes(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """What :meth:`Redactor.fields` makes of attributes of a span."""
        return {self.text(key, 200): self._value(key, given[key]) for key in list(given)[:ITEMS_MAX]}

    def plain(self, given: Mapping[str, Any], most: int, value_max_chars: int) -> dict[str, Any]:
        """At most so many of the attributes, none of them long or with parts of its own."""
        out: dict[str, Any] = {}
        for key in list(given)[:most]:
            value = self._value(key, given[key])
            simple = value is None or isinstance(value, bool | int | float)
            out[self.text(key, 200)] = value if simple else str(value)[:value_max_chars]
        return out

    def _value(self, key: str, value: Any) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if self._hides(key):
            return MASK
        return self.text(value, TEXT_MAX_CHARS) if isinstance(value, str) else self._redactor.value(value)

    def _hides(self, key: str) -> bool:
        hides = self._sensitive.get(key)
        if hides is None:
            if len(self._sensitive) >= KNOWN_MAX:
                self._sensitive.clear()
            hides = self._sensitive[key] = is_sensitive(key)
        return hides
